"""The model is MAE's, its checkpoints are the authors', and tuning leaves nothing behind."""

import argparse
import pickle
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from ttt_bench_ttt_mae import files
from ttt_bench_ttt_mae.checkpoints import Checkpoint, autoencoder, encoder_of, head, read, save
from ttt_bench_ttt_mae.head_adapter import classify
from ttt_bench_ttt_mae.methods.ttt_mae import (
    TTTMAEConfig,
    make_optimizer,
    put_back,
    trainable,
    tune,
    working_copy,
)
from ttt_bench_ttt_mae.model import LinearHead, MAENetwork, Sizes, Tower, ViTHead
from ttt_bench_ttt_mae.recipes import SIZES

from tests.oracles import mae as plain
from ttt_bench import UserError

HEADS = {"encoder": 4, "decoder": 4, "classifier": 4}
SGD = partial(torch.optim.SGD, lr=5e-3, momentum=0.9)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return plain.random_state(0)


@pytest.fixture(scope="module")
def model(state) -> MAENetwork:
    return autoencoder(Checkpoint(Path("state"), state, HEADS))


@pytest.fixture(scope="module")
def vit_head(state, model):
    return head(Checkpoint(Path("state"), state, HEADS), model)


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def masks(copies: int, steps: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(steps, copies, 64, generator=torch.Generator().manual_seed(seed))


def written(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def test_the_shared_image_is_embedded_once_and_counts_for_every_copy(model, image, monkeypatch):
    noise = masks(6, 1)[0]
    repeated = model.reconstruction_loss(image.expand(6, -1, -1, -1), noise)
    seen = []
    embed = model.embed
    monkeypatch.setattr(model, "embed", lambda images: (seen.append(len(images)), embed(images))[1])
    torch.testing.assert_close(model.reconstruction_loss(image, noise), repeated)
    assert seen == [1]


def test_hidden_pixels_reach_the_loss_as_targets_only(model, image):
    """The encoder sees a quarter of the patches, and the loss asks for the others."""
    noise = masks(1, 1)[0]
    order = noise[0].argsort()
    shown, hidden = order[:16], order[16:]
    pixels = image.clone().requires_grad_()
    tokens = model.encode(model.embed(pixels)[:, shown])
    (grad,) = torch.autograd.grad(tokens.square().sum(), pixels)
    touched = nn.functional.max_pool2d(grad.abs().sum(1, keepdim=True), 4).flatten() > 0
    assert touched[shown].all()
    assert not touched[hidden].any()
    # Another value of a visible patch's target would change nothing: only hidden ones are compared.
    targets = model.targets(image)
    predicted = model.decode(model.encode(model.embed(image)[:, shown]), order.argsort()[None])
    expected = (predicted - targets).square().mean(2)[0, hidden].mean()
    torch.testing.assert_close(model.reconstruction_loss(image, noise), expected)


def changed_entries(model: MAENetwork, before: dict[str, torch.Tensor]) -> set[str]:
    """Return the names of a model's entries that are not as they were."""
    return {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}


def test_tuning_changes_a_copy_of_encoder_and_mask_token_alone(model, vit_head, image):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    working = working_copy(model)
    losses, logits = tune(working, vit_head, image, masks(8, 3), SGD)
    changed = changed_entries(working, before)
    assert changed == set(trainable(model))
    assert {"cls_token", "mask_token", "patch_embed.proj.weight", "norm.bias"} <= changed
    assert not [n for n in changed if n.startswith("decoder") or n == "pos_embed"]
    assert not changed_entries(model, before)
    assert not any(p.requires_grad for p in model.parameters())
    assert losses.shape == (3,)
    assert logits.shape == (4, 10)
    assert torch.equal(logits[:1], classify(model, vit_head, image))
    assert not torch.equal(logits[-1], logits[0])


class BrokenError(Exception):
    """Stands for anything that ends a sample early."""


def masks_that_break() -> Iterator[torch.Tensor]:
    yield from masks(8, 2)
    raise BrokenError


def test_a_working_copy_is_put_back_after_an_image_and_after_an_error(model, vit_head, image):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    working = working_copy(model)
    with put_back(working, model):
        tune(working, vit_head, image, masks(8, 2), SGD)
        assert changed_entries(working, before)
    assert not changed_entries(working, before)
    with pytest.raises(BrokenError), put_back(working, model):
        tune(working, vit_head, image, masks_that_break(), SGD)
    assert not changed_entries(working, before)
    assert all(p.grad is None for p in working.parameters())


def test_a_single_step_is_the_same_with_and_without_momentum(model, vit_head, image):
    """Its optimizer keeps no momentum, and the update is the first of many all the same."""
    single, many = (make_optimizer(TTTMAEConfig(steps=steps)) for steps in (1, 20))
    assert single([torch.zeros(1)]).defaults["momentum"] == 0
    assert many([torch.zeros(1)]).defaults["momentum"] == 0.9
    noises = masks(8, 1)
    one, first = (
        tune(working_copy(model), vit_head, image, noises, make)[1] for make in (single, many)
    )
    assert torch.equal(one, first)


def test_reconstruction_improves_on_its_own_image(model, vit_head, image):
    adam_w = partial(torch.optim.AdamW, lr=1e-3)
    losses, _ = tune(working_copy(model), vit_head, image, masks(64, 20), adam_w)
    assert losses[-3:].mean() < losses[:3].mean()


def test_the_authors_files_load_by_their_keys(tmp_path, state, model, vit_head, image):
    """Theirs are dicts with `model`, the optimizer's state and the options of the command line."""
    parts = {name: value for name, value in state.items() if not name.startswith("classifier")}
    options = argparse.Namespace(model="mae_vit_small", lr=1e-3, output_dir="./output")
    rest = {"optimizer": {"state": {}}, "epoch": 3, "scaler": {}, "args": options, "heads": HEADS}
    whole = read(written(tmp_path / "mae.pth", {"model": parts, **rest}))
    probe = {name: v for name, v in state.items() if not name.startswith(("decoder", "mask"))}
    classifier = read(written(tmp_path / "prob.pth", {"model": probe, **rest}))
    ours = autoencoder(whole)
    assert all(torch.equal(value, state[name]) for name, value in ours.state_dict().items())
    assert ours.sizes == Sizes(32, 4, Tower(48, 3, 4), Tower(32, 2, 4))
    assert torch.equal(
        classify(ours, head(classifier, ours), image), classify(model, vit_head, image)
    )


def test_released_sizes_are_recognised_without_being_told():
    with torch.device("meta"):
        large = MAENetwork(SIZES["large"])
        tower = Tower(768, 12, 12)
        classifier = ViTHead(1024, 14, tower, 1000)
    state = {**large.state_dict()}
    state |= {f"classifier_{name}": value for name, value in classifier.state_dict().items()}
    checkpoint = Checkpoint(Path("x"), state)
    assert checkpoint.tower("encoder", 1024, "blocks") == Tower(1024, 24, 16)
    assert checkpoint.tower("decoder", 512, "decoder_blocks") == Tower(512, 8, 16)
    assert checkpoint.tower("classifier", 768, "classifier_blocks") == tower
    # ViT-L's published count of parameters: 304 million in the encoder, 26 in the decoder.
    count = sum(p.numel() for n, p in large.named_parameters() if n.startswith("blocks"))
    assert 300e6 < count < 304e6


def test_a_linear_head_loads_by_both_of_its_names(tmp_path, model, image):
    linear = LinearHead(48, 7).eval()
    linear.bn.running_mean.normal_()
    linear.bn.running_var.uniform_(0.5, 2)
    save(tmp_path / "linear.pth", {}, classifier=linear)
    saved = read(tmp_path / "linear.pth")
    assert set(saved.state) == {
        "head.0.running_mean",
        "head.0.running_var",
        "head.1.weight",
        "head.1.bias",
    }
    expected = classify(model, linear, image)
    assert torch.equal(classify(model, head(saved, model), image), expected)
    inside = {n: v for n, v in linear.state_dict().items() if v.is_floating_point()}
    other = read(written(tmp_path / "model.pth", {"model": inside}))
    assert torch.equal(classify(model, head(other, model), image), expected)


def test_a_fine_tuned_encoder_replaces_the_backbones(state, model):
    changed = {name: value + 1 for name, value in state.items()}
    tuned = encoder_of(Checkpoint(Path("x"), changed, HEADS), model)
    assert torch.equal(tuned.norm.bias, model.norm.bias + 1)
    assert torch.equal(tuned.decoder_norm.bias, model.decoder_norm.bias)


class Malicious:
    """Would write a file, were it unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"model": {"a": torch.zeros(1)}}, ["x.pth", "patch_embed.proj.weight"]),
        ({"state_dict": {}}, ["`model`"]),
        ([1, 2], ["`model`"]),
        (torch.zeros(3), ["`model`"]),
        ({"model": {"a": 3}}, ["`model`"]),
    ],
)
def test_other_files_are_refused(tmp_path, content, words):
    path = written(tmp_path / "x.pth", content)
    with pytest.raises(UserError) as refused:
        autoencoder(read(path))
    assert all(word in str(refused.value) for word in words)


def test_nothing_in_a_file_is_executed(tmp_path):
    bomb = {"model": {}, "extra": Malicious(tmp_path / "done")}
    torch.save(bomb, tmp_path / "x.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(bomb))
    (tmp_path / "text.pth").write_text("not a checkpoint")
    (tmp_path / "empty.pth").write_bytes(b"")
    for name in ("x.pth", "plain.pth", "text.pth", "empty.pth"):
        with pytest.raises(UserError, match="not a checkpoint of tensors"):
            read(tmp_path / name)
    assert not (tmp_path / "done").exists()
    with pytest.raises(UserError, match=r"none\.pth: there is no such file"):
        read(tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"blocks.1.mlp.fc1.bias": None}, ["holds no blocks.1.mlp.fc1.bias"]),
        ({"blocks.1.mlp.fc1.bias": torch.zeros(5)}, ["shape [5]", "[192]"]),
        ({"decoder_surprise": torch.zeros(5)}, ["decoder_surprise"]),
        ({"pos_embed": torch.zeros(1, 60, 48)}, ["60 positions"]),
        ({"mask_token": torch.zeros(32)}, ["shapes"]),
        ({"mask_token": None}, ["mask_token"]),
        ({"pos_embed": torch.zeros(1, 0, 48)}, ["0 positions"]),
        ({"pos_embed": torch.zeros(1, 1, 48)}, ["1 positions"]),
        ({"patch_embed.proj.weight": torch.zeros(48, 3, 0, 0)}, ["no model"]),
        ({"patch_embed.proj.weight": torch.zeros(48, 3, 4, 8)}, ["patch_embed.proj.weight"]),
        ({"patch_embed.proj.weight": torch.zeros(0, 3, 4, 4)}, ["no model"]),
        # A model of this width would take 800 GB.
        ({"patch_embed.proj.weight": torch.zeros(100_000, 3, 4, 4)}, ["shape"]),
        ({"blocks.999999999.norm1.weight": torch.zeros(48)}, ["blocks.3."]),
    ],
)
def test_an_autoencoder_that_does_not_fit_is_refused(state, change, words):
    changed = {n: v for n, v in {**state, **change}.items() if v is not None}
    with pytest.raises(UserError) as refused:
        autoencoder(Checkpoint(Path("x.pth"), changed, HEADS))
    assert all(word in str(refused.value) for word in ["x.pth", *words])


def test_a_head_that_does_not_fit_is_refused(state, model):
    wide = Checkpoint(
        Path("x.pth"), {**state, "classifier_embed.weight": torch.zeros(40, 50)}, HEADS
    )
    with pytest.raises(UserError, match=r"classifier_embed\.weight has shape \[40, 50\]"):
        head(wide, model)
    for shape in ((), (5,), (0, 40)):
        odd = Checkpoint(Path("x.pth"), {**state, "classifier_pred.weight": torch.zeros(shape)})
        with pytest.raises(UserError, match=r"x\.pth: "):
            head(odd, model)
    none = {n: v for n, v in state.items() if not n.startswith("classifier")}
    with pytest.raises(UserError, match="no classification head"):
        head(Checkpoint(Path("x.pth"), none, HEADS), model)
    with pytest.raises(UserError, match="how many attention heads its classifier of width 40"):
        head(Checkpoint(Path("x.pth"), state, {"classifier": 7}), model)


def test_a_published_file_comes_once_and_must_stay_the_same(tmp_path, monkeypatch, capsys):
    server = tmp_path / "server"
    server.mkdir()
    (server / "weights.pth").write_bytes(b"first")
    folder = tmp_path / "cache"
    fetch = partial(files.download, "weights.pth", folder=folder)
    with serving(server) as address:
        path = fetch(f"{address}/weights.pth")
        assert path.read_bytes() == b"first"
        assert "downloading" in capsys.readouterr().err
        (server / "weights.pth").write_bytes(b"second")
        assert fetch(f"{address}/weights.pth").read_bytes() == b"first"
        assert capsys.readouterr().err == ""
        path.write_bytes(b"changed")
        with pytest.raises(UserError, match="is not the file that was first downloaded"):
            fetch(f"{address}/weights.pth")
        with pytest.raises(UserError, match="could not be downloaded"):
            files.download("missing.pth", f"{address}/missing.pth", folder)
    with pytest.raises(UserError, match="could not be downloaded"):
        files.download("other.pth", f"{address}/other.pth", folder)


def serving(folder: Path):
    from contextlib import contextmanager
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    @contextmanager
    def running():
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    return running()
