"""The hooks: methods, backbones and commands that this package adds to ttt-bench."""

from typing import TYPE_CHECKING

from ttt_bench import AdapterSpec, BackboneSpec, GoldenSpec, hookimpl
from ttt_bench_ttt_mae.family import MAE

if TYPE_CHECKING:
    import click

PAPER = "Gandelsman et al. 2022, Test-Time Training with Masked Autoencoders (arXiv 2209.07522)"
RELEASE = "yossigandelsman/test_time_training_mae, no licence"
NEEDS = frozenset({"MaskedAutoencoder"})
GIVES = frozenset({"MaskedAutoencoder", "PatchEncoder"})

HEAD = "its head was trained on the labelled training set"
ENCODER_AND_HEAD = "encoder and head were trained on the labelled training set"
PROBES = {
    "tiny-mae": {"checkpoint": "tiny-mae-vit-probe.pth"},
    "mae:vit-large": {"checkpoint": "prob_lr1e-3_wd.2_blk12_ep20.pth"},
}
# An eighth of the copies and half of the steps cost a sixteenth; the rate follows by the paper's
# rule (1e-2 for 256 copies).
SHORTER = {"copies": 16, "steps": 10, "lr": 6.25e-4}


@hookimpl
def ttt_bench_adapters() -> list[AdapterSpec]:
    """Return TTT-MAE, and the rows of its table without test-time training."""
    return [
        AdapterSpec(
            name="vit-probe",
            summary="a head on the frozen encoder of a masked autoencoder",
            code="ttt_bench_ttt_mae.methods.vit_probe:ViTProbe",
            paper=PAPER,
            needs=NEEDS,
            family=MAE,
            presets=PROBES,
            labelled_data=HEAD,
            release=RELEASE,
        ),
        AdapterSpec(
            name="fine-tune",
            summary="encoder and head trained on labels",
            code="ttt_bench_ttt_mae.methods.fine_tune:FineTune",
            paper=PAPER,
            needs=NEEDS,
            family=MAE,
            presets={"tiny-mae": {"checkpoint": "tiny-mae-fine-tune.pth"}},
            labelled_data=ENCODER_AND_HEAD,
            release=RELEASE,
        ),
        AdapterSpec(
            name="joint-train",
            summary="encoder and head trained on labels and reconstruction",
            code="ttt_bench_ttt_mae.methods.fine_tune:JointTrain",
            paper=PAPER,
            needs=NEEDS,
            family=MAE,
            presets={"tiny-mae": {"checkpoint": "tiny-mae-joint-train.pth"}},
            labelled_data=ENCODER_AND_HEAD,
            release=RELEASE,
        ),
        AdapterSpec(
            name="ttt-mae",
            summary="reconstructs each image from masked copies, then classifies it",
            code="ttt_bench_ttt_mae.methods.ttt_mae:TTTMAE",
            paper=PAPER,
            needs=NEEDS,
            family=MAE,
            presets={**PROBES, "tiny-mae": {**PROBES["tiny-mae"], **SHORTER}},
            labelled_data=HEAD,
            trains="encoder, mask token",
            release=RELEASE,
        ),
    ]


@hookimpl
def ttt_bench_backbones() -> list[BackboneSpec]:
    """Return the embedded autoencoder, the published one, and files."""
    return [
        BackboneSpec(
            name="tiny-mae",
            summary="embedded masked autoencoder for 32x32 images, pretrained on CIFAR-10",
            code="ttt_bench_ttt_mae.backbone:TinyMAE",
            gives=GIVES,
        ),
        BackboneSpec(
            name="mae",
            argument="vit-large|FILE",
            summary="the published MAE ViT-L as mae:vit-large, or a checkpoint file of your own",
            code="ttt_bench_ttt_mae.backbone:MAEBackbone",
            gives=GIVES,
        ),
    ]


@hookimpl
def ttt_bench_goldens() -> list[GoldenSpec]:
    """Return the release's numbers of TTT-MAE."""
    return [
        GoldenSpec(
            name="ttt_mae",
            summary="8 steps of TTT-MAE by SGD and by AdamW on a tiny model",
            code="ttt_bench_ttt_mae.goldens.ttt_mae:compute",
            methods=("ttt-mae", "vit-probe"),
            file="ttt_mae.npz",
            arrays=frozenset({"mask_noise", "image", "model/mask_token"}),
        )
    ]


@hookimpl
def ttt_bench_commands(cli: "click.Group") -> None:
    """Add `ttt-bench ttt-mae pretrain` and `train`."""
    from ttt_bench_ttt_mae.commands import ttt_mae

    cli.add_command(ttt_mae)
