"""The self-supervised APM: asked in any order, folded as plain, at any resolution."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from ttt_bench_apm.position_code import axis_code
from ttt_bench_apm.self_supervised.checkpoints import load_field, save_field
from ttt_bench_apm.self_supervised.images import square, to_unit_range
from ttt_bench_apm.self_supervised.interpolation import interpolate
from ttt_bench_apm.self_supervised.locations import from_fractions, lattice, position_code
from ttt_bench_apm.self_supervised.network import FieldSizes, PerceptionField, ask
from ttt_bench_apm.self_supervised.targets import (
    average_colours,
    colours_at,
    features_at,
    random_locations,
)
from ttt_bench_apm.self_supervised.training import losses, optimizer_of

from tests.oracles import apm_ssl as plain
from ttt_bench import UserError

SIZES = [
    FieldSizes(grid=4, patch=3, channels=1, code=16, widths=(24, 32, 20), features=12, colour=8),
    FieldSizes(grid=6, patch=2, channels=3, code=24, widths=(40,), features=8, colour=16),
]


def network_of(sizes: FieldSizes, seed: int) -> PerceptionField:
    network = PerceptionField(sizes).requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.normal_(0, 0.3, generator=generator)
    return network


def images(sizes: FieldSizes, count: int, seed: int = 9) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, sizes.image, sizes.image, generator=generator)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_folded_is_plain(sizes: FieldSizes, seed: int):
    network, batch = network_of(sizes, seed), images(sizes, 2)
    state, grid = dict(network.named_parameters()), lattice(sizes.grid, sizes.grid)
    features, colours = plain.whole_grid(state, batch, sizes.grid)
    trigger = network.trigger(batch)
    field = network.field(trigger, grid)
    torch.testing.assert_close(field, features)
    torch.testing.assert_close(network.rgb(trigger, grid, field), colours)
    assert colours.max() > 0
    between = list(interpolate(network, batch[0], batch[1], 3, grid))
    features, colours = plain.interpolated(state, batch[:1], batch[1:], 3, sizes.grid)
    torch.testing.assert_close(torch.stack([p.features for p in between]), features)
    torch.testing.assert_close(torch.stack([p.rgb for p in between]), colours)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_training_is_the_plain_networks(sizes: FieldSizes):
    network, batch = network_of(sizes, 3).requires_grad_(True), images(sizes, 2)
    state = {name: value.detach().clone() for name, value in network.named_parameters()}
    generator = torch.Generator().manual_seed(4)
    targets = torch.randn(2, sizes.grid**2, sizes.features, generator=generator)
    expected = plain.train(state, batch, targets, sizes.grid, 5)
    optimizer, grid = optimizer_of(network, 1e-4), lattice(sizes.grid, sizes.grid)
    colours = average_colours(batch, sizes.patch)
    for wanted in expected:
        optimizer.zero_grad()
        feature, rgb = losses(network, batch, grid, targets, colours)
        (feature + rgb).backward()
        optimizer.step()
        found = torch.stack([feature + rgb, feature, rgb]).detach()
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def tiny() -> PerceptionField:
    return load_field().network


def test_any_order_and_any_chunk_gives_the_same_field(tiny: PerceptionField):
    """One location at a time, seven, or all; row by row or shuffled; alone or in company."""
    photograph = images(tiny.sizes, 1)
    trigger = tiny.trigger(photograph)[0]
    grid = lattice(tiny.sizes.grid, 20)
    whole = ask(tiny, trigger, grid, chunk=len(grid))
    scale = whole.features.abs().max()
    order = torch.randperm(len(grid), generator=torch.Generator().manual_seed(0))
    back = order.argsort()
    for chunk in (1, 7, len(grid)):
        shuffled = ask(tiny, trigger, grid[order], chunk)
        assert (shuffled.features[back] - whole.features).abs().max() < 1e-6 * scale
        assert (shuffled.rgb[back] - whole.rgb).abs().max() < 1e-6 * whole.rgb.max()
    few = ask(tiny, trigger, grid[[37, 5]])
    assert (few.features - whole.features[[37, 5]]).abs().max() < 1e-6 * scale


def test_the_released_sizes_in_any_chunk():
    sizes = FieldSizes()
    network = PerceptionField(sizes).requires_grad_(False)
    trigger = network.trigger(images(sizes, 1))[0]
    some = lattice(sizes.grid, sizes.grid)[::73]
    whole = ask(network, trigger, some)
    back = ask(network, trigger, some.flip(0), chunk=1).features.flip(0)
    assert (back - whole.features).abs().max() < 1e-6 * whole.features.abs().max()


def test_locations():
    assert torch.equal(lattice(4, 4), torch.cartesian_prod(*[torch.arange(4.0)] * 2))
    # Half as many points stand between two cells, twice as many a quarter aside of one.
    assert lattice(4, 2)[:, 1].tolist() == [0.5, 2.5, 0.5, 2.5]
    assert lattice(4, 8)[:2, 1].tolist() == [-0.25, 0.25]
    assert from_fractions(4, torch.tensor([[0.0, 1.0]])).tolist() == [[-0.5, 3.5]]
    torch.testing.assert_close(position_code(torch.arange(5.0), 8), axis_code(5, 8))


def test_targets_are_the_grids_and_linear_between():
    patches = torch.randn(2, 4, 4, 3, generator=torch.Generator().manual_seed(0))
    # The network's grid has eight cells: a patch's centre lies between two.
    at_centres = features_at(patches, 8, lattice(8, 4))
    torch.testing.assert_close(at_centres, patches.flatten(1, 2))
    between = features_at(patches, 8, torch.tensor([[0.5, 1.5]]))
    torch.testing.assert_close(between[:, 0], (patches[:, 0, 0] + patches[:, 0, 1]) / 2)
    photographs = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    cells = average_colours(photographs, 2)
    torch.testing.assert_close(colours_at(photographs, 2, lattice(4, 4)), cells)
    torch.testing.assert_close(cells[:, 5], photographs[:, :, 2:4, 2:4].mean((2, 3)))
    moved = colours_at(photographs, 2, torch.tensor([[1.5, 0.0]]))[:, 0]
    torch.testing.assert_close(moved, photographs[:, :, 3:5, 0:2].mean((2, 3)))


def test_random_locations_are_half_centres():
    drawn = random_locations(8, 4, 9, torch.Generator().manual_seed(0))
    assert drawn.shape == (9, 2)
    centres = {tuple(point) for point in lattice(8, 4).tolist()}
    assert [tuple(point) in centres for point in drawn.tolist()] == [True] * 4 + [False] * 5
    assert drawn.min() >= -0.5
    assert drawn.max() <= 7.5


def test_input_is_scaled_by_its_own_range():
    photograph = Image.new("RGB", (30, 20), (10, 60, 110))
    photograph.paste((210, 10, 10), (0, 0, 15, 20))
    pixels = square(photograph, 20)
    # The centre, of the size it has.
    assert torch.equal(pixels[:, 3, 9:11].T, torch.tensor([[210, 10, 10], [10, 60, 110]]))
    scaled = to_unit_range(pixels[None])
    assert (scaled.min(), scaled.max()) == (0, 1)
    torch.testing.assert_close(scaled[0], (pixels.float() - 10) / 200)
    assert to_unit_range(torch.full((1, 3, 4, 4), 7)).abs().max() == 0


def test_the_authors_checkpoint_loads_by_its_own_names(tmp_path: Path):
    """A bare state dict, in half the released sizes: sizes follow from the shapes."""
    sizes = FieldSizes(grid=4, patch=14, code=16, widths=(8, 12, 12, 10, 6), features=5, colour=7)
    network = network_of(sizes, 1)
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save({**state, "temperature": torch.ones(1)}, tmp_path / "model_15.pth")
    loaded = load_field(tmp_path / "model_15.pth")
    assert loaded.network.sizes == sizes
    assert loaded.unused == ("temperature",)
    trigger = network.trigger(images(sizes, 1))[0]
    asked = lattice(4, 3)
    assert torch.equal(
        ask(loaded.network, trigger, asked).features, ask(network, trigger, asked).features
    )


def test_own_checkpoints_keep_sizes_and_origin(tmp_path: Path):
    network = network_of(SIZES[1], 1)
    mean = torch.ones(3, 3, SIZES[1].features)
    save_field(tmp_path / "m.pth", network, {"teacher": "tiny-clip"}, mean)
    loaded = load_field(tmp_path / "m.pth")
    grid = lattice(SIZES[1].grid, 5)
    some = torch.rand(25, SIZES[1].features)
    torch.testing.assert_close(loaded.less_mean(some, grid), some - 1)
    assert loaded.network.sizes == SIZES[1]
    assert loaded.about == {"teacher": "tiny-clip"}
    assert loaded.unused == ()


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ({"a": torch.zeros(2)}, "no checkpoint of a self-supervised APM"),
        ({"model": 3}, "no state dict"),
        (
            {**network_of(SIZES[0], 1).state_dict(), "rgb_head_2.bias": torch.zeros(3)},
            r"rgb_head_2.bias is \[3\] where \[8\]",
        ),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: dict, wanted: str):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UserError, match=wanted):
        load_field(tmp_path / "x.pth")


def test_the_embedded_network_reconstructs_what_it_never_saw(tiny: PerceptionField):
    """Held-out test images of the embedded set: its decoded colours are theirs."""
    from ttt_bench.datasets.cifar10_c_mini import Cifar10CMini

    dataset = Cifar10CMini("", None)
    clean = [place for place, entry in enumerate(dataset.entries) if entry.group == "clean"][:40]
    batch = to_unit_range(torch.stack([square(dataset.open(place), 32) for place in clean]))
    grid = lattice(tiny.sizes.grid, tiny.sizes.grid)
    trigger = tiny.trigger(batch)
    rgb = tiny.rgb(trigger, grid, tiny.field(trigger, grid))
    wanted = average_colours(batch, tiny.sizes.patch)
    assert F.mse_loss(rgb, wanted) < 0.25 * (wanted - wanted.mean(0)).square().mean()
    assert sum(p.numel() for p in tiny.parameters()) < 4_000_000
