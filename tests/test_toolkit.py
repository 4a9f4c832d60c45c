"""Tools for authors of methods: batch-invariant products, entropies, seeded draws, checkpoints."""

import math
import re
import zipfile
from pathlib import Path

import pytest
import torch

from ttt_bench import (
    CheckpointConfig,
    GlobalGenerator,
    UserError,
    batch_invariant_matmul,
    entropy,
    file_hash,
    marginal_entropy,
    read_checkpoint,
    save_checkpoint,
    seeded,
    select_confident,
)


@pytest.mark.parametrize(("rows", "columns"), [(5, 192), (6, 10), (1, 10), (10, 64), (30, 63)])
def test_a_product_does_not_depend_on_the_other_samples(rows: int, columns: int):
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(7, rows, 64, generator=generator)
    for right in (torch.randn(7, 64, columns), torch.randn(64, columns)):
        together = batch_invariant_matmul(left, right)
        torch.testing.assert_close(together, left @ right, rtol=1e-4, atol=1e-5)
        for index in range(7):
            factor = right[index : index + 1] if right.ndim == 3 else right
            alone = batch_invariant_matmul(left[index : index + 1], factor)
            assert torch.equal(alone[0], together[index])


def test_marginal_entropy_is_the_entropy_of_the_mean_distribution():
    logits = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    p = logits.softmax(2).mean(1)
    torch.testing.assert_close(marginal_entropy(logits), -(p * p.log()).sum(1))
    torch.testing.assert_close(marginal_entropy(logits[0]), marginal_entropy(logits)[0])
    assert entropy(torch.zeros(3)).item() == pytest.approx(math.log(3))


def test_a_certain_prediction_has_no_entropy_and_no_nan():
    certain = torch.tensor([[0.0, -1e38, -1e38], [0.0, -1e38, -1e38]])
    assert marginal_entropy(certain).item() == 0
    assert entropy(certain).tolist() == [0, 0]


def test_confident_views_are_those_of_lowest_entropy():
    scales = torch.tensor([1.0, 5.0, 0.1, 9.0, 2.0, 0.5, 3.0, 0.2])
    logits = scales[None, :, None] * torch.tensor([1.0, 0.0, -1.0])
    assert select_confident(logits, 0.4).tolist() == [[3, 1, 6]]
    assert select_confident(logits[0], 0.4).tolist() == [3, 1, 6]


def test_seeded_draws_leave_the_global_generator_as_it_was():
    before = torch.get_rng_state()
    with seeded(3):
        first = torch.rand(4)
        saved = GlobalGenerator().state_dict()
        second = torch.rand(4)
        GlobalGenerator().load_state_dict(saved)
        assert torch.equal(second, torch.rand(4))
    assert torch.equal(before, torch.get_rng_state())
    with seeded(3):
        assert torch.equal(first, torch.rand(4))


def test_equal_checkpoints_have_equal_bytes_whatever_they_are_called(tmp_path: Path):
    content = {"weight": torch.arange(3.0), "about": {"epochs": 2}}
    for name in ("one.pth", "other.pt"):
        save_checkpoint(content, tmp_path / name)
    assert (tmp_path / "one.pth").read_bytes() == (tmp_path / "other.pt").read_bytes()
    assert {file.name for file in tmp_path.iterdir()} == {"one.pth", "other.pt"}
    loaded = read_checkpoint(tmp_path / "one.pth")
    assert torch.equal(loaded["weight"], content["weight"])
    assert loaded["about"] == {"epochs": 2}


def test_a_configuration_holds_the_hash_of_its_checkpoint(tmp_path: Path):
    (tmp_path / "learned.pt").write_bytes(b"learned")
    path = str(tmp_path / "learned.pt")
    config = CheckpointConfig(checkpoint=path)
    assert config.checkpoint_sha256 == file_hash(tmp_path / "learned.pt")
    # A hash that was given with it does not stand in for the file's own.
    assert CheckpointConfig(checkpoint=path, checkpoint_sha256="0") == config
    assert CheckpointConfig().checkpoint_sha256 == ""
    with pytest.raises(UserError, match=r"missing\.pt: there is no such file"):
        CheckpointConfig(checkpoint=str(tmp_path / "missing.pt"))


def test_a_plugin_names_checkpoints_of_its_own(tmp_path: Path):
    (tmp_path / "embedded.pt").write_bytes(b"learned")

    class Config(CheckpointConfig):
        @classmethod
        def locate(cls, checkpoint: str) -> Path:
            return tmp_path / checkpoint

    config = Config(checkpoint="embedded.pt")
    assert config.checkpoint == "embedded.pt"
    assert config.checkpoint_sha256 == file_hash(tmp_path / "embedded.pt")


def test_tensors_without_their_data_are_refused(tmp_path: Path):
    path = tmp_path / "odd.pth"
    refused = {
        "shape [1000000, 1000000] without its data": torch.zeros(1).expand(10**6, 10**6),
        "sparse_coo": torch.eye(3).to_sparse(),
        "meta": torch.zeros(3, device="meta"),
    }
    for reason, tensor in refused.items():
        torch.save({"state_dict": {"deep": [(tensor,)]}}, path)
        with pytest.raises(UserError, match=re.escape(reason)) as error:
            read_checkpoint(path)
        assert "\n" not in str(error.value)


def test_a_compressed_checkpoint_is_refused(tmp_path: Path):
    torch.save({"weight": torch.zeros(1_000_000)}, tmp_path / "stored.pth")
    with (
        zipfile.ZipFile(tmp_path / "stored.pth") as stored,
        zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in stored.infolist():
            packed.writestr(entry.filename, stored.read(entry))
    assert read_checkpoint(tmp_path / "stored.pth")["weight"].shape == (1_000_000,)
    with pytest.raises(UserError, match="it unpacks to 4,"):
        read_checkpoint(tmp_path / "packed.pth")


def test_a_value_that_is_contained_very_often_is_read_once(tmp_path: Path):
    nested = [torch.zeros(1)]
    for _ in range(60):
        nested = [nested, nested]
    torch.save({"nested": nested}, tmp_path / "nested.pth")
    assert len(read_checkpoint(tmp_path / "nested.pth")["nested"]) == 2
