"""Published weights: from the cache without a network, and refused at once where nobody answers."""

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import open_clip
import pytest
import safetensors.torch
import timm
import torch
from huggingface_hub import constants as hub

from tests.http_server import serve
from ttt_bench import UserError, load_backbone, seeded
from ttt_bench.toolkit import network
from ttt_bench.toolkit.network import SECONDS, no_network, why_silent


@pytest.fixture
def closed() -> str:
    """An address of this machine at which nobody listens."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """An address at which connections are accepted and requests never answered."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(params=["closed", "silent"])
def unreachable(request: pytest.FixtureRequest, monkeypatch, tmp_path: Path) -> str:
    """A hub that does not answer, and an empty cache."""
    address = request.getfixturevalue(request.param)
    monkeypatch.setattr(hub, "ENDPOINT", address)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return address


@pytest.mark.parametrize("name", ["timm:resnet18.a1_in1k", "open_clip:RN50/openai"])
def test_weights_are_refused_within_ten_seconds(name: str, unreachable: str, monkeypatch):
    assert SECONDS <= 5
    # A busy machine takes its time to build a model; nothing else may wait.
    monkeypatch.setattr(network, "SECONDS", 0.5)
    started = time.perf_counter()
    with pytest.raises(UserError, match=r"does not answer.*--weights") as refused:
        load_backbone(name, "cpu")
    assert time.perf_counter() - started < 10
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


def test_weights_at_an_address_of_their_own_are_refused_too(
    closed: str, monkeypatch, tmp_path: Path
):
    monkeypatch.setenv("HOME", str(tmp_path))
    published = {"url": f"{closed}/RN50.pt", "quick_gelu": True}
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: published)
    with pytest.raises(UserError, match="does not answer"):
        load_backbone("open_clip:RN50/openai", "cpu")


def test_cached_weights_need_no_network(unreachable: str, tmp_path: Path):
    with seeded(0):
        model = timm.create_model("test_vit")
    repository = tmp_path / "hub" / "models--timm--test_vit.r160_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    file = repository / "snapshots" / ("0" * 40) / "model.safetensors"
    safetensors.torch.save_file(model.state_dict(), file)
    backbone = load_backbone("timm:test_vit.r160_in1k", "cpu")
    expected = model.state_dict()
    assert all(
        torch.equal(expected[name], value) for name, value in backbone.model.state_dict().items()
    )


def test_an_error_is_an_answer_and_silence_is_none(closed: str, silent: str, monkeypatch):
    with serve() as site:
        assert why_silent(f"{site.url}/no-such-file") == ""
    monkeypatch.setattr(network, "SECONDS", 0.1)
    assert "refused" in why_silent(closed)
    assert why_silent(silent) == "timed out"
    assert why_silent("no address")


def test_the_network_is_back_afterwards():
    before = socket.getaddrinfo
    with no_network():
        assert hub.is_offline_mode()
        with pytest.raises(OSError, match="there is no network"):
            socket.create_connection(("127.0.0.1", 1))
    assert not hub.is_offline_mode()
    assert socket.getaddrinfo is before
