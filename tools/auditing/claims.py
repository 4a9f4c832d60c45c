"""The claims that the audit tests."""

from dataclasses import dataclass

from tools.auditing.averages import Averages
from tools.auditing.comparing import Question
from tools.auditing.comparisons import Comparisons
from tools.auditing.fronts import Fronts
from tools.auditing.orders import Orders


@dataclass(frozen=True)
class Claim:
    """A claim, where it stands, and what tests it here.

    Attributes:
        name: the name of its file in `audit`, of its results and of its page.
        title: the claim in a sentence.
        source: where it stands: paper, table, cell.
        about: how it is tested here, and what the test cannot say.
        part: what the runs are made into.
        elsewhere: the command that tests it as its paper does, with the data and weights, "" where
            nothing else is needed.
        needs: what that command needs.
        results: the names of the exported files with its runs; one of the claim's name where empty.
    """

    name: str
    title: str
    source: str
    about: tuple[str, ...]
    part: Comparisons | Orders | Averages | Fronts
    elsewhere: str = ""
    needs: str = ""
    results: tuple[str, ...] = ()

    @property
    def files(self) -> list[str]:
        """The exported files with its runs, relative to the repository."""
        return [f"audit/results/{name}.zip" for name in self.results or (self.name,)]

    @property
    def has_runs(self) -> bool:
        """Whether anything is run here for the claim."""
        return not isinstance(self.part, Averages)


TINY = (
    "The models are small and trained here: tiny-clip and tiny-mae on CIFAR-10's training images, "
    "tiny-resnet likewise. Nothing follows for large models."
)

VIEWS = (
    "All rows have the same 64 views. Random crops of 32 pixels lose much of what a class is read "
    "from, so whatever predicts from views is worse here than on photographs."
)

CLAIMS = (
    Claim(
        name="apm-teacher",
        title="APM's last step beats its teacher",
        source="Modi and Rawat 2024 (arXiv 2410.20535): on ImageNet-C at severity 5 the printed "
        "average of APM is 50.3 % and that of CLIP ViT-L/14 42.1 %; on ImageNet-A with ViT-B/16 "
        "52.1 % and 47.8 %.",
        about=(
            "The released script never resets Adam's moments and its schedule of the learning "
            "rate, adds gradients up over the steps of an image, and hands the label to the "
            "model. The first two are rows of their own, `apm-kept-moments` (an online method in "
            "the stream of each corruption) and `apm-added-gradients`, methods of the audit that "
            "no table of this repository has. Stopping by the label is computed from the records: "
            "a sample is right if the prediction after any step was. It peeks and is no result.",
            "On the photographs APM has its released sizes, and EfficientNet-Lite0 with its "
            "ImageNet weights is the teacher: 8 corruptions of 48 photographs at severity 3, two "
            "of each of ImageNet-C's four kinds, chosen before the runs. An image takes 23 s of a "
            "core there, so that there is one seed. On the embedded set the teacher is tiny-clip, "
            "and APM has the preset that was chosen on validation images.",
        ),
        part=Comparisons(
            (
                Question(
                    "the last step beats the teacher, photographs at the released sizes",
                    "apm on photographs",
                    "source on photographs",
                    5,
                ),
                Question(
                    "the last step beats the teacher, embedded set", "apm", "clip-zero-shot", 3
                ),
                Question(
                    "choosing the step by the label adds, photographs",
                    "apm on photographs",
                    "apm on photographs",
                    8,
                    any_step=True,
                    decides=False,
                ),
                Question(
                    "choosing the step by the label adds, embedded set",
                    "apm",
                    "apm",
                    6,
                    any_step=True,
                    decides=False,
                ),
                Question(
                    "kept moments and schedule add to APM",
                    "apm-kept-moments",
                    "apm",
                    10,
                    decides=False,
                ),
                Question(
                    "kept moments alone add to APM",
                    "apm-kept-moments without the schedule",
                    "apm",
                    5,
                    decides=False,
                ),
                Question(
                    "gradients added up add to APM", "apm-added-gradients", "apm", 5, decides=False
                ),
            )
        ),
        elsewhere="ttt-bench run --method clip-zero-shot --method apm --dataset imagenet-c "
        "--backbone open_clip:ViT-L-14/laion2b_s32b_b82k",
        needs="ImageNet-C, the weights of OpenCLIP ViT-L/14, and a GPU",
        results=("apm-teacher", "photographs"),
    ),
    Claim(
        name="tpt-views",
        title="TPT beats averaging its own views, and its own confident views",
        source="Shu et al. 2022 (arXiv 2209.07511), where TPT is compared with averaged "
        "predictions; as printed by Modi and Rawat 2024, TPT has 54.7 % on ImageNet-A and CLIP "
        "ViT-B/16 47.8 %.",
        about=(
            "TPT's confident tenth of the views is that of `confident-mean`. TPT predicts the "
            "plain image, which the averages do not: what it gains over them may be the plain "
            "image alone, so `clip-zero-shot` is the third comparison.",
            VIEWS,
            TINY,
        ),
        part=Comparisons(
            (
                Question("TPT beats the mean of its views", "tpt", "view-mean", 18),
                Question("TPT beats the mean of its confident views", "tpt", "confident-mean", 16),
                Question("TPT beats the plain image", "tpt", "clip-zero-shot", 4),
            )
        ),
        elsewhere="ttt-bench run --method clip-zero-shot --method view-mean --method "
        "confident-mean --method tpt --dataset imagenet-a --backbone open_clip:ViT-B-16/openai",
        needs="ImageNet-A, the weights of CLIP ViT-B/16, and a GPU",
    ),
    Claim(
        name="zero-mta",
        title="ZERO and MTA beat TPT at less cost",
        source="Farina et al. 2024 (ZERO, arXiv 2405.18330) and Zanella and Ben Ayed 2024 (MTA, "
        "arXiv 2405.02266). Second-hand, as other papers print it: ZERO 59.6 % and TPT 54.8 % on "
        "ImageNet-A with CLIP ViT-B/16.",
        about=(
            VIEWS,
            "The cost of the views is in each row: what ZERO and MTA save is TPT's backward pass, "
            "which is small where there are few classes. TPT predicts the plain image.",
            TINY,
        ),
        part=Comparisons(
            (
                Question("ZERO beats TPT", "zero", "tpt", 15),
                Question("MTA beats TPT", "mta", "tpt", 10),
            )
        ),
        elsewhere="ttt-bench run --method tpt --method zero --method mta --dataset imagenet-a "
        "--backbone open_clip:ViT-B-16/openai",
        needs="ImageNet-A, the weights of CLIP ViT-B/16, and a GPU",
    ),
    Claim(
        name="ttt-mae-probe",
        title="TTT-MAE beats its probe",
        source="Gandelsman et al. 2022 (arXiv 2209.07522); as printed by Modi and Rawat 2024, the "
        "averages on ImageNet-C at severity 5 are 44.4 % and 29.2 %.",
        about=(
            "tiny-mae is a masked autoencoder of 32-pixel images with a head trained on its frozen "
            "features, as the paper's probe. The configuration is the paper's but for the "
            "preset of tiny-mae. Twelve other forms were tried on held-out training images and "
            "none gained (README of plugins/ttt_mae).",
            TINY,
        ),
        part=Comparisons((Question("TTT-MAE beats its probe", "ttt-mae", "vit-probe", 2.6),)),
        elsewhere="ttt-bench run --method vit-probe --method ttt-mae --dataset imagenet-c "
        "--backbone mae:vit-large",
        needs="ImageNet-C, the authors' checkpoints, and a GPU",
    ),
    Claim(
        name="batch-statistics",
        title="Batch statistics help under corruption, and hurt with labels in runs or at batch 1",
        source="Schneider et al. 2020 (arXiv 2006.16971) and Wang et al. 2021 (TENT, arXiv "
        "2006.10726) for the gain; Boudiaf et al. 2022 (LAME, arXiv 2201.05718) and Yuan et al. "
        "2023 (RoTTA, arXiv 2303.13899) for the loss. The claims are the papers' text; no cell of "
        "their tables is at hand.",
        about=(
            "Batches have 64 images. Labels come in runs by a Dirichlet order with concentration "
            "0.1 over all corruptions mixed. At batch 1 the first 480 images are enough for a "
            "difference of that size. TENT has its release's rate for CIFAR-10-C.",
            TINY,
        ),
        part=Comparisons(
            (
                Question(
                    "batch statistics help on one corruption", "norm by corruption", "source", 34
                ),
                Question("TENT helps on one corruption", "tent by corruption", "source", 34),
                Question(
                    "batch statistics hurt with labels in runs",
                    "source",
                    "norm with labels in runs",
                    32,
                ),
                Question(
                    "TENT hurts with labels in runs", "source", "tent with labels in runs", 32
                ),
                Question(
                    "batch statistics hurt at batch 1", "source, 480 images", "norm at batch 1", 46
                ),
                Question("TENT hurts at batch 1", "source, 480 images", "tent at batch 1", 47),
            )
        ),
        elsewhere="ttt-bench run --method source --method norm --method tent --dataset imagenet-c",
        needs="ImageNet-C, and the weights of a ResNet-50",
    ),
    Claim(
        name="stable-online",
        title="SAR and RoTTA stay stable where TENT collapses",
        source="Niu et al. 2023 (SAR, arXiv 2302.12400) and Yuan et al. 2023 (RoTTA, arXiv "
        "2303.13899). The claims are the papers' text; no cell of their tables is at hand.",
        about=(
            "SAR's paper is about networks with GroupNorm or LayerNorm at batch 1. tiny-resnet "
            "has BatchNorm, whose statistics of one image fail whatever is learned, so SAR is "
            "tested here outside its best case. TENT and SAR have the rate of the configurations "
            "for CIFAR-10-C, RoTTA its release's values.",
            TINY,
        ),
        part=Comparisons(
            (
                Question(
                    "TENT falls below the source, labels in runs",
                    "source",
                    "tent with labels in runs",
                    32,
                ),
                Question(
                    "SAR beats TENT, labels in runs",
                    "sar with labels in runs",
                    "tent with labels in runs",
                    2,
                ),
                Question(
                    "RoTTA beats TENT, labels in runs",
                    "rotta with labels in runs",
                    "tent with labels in runs",
                    35,
                ),
                Question(
                    "SAR stays above the source, labels in runs",
                    "sar with labels in runs",
                    "source",
                    32,
                ),
                Question(
                    "RoTTA stays above the source, labels in runs",
                    "rotta with labels in runs",
                    "source",
                    17,
                ),
                Question(
                    "TENT falls below the source, batch 1",
                    "source, 480 images",
                    "tent at batch 1",
                    47,
                ),
                Question("SAR beats TENT, batch 1", "sar at batch 1", "tent at batch 1", 2),
                Question("RoTTA beats TENT, batch 1", "rotta at batch 1", "tent at batch 1", 53),
                Question(
                    "RoTTA stays above the source, batch 1",
                    "rotta at batch 1",
                    "source, 480 images",
                    17,
                ),
            )
        ),
        elsewhere="ttt-bench run --method source --method tent --method sar --method rotta "
        "--dataset imagenet-c --stream mixed --correlation 0.1",
        needs="ImageNet-C, and the weights of a ResNet-50",
    ),
    Claim(
        name="tda-dmn",
        title="TDA and DMN gain without values chosen for each test set",
        source="Karmanov et al. 2024 (TDA, arXiv 2403.18293) and Zhang et al. 2024 (DMN, arXiv "
        "2403.17589). Second-hand, as other papers print it: TDA 60.1 % and CLIP ViT-B/16 47.9 % "
        "on ImageNet-A, with alpha and beta chosen for the set.",
        about=(
            "Both have their one default for every set, the protocol's prompt, and three orders of "
            "the stream. Each is compared with the plain image, and with the mean of the confident "
            "views from which its features come.",
            VIEWS,
            TINY,
        ),
        part=Comparisons(
            (
                Question("TDA beats the plain image", "tda", "clip-zero-shot", 18),
                Question("TDA beats the confident views", "tda", "confident-mean", 2),
                Question("DMN beats the plain image", "dmn", "clip-zero-shot", 14),
                Question("DMN beats the confident views", "dmn", "confident-mean", 4),
            )
        ),
        elsewhere="ttt-bench run --method clip-zero-shot --method confident-mean --method tda "
        "--method dmn --dataset imagenet-a --backbone open_clip:ViT-B-16/openai",
        needs="ImageNet-A, the weights of CLIP ViT-B/16, and a GPU",
    ),
    Claim(
        name="order",
        title="Episodic methods do not depend on the order of the images",
        source="Every paper of an episodic method says that it is reset for each image. Releases "
        "that keep an optimizer, a GradScaler or a random generator from image to image do not "
        "reset it.",
        about=(
            "Each method of kind `sample` runs on 200 images of one corruption in the dataset's "
            "order and in the reverse one. The methods are this repository's; a release's script "
            "is not run here.",
        ),
        part=Orders("apm-leaking"),
    ),
    Claim(
        name="imagenet-c-average",
        title="The published averages of ImageNet-C are those of their cells",
        source="Modi and Rawat 2024, the table of ImageNet-C at severity 5: every row's printed "
        "average.",
        about=(
            "Nothing is run: the mean of the 15 printed cells is compared with the printed "
            "average. The claim's file measures the two rows of CLIP ViT-L/14.",
        ),
        part=Averages("apm-paper", "imagenet-c", "apm", "clip-zero-shot"),
        elsewhere="ttt-bench run --config audit/imagenet-c-average.yaml",
        needs="ImageNet-C, the weights of OpenCLIP ViT-L/14, and a GPU",
    ),
    Claim(
        name="pareto",
        title="More computing at test time buys accuracy",
        source="No paper says it of all methods; each table of accuracies without a cost implies "
        "it.",
        about=(
            "GFLOPs of a sample are counted: those of the frozen model and of what is adapted, "
            "forward and backward. A method off the front has another that is as cheap and at "
            "least as accurate on the same images. Methods that were built for streams with many "
            "more images, or for larger models, may stand elsewhere there.",
            TINY,
        ),
        part=Fronts(),
        results=("tiny-clip", "tiny-resnet", "tiny-mae", "photographs"),
    ),
)
