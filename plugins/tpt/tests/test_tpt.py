"""Prompt methods: text features as open_clip's, views of a sample alone, independent samples."""

import copy
import json
import math
import os
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from ttt_bench_tpt.checkpoints import MetaNet, Prompt, load_prompt, save_prompt
from ttt_bench_tpt.methods.tpt import TPT, Start, TPTConfig, tune
from ttt_bench_tpt.text import ClassTexts, causal_text_tower, embed_words
from ttt_bench_tpt.training import PromptSchedule, choose_shots, learn

from tests.records_equal import records_equal
from ttt_bench import (
    AugMixViews,
    ClassSet,
    CropViews,
    Sample,
    SampleRNG,
    Task,
    TrainingFolder,
    TrainingRun,
    UserError,
    batch_invariant_matmul,
    load_backbone,
    load_dataset,
    marginal_entropy,
    select_confident,
)
from ttt_bench.runs.folder import RunFolder

NAMES = ["cat", "great white shark", "CD player", "school_bus"]
METHODS = ("tpt", "tpt-coop", "tpt-cocoop", "coop", "cocoop")


@pytest.fixture(scope="module")
def tiny():
    return load_backbone("tiny-clip", "cpu")


@pytest.fixture(scope="module")
def task(tiny) -> Task:
    dataset = load_dataset("cifar10-c-mini")
    return Task(tiny, dataset.classes)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    dataset = load_dataset("cifar10-c-mini")
    return [Sample(f"s{i}", dataset.open(i)) for i in range(5)]


@pytest.fixture(scope="module")
def towers() -> list:
    """open_clip's two layouts of a dual encoder, with QuickGELU and without, and layer scale."""
    torch.manual_seed(0)
    vision = {"layers": 1, "width": 64, "patch_size": 16, "image_size": 32}
    text = {"width": 48, "heads": 4, "layers": 3}
    scaled = {**text, "ls_init_value": 0.5, "proj_bias": True}
    models = [
        open_clip.CLIP(32, vision, text, quick_gelu=True),
        open_clip.model.CustomTextCLIP(32, vision, scaled),
    ]
    return [model.eval().requires_grad_(False) for model in models]


@pytest.mark.parametrize("names", [NAMES, NAMES[1:2], NAMES[:1] * 3])
@pytest.mark.parametrize("which", [0, 1])
def test_fast_text_is_open_clips_own(towers, which: int, names: list[str]):
    model, tokenizer = towers[which], open_clip.SimpleTokenizer()
    words = "a photo of a"
    start = embed_words(model, tokenizer, words)
    texts = ClassTexts(model, tokenizer, names, len(start))
    prompts = [f"{words} {name.replace('_', ' ')}." for name in names]
    expected = model.encode_text(tokenizer(prompts), normalize=True)
    torch.testing.assert_close(texts(start[None])[0], expected, rtol=1e-4, atol=1e-5)


def test_a_long_name_costs_its_own_tokens_alone(tiny):
    def flops(names: list[str]) -> int:
        texts = ClassTexts(tiny.model, tiny.tokenizer, names, 4)
        with FlopCounterMode(display=False) as counter:
            texts(torch.zeros(1, 4, texts.width))
        return counter.get_total_flops()

    short = [f"{letter} cat" for letter in "abcdefghijklmnopqrst"]
    long = "cat " * 20
    alone, together = flops([long]), flops([*short, long])
    assert alone < together < flops(short) + alone


def test_the_graph_keeps_ten_widths_of_a_token_and_layer(tiny):
    """Four for the GELU, two for the norms, four for attention; views of a projection keep more."""
    names = [f"{first} {second}" for first in "abcdefghijklmnop" for second in ("cat", "dog")]
    texts = ClassTexts(tiny.model, tiny.tokenizer, names, 4)
    weights = {part.untyped_storage().data_ptr() for part in tiny.model.parameters()}
    # Kept alive, so that no address is used twice.
    kept: dict[int, torch.Tensor] = {}

    def keep(part: torch.Tensor) -> torch.Tensor:
        kept[part.untyped_storage().data_ptr()] = part
        return part

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda part: part):
        features = texts(torch.zeros(1, 4, texts.width, requires_grad=True))
    sizes = [part.untyped_storage().nbytes() for at, part in kept.items() if at not in weights]
    assert features.requires_grad
    assert sum(sizes) < 10 * 4 * texts.suffixes.numel() * len(texts.blocks)


@pytest.mark.parametrize("which", [0, 1])
def test_text_under_autocast_is_float32_and_near(towers, which: int):
    model, tokenizer = towers[which], open_clip.SimpleTokenizer()
    texts = ClassTexts(model, tokenizer, NAMES, 4)
    context = embed_words(model, tokenizer, "a photo of a")[None].requires_grad_()
    exact = texts(context)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = texts(context)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.02)
    weights = torch.randn(exact.shape, generator=torch.Generator().manual_seed(1))
    gradients = [
        torch.autograd.grad((text * weights).sum(), context)[0] for text in (exact, rounded)
    ]
    cosine = F.cosine_similarity(*(gradient.flatten() for gradient in gradients), dim=0)
    assert cosine > 0.99


def test_gradient_of_the_context_is_the_plain_one(towers):
    # In float64, so that nothing but an error can tell the two apart.
    model, tokenizer = copy.deepcopy(towers[0]).double(), open_clip.SimpleTokenizer()
    start = embed_words(model, tokenizer, "a photo of a")
    ours, plain = (start.clone().requires_grad_() for _ in range(2))
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(len(NAMES), 32, generator=generator, dtype=torch.float64)
    (ClassTexts(model, tokenizer, NAMES, 4)(ours[None])[0] * weights).sum().backward()
    tokens = tokenizer([f"X X X X {name.replace('_', ' ')}." for name in NAMES])
    embedded = model.token_embedding(tokens)
    middle = plain.expand(len(NAMES), -1, -1)
    hidden = torch.cat([embedded[:, :1], middle, embedded[:, 5:]], 1) + model.positional_embedding
    hidden = model.ln_final(model.transformer(hidden, attn_mask=model.attn_mask))
    read = hidden[torch.arange(len(NAMES)), tokens.argmax(1)] @ model.text_projection
    (F.normalize(read, dim=1) * weights).sum().backward()
    torch.testing.assert_close(ours.grad, plain.grad, rtol=1e-9, atol=1e-12)


def scores(text: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    return 20 * batch_invariant_matmul(features, text.mT)


def test_stacked_contexts_share_nothing_not_even_rounding(tiny):
    names = load_dataset("cifar10-c-mini").classes.names
    texts = ClassTexts(tiny.model, tiny.tokenizer, [*names, "great white shark"], 4)
    generator = torch.Generator().manual_seed(0)
    contexts = 0.1 * torch.randn(5, 4, texts.width, generator=generator)
    views = F.normalize(torch.randn(5, 16, 128, generator=generator), dim=2)

    def tuned(part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        start = Start.at(contexts[part], texts)
        return tune(texts, scores, start, views[part], steps=3, lr=5e-3, share=0.25)

    together = tuned(slice(0, 5))
    for size in (1, 2):
        for at in range(0, 5, size):
            part = slice(at, min(at + size, 5))
            alone = tuned(part)
            assert torch.equal(alone[0], together[0][part])
            assert torch.equal(alone[1], together[1][part])


def test_a_reusable_start_gives_every_sample_what_its_own_would(tiny):
    texts = ClassTexts(tiny.model, tiny.tokenizer, NAMES, 4)
    context = embed_words(tiny.model, tiny.tokenizer, "a photo of a")[None]
    views = F.normalize(torch.randn(2, 16, 128, generator=torch.Generator().manual_seed(0)), dim=2)
    calls = []

    def counted(contexts: torch.Tensor) -> torch.Tensor:
        calls.append(len(contexts))
        return texts(contexts)

    kept = Start.at(context, counted, reusable=True)
    for sample in (views[:1], views[1:], views[:1]):
        ours = tune(counted, scores, kept, sample, steps=2, lr=5e-3, share=0.25)
        own = Start.at(context, texts)
        expected = tune(texts, scores, own, sample, steps=2, lr=5e-3, share=0.25)
        assert torch.equal(ours[0], expected[0])
        assert torch.equal(ours[1], expected[1])
        assert not torch.equal(ours[0], context)
    # The start once, then one forward pass for each of two steps.
    assert calls == [1, 1, 1, 1, 1, 1, 1]


def test_with_many_classes_the_start_is_made_in_setup(task: Task, samples: list[Sample]):
    def predictions(copies: int) -> tuple[TPT, list[torch.Tensor]]:
        names = tuple(f"{name} {number}" for number in range(copies) for name in task.classes.names)
        adapter = TPT(TPTConfig(views=8, selection=0.5))
        adapter.setup(Task(task.backbone, ClassSet(names)))
        rngs = [SampleRNG(0, sample.id) for sample in samples]
        return adapter, [one.logits for one in adapter.adapt(samples, rngs)]

    few, _ = predictions(1)
    many, together = predictions(20)
    assert few.start is None
    assert few.stack > 1
    assert many.stack == 1
    assert many.start is not None
    for sample, expected in zip(samples, together, strict=True):
        (alone,) = many.adapt([sample], [SampleRNG(0, sample.id)])
        assert torch.equal(alone.logits, expected)


def test_tuning_lowers_the_entropy(task: Task, tiny):
    texts = ClassTexts(tiny.model, tiny.tokenizer, task.classes.names, 4)
    start = Start.at(embed_words(tiny.model, tiny.tokenizer, "a photo of a")[None], texts)
    views = F.normalize(torch.randn(1, 20, 128, generator=torch.Generator().manual_seed(2)), dim=2)

    def logits(text: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return 5 * torch.bmm(features, text.mT)

    kept = select_confident(logits(start.text, views), 0.2)[0]
    before = marginal_entropy(logits(start.text.detach(), views[:, kept]))
    context, _ = tune(texts, logits, start, views, steps=10, lr=5e-3, share=0.2)
    assert marginal_entropy(logits(texts(context), views[:, kept])) < before


@pytest.mark.parametrize("augmix", [False, True, None])
def test_the_views_are_those_of_a_shared_view_set(task: Task, augmix: bool | None):
    method = TPT(TPT.Config(views=16, augmix=augmix))
    expected = AugMixViews(16) if augmix else CropViews(16)
    assert method.inputs(task).view_features == (expected,)


@pytest.mark.parametrize("method", METHODS)
def test_predictions_do_not_depend_on_batch_size(run_json, records_of, method: str, tmp_path: Path):
    first, second = (
        records_of(*run_json("-m", method, "--limit", 12, "--batch-size", size, "-o", str(size)))
        for size in (1, 5)
    )
    assert records_equal(first, second)
    assert (first.step_predictions is not None) == method.startswith("tpt")


def test_rows_that_used_labels_say_so(ttt):
    code, out, err = ttt("run", "-d", "cifar10-c-mini", "-m", "tpt", "-m", "coop", "--limit", 12)
    assert code == 0, err
    assert "coop†" in out
    assert "† coop: the prompt was learned on labelled training images." in out
    assert "tpt†" not in out


def test_card_holds_the_checkpoints_hash(run_json):
    (run,) = run_json("-m", "coop", "--limit", 12)
    config = RunFolder(Path(run["path"])).card().method["config"]
    assert config["checkpoint"] == "tiny-clip-coop.pt"
    assert len(config["checkpoint_sha256"]) == 64


def refused(result: tuple[int, str, str], *wanted: str) -> None:
    code, _, err = result
    assert code == 2, err
    (line,) = [line for line in err.splitlines() if line.startswith("ttt-bench: ")]
    assert all(word in line for word in wanted), line


RUN = ("run", "-d", "cifar10-c-mini", "--limit", 4, "--device", "cpu")


def test_checkpoints_that_do_not_fit_are_refused(ttt, tmp_path: Path):
    save_prompt(Prompt(torch.zeros(4, 512)), tmp_path / "wide.pt", {})
    torch.save({"state_dict": {"weights": torch.zeros(3)}}, tmp_path / "other.pt")
    torch.save({"state_dict": {"prompt_learner.ctx": torch.zeros(2, 4, 64)}}, tmp_path / "csc.pt")
    save_prompt(Prompt(torch.zeros(80, 64)), tmp_path / "long.pt", {})
    (tmp_path / "broken.pt").write_bytes(b"not a checkpoint")
    run = (*RUN, "-m", "coop", "--set")
    refused(ttt(*run, "checkpoint=wide.pt"), "wide.pt", "width 512", "64")
    refused(ttt(*run, "checkpoint=other.pt"), "other.pt", "ctx")
    refused(ttt(*run, "checkpoint=csc.pt"), "csc.pt", "[2, 4, 64]")
    refused(ttt(*run, "checkpoint=long.pt"), "80 context tokens")
    refused(ttt(*run, "checkpoint=broken.pt"), "broken.pt", "not a checkpoint")
    refused(ttt(*run, "checkpoint=nowhere.pt"), "nowhere.pt")
    refused(ttt(*run, f"checkpoint={'x' * 300}"), "File name too long")
    os.mkfifo(tmp_path / "pipe.pt")
    refused(ttt(*run, "checkpoint=pipe.pt"), "pipe.pt", "named pipe")
    (tmp_path / "endless.pt").symlink_to("/dev/zero")
    refused(ttt(*run, "checkpoint=endless.pt"), "endless.pt", "device")
    refused(ttt(*run, "checkpoint=''"), "train-coop")
    refused(ttt(*run, "checkpoint=tiny-clip-cocoop.pt"), "cocoop")
    refused(ttt(*RUN, "-m", "cocoop", "--set", "checkpoint=tiny-clip-coop.pt"), "meta_net")
    refused(ttt(*RUN, "-m", "tpt", "--set", "views=5"), "keeps none")


def test_a_checkpoint_runs_no_code(tmp_path: Path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"state_dict": {"ctx": torch.zeros(4, 64)}, "trap": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(UserError, match="not a checkpoint of tensors"):
        load_prompt(str(tmp_path / "trap.pt"), False, torch.device("cpu"))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"linear1.weight": torch.zeros(())},
        {"linear1.weight": torch.zeros(100_000, 0)},
        {"linear1.bias": torch.zeros(3)},
        {"linear2.weight": torch.zeros(10**9, 0)},
        {"linear2.bias": torch.zeros(1, 64)},
    ],
)
def test_a_meta_network_that_does_not_fit_together_is_refused(tmp_path: Path, change: dict):
    weights = MetaNet(128, 8, 64).state_dict() | change
    state = {"ctx": torch.zeros(4, 64)} | {f"meta_net.{n}": v for n, v in weights.items()}
    torch.save({"state_dict": state}, tmp_path / "odd.pt")
    with pytest.raises(UserError, match="do not fit together"):
        load_prompt(str(tmp_path / "odd.pt"), True, torch.device("cpu"))


def test_a_class_name_too_long_is_refused(ttt, tmp_path: Path):
    folder = tmp_path / "photos" / "long"
    folder.mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(folder / "1.png")
    (tmp_path / "photos" / "classnames.txt").write_text("long " + "very " * 80 + "long name")
    run = ("run", "-d", "imagefolder:photos", "-b", "tiny-clip", "-m", "tpt")
    refused(ttt(*run), "does not fit", "the text tower takes 77")


def test_another_kind_of_text_tower_is_refused():
    model = torch.nn.Module()
    with pytest.raises(UserError, match="causal text transformer"):
        causal_text_tower(model)


def test_dassl_and_tpt_checkpoints_load(tmp_path: Path):
    """CoOp's and CoCoOp's own files have more in them; TPT's have a bare `ctx`."""
    torch.manual_seed(0)
    context, meta_net = torch.randn(4, 64), MetaNet(128, 8, 64)
    prompt = {
        "prompt_learner.ctx": context.half(),
        "prompt_learner.token_prefix": torch.zeros(10, 1, 64),
        "prompt_learner.token_suffix": torch.zeros(10, 72, 64),
    }
    learned = {f"prompt_learner.meta_net.{n}": v for n, v in meta_net.state_dict().items()}
    torch.save({"state_dict": prompt, "epoch": 50}, tmp_path / "coop.pth.tar")
    torch.save({"state_dict": prompt | learned}, tmp_path / "cocoop.pth.tar")
    torch.save({"ctx": context}, tmp_path / "tpt.pth")
    cpu = torch.device("cpu")
    assert torch.equal(load_prompt(str(tmp_path / "tpt.pth"), False, cpu).context, context)
    loaded = load_prompt(str(tmp_path / "coop.pth.tar"), False, cpu)
    assert torch.equal(loaded.context, context.half().float())
    conditional = load_prompt(str(tmp_path / "cocoop.pth.tar"), True, cpu)
    features = torch.randn(3, 128)
    shift = meta_net.linear2(meta_net.linear1(features).relu())
    expected = context.half().float() + shift[:, None]
    torch.testing.assert_close(conditional.conditioned_on(features), expected)


@pytest.mark.parametrize("conditional", [False, True])
def test_training_moves_the_context_by_its_seed_alone(tiny, conditional: bool, tmp_path: Path):
    dataset = load_dataset("cifar10-c-mini")

    def trained(name: str, seed: int) -> tuple[Prompt, list[float]]:
        schedule = PromptSchedule(conditional=conditional, shots=2, epochs=4, seed=seed)
        run = TrainingRun(
            schedule=schedule,
            folder=TrainingFolder(tmp_path / name, {"seed": seed}),
            device=tiny.device,
            workers=0,
            report=lambda line: None,
        )
        prompt = learn(dataset, tiny, run)
        lines = (run.folder.path / "log.jsonl").read_text().splitlines()
        return prompt, [json.loads(line)["loss"] for line in lines]

    state = torch.get_rng_state()
    first, losses = trained("first", 0)
    (again, _), (other, _) = trained("again", 0), trained("other", 1)
    assert len(losses) == 4
    assert all(math.isfinite(loss) for loss in losses)
    assert not torch.equal(first.context, embed_words(tiny.model, tiny.tokenizer, "a photo of a"))
    assert torch.equal(first.context, again.context)
    assert not torch.equal(first.context, other.context)
    assert torch.equal(state, torch.get_rng_state())


def test_shots_are_of_every_class_and_of_the_training_images():
    dataset = load_dataset("cifar10-c-mini")
    chosen = choose_shots(dataset, 16, 0)
    assert len(set(chosen)) == 160
    labels = [dataset.training[index].label for index in chosen]
    assert all(labels.count(label) == 16 for label in range(10))
    test = {dataset.open(i).tobytes() for i in range(200)}
    assert not test & {dataset.open_training(index).tobytes() for index in chosen}
    with pytest.raises(UserError, match="--shots 32 or fewer"):
        choose_shots(dataset, 33, 0)


@pytest.mark.parametrize("command", ["train-coop", "train-cocoop"])
def test_a_stopped_training_ends_as_an_undisturbed_one(
    ttt, monkeypatch: pytest.MonkeyPatch, command: str
):
    arguments = ("tpt", command, "-d", "cifar10-c-mini", "--shots", 1, "--epochs", 3)
    assert ttt(*arguments, "-o", "whole.pt")[0] == 0
    save = TrainingFolder.save

    def stop(self, state):
        save(self, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingFolder, "save", stop)
    assert ttt(*arguments, "-o", "parts.pt")[0] == 130
    monkeypatch.setattr(TrainingFolder, "save", save)
    assert not Path("parts.pt").exists()
    code, _, err = ttt(*arguments, "-o", "parts.pt", "--seed", 1)
    assert (code, "seed=0, not 1" in err) == (2, True)
    code, _, err = ttt(*arguments, "-o", "parts.pt")
    assert code == 0, err
    assert "continuing after 1 of 3 epochs" in err
    assert Path("parts.pt").read_bytes() == Path("whole.pt").read_bytes()
    assert not list(Path().glob("*.training"))


def test_train_command(ttt, tmp_path: Path):
    options = ("-d", "cifar10-c-mini", "--shots", 1, "--epochs", 2, "-o", "mine.pt")
    code, _, err = ttt("tpt", "train-coop", *options)
    assert code == 0, err
    assert "epoch 2/2" in err
    assert ttt(*RUN, "-m", "coop", "-m", "tpt-coop", "--set", "checkpoint=mine.pt")[0] == 0
    Image.new("RGB", (32, 32)).save(tmp_path / "x.png")
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "x.png").rename(tmp_path / "photos" / "cat" / "x.png")
    refused(
        ttt("tpt", "train-coop", "-d", "imagefolder:photos", "-b", "tiny-clip", "-o", "m.pt"),
        "no training images",
    )
