"""Costs are counted right: against a model whose FLOPs are known, and on made-up loads."""

import open_clip
import pytest
import torch

from ttt_bench.api import cost


@pytest.fixture(scope="module")
def image_tower() -> torch.nn.Module:
    return open_clip.create_model("ViT-B-16", pretrained=None).visual.eval()


def test_vit_b16_forward_without_gradients(image_tower):
    """35.127 GFLOP: the fused inference path, which counts as zero, is off while counting."""
    fast = torch.backends.mha.get_fastpath_enabled()
    with cost.Counter() as counter, torch.no_grad():
        image_tower(torch.zeros(1, 3, 224, 224))
    assert counter.flops["adapted"]["forward"] / 1e9 == pytest.approx(35.127, abs=1e-3)
    assert counter.flops["adapted"]["backward"] == 0
    assert torch.backends.mha.get_fastpath_enabled() == fast


def test_vit_b16_forward_and_backward(image_tower):
    with cost.Counter() as counter, cost.phase("frozen"):
        image_tower(torch.zeros(1, 3, 224, 224)).sum().backward()
    flops = counter.flops["frozen"]
    assert flops["forward"] / 1e9 == pytest.approx(35.127, abs=1e-3)
    assert sum(flops.values()) / 1e9 == pytest.approx(105.865, abs=1e-3)
    image_tower.zero_grad(set_to_none=True)


def test_phases_are_kept_apart():
    square = torch.ones(10, 10, requires_grad=True)
    with cost.Counter() as counter:
        with cost.phase("frozen"), torch.no_grad():
            square @ square
        (square @ square).sum().backward()
    assert counter.flops["frozen"] == {"forward": 2000}
    assert counter.flops["adapted"] == {"forward": 2000, "backward": 4000}


def test_a_product_with_a_vector_counts_as_one_with_a_column():
    matrix, vector = torch.ones(10, 20), torch.ones(20)
    with cost.Counter() as counter:
        assert torch.equal(matrix @ vector, (matrix @ vector[:, None])[:, 0])
    assert counter.flops["adapted"] == {"forward": 2 * 2 * 10 * 20}


def test_peak_memory_counts_what_lives_at_once():
    megabyte = torch.zeros(250_000)
    with cost.Counter() as counter:
        first = megabyte + 1
        second = first + 1
        del first
        view = second.view(500, 500).T
        second.mul_(2)
        third = second + 1
        del third
    assert counter.peak_bytes == 2_000_000
    assert counter.live_bytes == 1_000_000
    assert view.numel() == second.numel()


def test_parameters_updated_are_those_an_optimizer_stepped():
    trained, frozen = torch.nn.Linear(10, 3), torch.nn.Linear(3, 5)
    optimizer = torch.optim.SGD([*trained.parameters(), *frozen.parameters()], lr=0.1)
    frozen.requires_grad_(False)
    with cost.Counter() as counter:
        for _ in range(3):
            optimizer.zero_grad()
            frozen(trained(torch.ones(2, 10))).sum().backward()
            optimizer.step()
    assert sum(counter.parameters.values()) == 33
