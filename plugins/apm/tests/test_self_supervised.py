"""The self-supervised APM: the folded network is the plain one, queried in any order and number."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from ttt_bench_apm.self_supervised.checkpoints import load_field, save_field
from ttt_bench_apm.self_supervised.images import square, to_unit_range
from ttt_bench_apm.self_supervised.interpolation import interpolate
from ttt_bench_apm.self_supervised.locations import from_fractions, lattice
from ttt_bench_apm.self_supervised.network import FieldSizes, PerceptionField, query
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


def random_network(sizes: FieldSizes, seed: int) -> PerceptionField:
    network = PerceptionField(sizes).requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.normal_(0, 0.3, generator=generator)
    return network


def random_images(sizes: FieldSizes, count: int, seed: int = 9) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, sizes.image, sizes.image, generator=generator)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_folded_network_is_the_plain_one(sizes: FieldSizes, seed: int):
    network, batch = random_network(sizes, seed), random_images(sizes, 2)
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
def test_training_steps_are_the_plain_networks(sizes: FieldSizes):
    network, batch = random_network(sizes, 3).requires_grad_(True), random_images(sizes, 2)
    state = {name: value.detach().clone() for name, value in network.named_parameters()}
    generator = torch.Generator().manual_seed(4)
    targets = torch.randn(2, sizes.grid**2, sizes.features, generator=generator)
    expected = plain.train(state, batch, targets, sizes.grid, 5)
    optimizer, grid = optimizer_of(network, 1e-4), lattice(sizes.grid, sizes.grid)
    colours = average_colours(batch, sizes.patch)
    for plain_losses in expected:
        optimizer.zero_grad()
        feature, rgb = losses(network, batch, grid, targets, colours)
        (feature + rgb).backward()
        optimizer.step()
        step_losses = torch.stack([feature + rgb, feature, rgb]).detach()
        torch.testing.assert_close(step_losses, plain_losses, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def tiny() -> PerceptionField:
    return load_field().network


def test_any_order_and_any_chunk_gives_the_same_field(tiny: PerceptionField):
    """One location at a time, seven, or all; row by row or shuffled; few or many."""
    photograph = random_images(tiny.sizes, 1)
    trigger = tiny.trigger(photograph)[0]
    grid = lattice(tiny.sizes.grid, 20)
    whole = query(tiny, trigger, grid, chunk=len(grid))
    scale = whole.features.abs().max()
    order = torch.randperm(len(grid), generator=torch.Generator().manual_seed(0))
    back = order.argsort()
    for chunk in (1, 7, len(grid)):
        shuffled = query(tiny, trigger, grid[order], chunk)
        assert (shuffled.features[back] - whole.features).abs().max() < 1e-6 * scale
        assert (shuffled.rgb[back] - whole.rgb).abs().max() < 1e-6 * whole.rgb.max()
    few = query(tiny, trigger, grid[[37, 5]])
    assert (few.features - whole.features[[37, 5]]).abs().max() < 1e-6 * scale


def test_the_released_network_gives_the_same_field_in_any_chunk():
    sizes = FieldSizes()
    network = PerceptionField(sizes).requires_grad_(False)
    trigger = network.trigger(random_images(sizes, 1))[0]
    locations = lattice(sizes.grid, sizes.grid)[::73]
    whole = query(network, trigger, locations)
    reverse = query(network, trigger, locations.flip(0), chunk=1).features.flip(0)
    assert (reverse - whole.features).abs().max() < 1e-6 * whole.features.abs().max()


def test_a_lattice_is_spread_evenly_over_the_image():
    assert torch.equal(lattice(4, 4), torch.cartesian_prod(*[torch.arange(4.0)] * 2))
    # Half as many points lie between two cells, twice as many a quarter off a cell's centre.
    assert lattice(4, 2)[:, 1].tolist() == [0.5, 2.5, 0.5, 2.5]
    assert lattice(4, 8)[:2, 1].tolist() == [-0.25, 0.25]
    assert from_fractions(4, torch.tensor([[0.0, 1.0]])).tolist() == [[-0.5, 3.5]]


def test_targets_are_the_grids_and_linear_in_between():
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


def test_half_of_the_random_locations_are_patch_centres():
    drawn = random_locations(8, 4, 9, torch.Generator().manual_seed(0))
    assert drawn.shape == (9, 2)
    centres = {tuple(point) for point in lattice(8, 4).tolist()}
    assert [tuple(point) in centres for point in drawn.tolist()] == [True] * 4 + [False] * 5
    assert drawn.min() >= -0.5
    assert drawn.max() <= 7.5


def test_an_image_is_scaled_by_its_own_range():
    photograph = Image.new("RGB", (30, 20), (10, 60, 110))
    photograph.paste((210, 10, 10), (0, 0, 15, 20))
    pixels = square(photograph, 20)
    # The photograph is 20 pixels high: its centre, not resized.
    assert torch.equal(pixels[:, 3, 9:11].T, torch.tensor([[210, 10, 10], [10, 60, 110]]))
    scaled = to_unit_range(pixels[None])
    assert (scaled.min(), scaled.max()) == (0, 1)
    torch.testing.assert_close(scaled[0], (pixels.float() - 10) / 200)
    assert to_unit_range(torch.full((1, 3, 4, 4), 7)).abs().max() == 0


def test_the_authors_checkpoint_loads_by_its_own_names(tmp_path: Path):
    """A bare state dict, in half the released sizes: sizes follow from the shapes."""
    sizes = FieldSizes(grid=4, patch=14, code=16, widths=(8, 12, 12, 10, 6), features=5, colour=7)
    network = random_network(sizes, 1)
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save({**state, "temperature": torch.ones(1)}, tmp_path / "model_15.pth")
    loaded = load_field(tmp_path / "model_15.pth")
    assert loaded.network.sizes == sizes
    assert loaded.unused == ("temperature",)
    trigger = network.trigger(random_images(sizes, 1))[0]
    locations = lattice(4, 3)
    assert torch.equal(
        query(loaded.network, trigger, locations).features,
        query(network, trigger, locations).features,
    )


def test_a_saved_checkpoint_keeps_sizes_mean_field_and_origin(tmp_path: Path):
    network = random_network(SIZES[1], 1)
    mean = torch.ones(3, 3, SIZES[1].features)
    save_field(tmp_path / "m.pth", network, {"teacher": "tiny-clip"}, mean)
    loaded = load_field(tmp_path / "m.pth")
    grid = lattice(SIZES[1].grid, 5)
    features = torch.rand(25, SIZES[1].features)
    subtracted = loaded.subtract_mean_field(features, grid)
    torch.testing.assert_close(subtracted, features - 1)
    assert loaded.network.sizes == SIZES[1]
    assert loaded.about == {"teacher": "tiny-clip"}
    assert loaded.unused == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.zeros(2)}, "no checkpoint of a self-supervised APM"),
        ({"model": 3}, "no state dict"),
        (
            {**random_network(SIZES[0], 1).state_dict(), "rgb_head_2.bias": torch.zeros(3)},
            r"rgb_head_2.bias is \[3\], expected \[8\]",
        ),
        ({"model": {}, "sizes": {"grid": 4}}, "no checkpoint of a self-supervised APM"),
        ({"model": {}, "sizes": {"widths": [3], "depth": 1}}, "no checkpoint of a self-supervised"),
        ({"model": {}, "sizes": {"widths": [-3]}}, "no checkpoint of a self-supervised APM"),
        ({"model": {}, "sizes": {"widths": [10**9], "grid": 10**3}}, "conv1.weight is missing"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: dict, message: str):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UserError, match=message):
        load_field(tmp_path / "x.pth")


def test_the_embedded_network_reconstructs_what_it_never_saw(tiny: PerceptionField):
    """On test images its decoded colours are nearer than each image's mean colour."""
    from ttt_bench.datasets.cifar10_c_mini import Cifar10CMini

    dataset = Cifar10CMini("", None)
    clean = [index for index, entry in enumerate(dataset.entries) if entry.group == "clean"][:40]
    batch = to_unit_range(torch.stack([square(dataset.open(index), 32) for index in clean]))
    grid = lattice(tiny.sizes.grid, tiny.sizes.grid)
    trigger = tiny.trigger(batch)
    rgb = tiny.rgb(trigger, grid, tiny.field(trigger, grid))
    target = average_colours(batch, tiny.sizes.patch)
    assert F.mse_loss(rgb, target) < 0.25 * (target - target.mean(0)).square().mean()
    assert sum(p.numel() for p in tiny.parameters()) < 4_000_000
