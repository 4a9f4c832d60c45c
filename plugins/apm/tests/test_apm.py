"""APM's test-time training: the folded network is the plain one, stacked samples share nothing."""

import pytest
import torch
from pydantic import ValidationError
from ttt_bench_apm.goldens.apm_ttt import stacked
from ttt_bench_apm.methods.apm import APM, APMConfig, fit
from ttt_bench_apm.methods.apm_network import Network, Sizes
from ttt_bench_apm.position_code import position_code

from tests.oracles.apm import PlainAPM, sine_code, train_step
from ttt_bench import Sample, SampleRNG, Task, UserError, load_backbone
from ttt_bench.datasets.cifar10_c_mini import Cifar10CMini
from ttt_bench.registry import registry
from ttt_bench.runner.settings import resolve_config

CPU = torch.device("cpu")


def plain_network(sizes: Sizes, seed: int, copies: int = 1) -> PlainAPM:
    network = PlainAPM(
        sizes.grid,
        sizes.patch,
        sizes.widths,
        sizes.features,
        heads=sizes.heads or 1,
        pooling="attention" if sizes.heads else "mean",
        copies=copies,
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.1, generator=generator)
    return network


def random_inputs(sizes: Sizes, samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    side = sizes.grid * sizes.patch
    images = torch.randn(samples, 3, side, side, generator=generator)
    return images, torch.randn(samples, sizes.features, generator=generator)


SIZES = [
    Sizes(grid=4, patch=14, widths=(96, 64, 32), features=48, heads=8),
    Sizes(grid=8, patch=4, widths=(32, 32, 16), features=64, heads=4),
    Sizes(grid=6, patch=2, widths=(20, 30, 10), features=12, heads=3),
    Sizes(grid=4, patch=3, widths=(16, 16, 16), features=32, heads=0),
]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_folded_network_is_the_plain_one(sizes: Sizes):
    """The pooled feature, the field and the gradients are the same."""
    network, oracle = Network(sizes, CPU), plain_network(sizes, seed=1)
    weights = stacked(dict(oracle.named_parameters()))
    image, target = random_inputs(sizes, 1)
    torch.testing.assert_close(network.field(weights, image), oracle.field(image))
    pooled, expected = network(weights, image), oracle(image)
    torch.testing.assert_close(pooled, expected)
    (pooled - target).square().mean().backward()
    (expected - target).square().mean().backward()
    gradients = {name: p.grad for name, p in oracle.named_parameters() if p.grad is not None}
    for name, gradient in stacked(gradients).items():
        torch.testing.assert_close(weights[name].grad, gradient.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sizes", [SIZES[0], SIZES[3]], ids=str)
def test_fitting_is_the_plain_networks_training(sizes: Sizes):
    oracle = plain_network(sizes, seed=2)
    weights = stacked(dict(oracle.named_parameters()))
    image, target = random_inputs(sizes, 1)
    config = APMConfig(steps=5, lr=1e-3)
    trajectory = fit(Network(sizes, CPU), weights, image, target, config)
    optimizer = torch.optim.Adam(oracle.parameters(), lr=1e-3)
    expected = []
    for _ in range(5):
        expected.append(oracle(image).detach()[0])
        train_step(oracle, optimizer, image, target)
    expected.append(oracle(image).detach()[0])
    torch.testing.assert_close(trajectory[0], torch.stack(expected), rtol=1e-3, atol=1e-4)


def test_copies_of_the_image_in_the_plain_network_change_nothing():
    sizes = SIZES[0]
    one, eight = plain_network(sizes, seed=3), plain_network(sizes, seed=3, copies=8)
    image, target = random_inputs(sizes, 1)
    optimizers = [torch.optim.Adam(network.parameters(), lr=1e-3) for network in (one, eight)]
    for _ in range(3):
        for network, optimizer in zip((one, eight), optimizers, strict=True):
            train_step(network, optimizer, image, target)
    torch.testing.assert_close(one(image)[0], eight(image)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "sizes",
    [
        Sizes(grid=8, patch=4, widths=(128, 128, 64), features=128, heads=8),
        Sizes(grid=4, patch=14, widths=(128, 64, 32), features=64, heads=8),
        Sizes(grid=8, patch=4, widths=(64, 64, 64), features=64, heads=0),
    ],
    ids=str,
)
def test_stacked_samples_share_nothing_not_even_rounding(sizes: Sizes):
    network = Network(sizes, CPU)
    images, targets = random_inputs(sizes, 7)
    config = APMConfig(steps=6, lr=1e-3)

    def fitted(part: slice) -> torch.Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in range(7)[part]]
        weights = network.draw(generators, 0.01)
        return fit(network, weights, images[part], targets[part], config)

    together = fitted(slice(0, 7))
    for size in (1, 2, 3):
        parts = [fitted(slice(start, start + size)) for start in range(0, 7, size)]
        assert torch.equal(torch.cat(parts), together)


def test_a_locations_code_is_that_of_its_column_and_its_row():
    code = position_code(torch.arange(5), 8)
    row, column = 3, 2
    expected = sine_code(16, 5, 5)[row * 5 + column]
    torch.testing.assert_close(torch.cat([code[column], code[row]]), expected)


def test_a_code_of_odd_size_is_refused():
    with pytest.raises(ValueError, match="even"):
        position_code(torch.arange(4), 3)


def test_drawn_weights_are_normal_and_depend_on_the_samples_generator_alone():
    sizes = SIZES[0]
    network = Network(sizes, CPU)
    rngs = [SampleRNG(0, sample) for sample in ("a", "b")]
    weights = network.draw([rng.torch("weights") for rng in rngs], 0.01)
    alone = network.draw([rngs[1].torch("weights")], 0.01)
    for name, shape in sizes.shapes().items():
        assert weights[name].shape == (2, *shape)
        assert torch.equal(weights[name][1], alone[name][0])
        assert not torch.equal(weights[name][0], weights[name][1])
    values = torch.cat([weight.detach().flatten() for weight in weights.values()])
    assert values.std().item() == pytest.approx(0.01, rel=0.05)
    assert abs(values.mean().item()) < 1e-3


@pytest.fixture(scope="module")
def task() -> Task:
    dataset = Cifar10CMini("", None)
    backbone = load_backbone("tiny-clip", "cpu")
    return Task(backbone, dataset.classes)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    dataset = Cifar10CMini("", None)
    return [Sample(str(i), dataset.open(i)) for i in range(5)]


def test_more_steps_bring_the_logits_nearer_to_the_backbones(task: Task, samples: list[Sample]):
    adapter = APM(APMConfig(**tiny_config(steps=60, lr=1e-3)))
    adapter.setup(task)
    rngs = [SampleRNG(0, sample.id) for sample in samples]
    predictions = adapter.adapt(samples, rngs)
    backbone_logits = task.logits(task.encode_image(samples))
    for prediction, logits in zip(predictions, backbone_logits, strict=True):
        assert prediction.step_logits is not None
        distances = (prediction.step_logits - logits).abs().mean(dim=1)
        assert prediction.step_logits.shape == (60, 10)
        assert distances[-1] < 0.5 * distances[0]
        assert torch.equal(prediction.step_logits[-1], prediction.logits)


def test_adapting_a_sample_again_gives_the_same_prediction(task: Task, samples: list[Sample]):
    adapter = APM(APMConfig(**tiny_config()))
    adapter.setup(task)
    rngs = [SampleRNG(0, sample.id) for sample in samples]
    first = adapter.adapt(samples[:1], rngs[:1])
    adapter.adapt(samples[1:], rngs[1:])
    again = adapter.adapt(samples[:1], rngs[:1])
    assert torch.equal(first[0].logits, again[0].logits)


def tiny_config(**overrides: object) -> dict:
    return resolve_config(registry().adapters["apm"].spec, "tiny-clip", "", overrides)


def test_released_values_are_the_defaults():
    config = APMConfig()
    assert (config.steps, config.lr, config.init_std) == (20, 1e-4, 0.01)
    assert (config.image_size, config.grid, config.heads) == (448, 32, 8)
    assert (config.widths, config.pooling) == ((4096, 2048, 1024), "attention")
    sizes = Sizes(32, 14, config.widths, 768, 8)
    # The release's parameters but for the key bias, which cancels in the softmax.
    released = sum(p.numel() for p in PlainAPM(32, 14, config.widths, 768).parameters())
    folded = sum(torch.Size(shape).numel() for shape in sizes.shapes().values())
    assert folded == released - 768


@pytest.mark.parametrize("values", [{"steps": 0}, {"lr": -1}, {"widths": (1, 2)}, {"depth": 3}])
def test_a_configuration_that_cannot_be_is_refused(values: dict):
    with pytest.raises(ValidationError):
        APMConfig(**values)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"grid": 5}, "grid=5 is odd"),
        ({"features": 18}, "size 18, which is not a multiple of 4"),
        ({"features": 20}, "heads=8"),
    ],
)
def test_sizes_without_a_network_are_refused(sizes: dict, message: str):
    with pytest.raises(UserError, match=message):
        Sizes(**{"grid": 4, "patch": 2, "widths": (8, 8, 8), "features": 16, "heads": 8, **sizes})


def test_an_image_size_that_is_no_multiple_of_the_grid_is_refused(task: Task):
    with pytest.raises(UserError, match="image_size=33 is not a multiple of grid=8"):
        APM(APMConfig(image_size=33, grid=8)).setup(task)
