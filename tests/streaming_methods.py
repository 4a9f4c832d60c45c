"""Online methods for tests, and a worker that has them in another process."""

from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from pydantic import Field
from torch import nn

from tests.worker_specs import worker_spec
from ttt_bench import Adapter, AdapterConfig, AdapterSpec, Prediction, registered
from ttt_bench.engine import stream
from ttt_bench.engine.worker import MethodWorkerSpec

SPEC = worker_spec("drifting", batch_size=16, config={"batch_size": 8})


class OnlineConfig(AdapterConfig):
    batch_size: int = Field(8, ge=1)


class Drifting(Adapter[OnlineConfig]):
    """Trains a small network along the stream, with an optimizer, draws and a memory."""

    Config = OnlineConfig

    def setup(self, task):
        super().setup(task)
        width = task.backbone.feature_dim
        self.net = nn.Linear(width, width)
        with torch.no_grad():
            self.net.weight.copy_(torch.eye(width))
            self.net.bias.zero_()
        self.optimizer = torch.optim.Adam(self.net.parameters(), 0.003)
        self.draws = torch.Generator().manual_seed(7)
        self.memory = []
        self.batches = 0

    def adapt(self, samples, rngs):
        features = self.task.encode_image(samples)
        noise = 0.1 * torch.randn(features.shape, generator=self.draws)
        scores = self.task.logits(self.net(features + noise))
        self.optimizer.zero_grad()
        torch.distributions.Categorical(logits=scores).entropy().mean().backward()
        self.optimizer.step()
        self.memory = [*self.memory, *features][-4:]
        self.batches += 1
        with torch.no_grad():
            centred = self.net(features) - 0.1 * torch.stack(self.memory).mean(0)
            return [Prediction(self.task.logits(one)) for one in centred]

    def samples_kept(self):
        return 4


class Forgetting(Drifting):
    """Saves less than its state."""

    def state(self):
        return {name: value for name, value in super().state().items() if name != "draws"}


class Unsaveable(Drifting):
    """Keeps an iterator."""

    def setup(self, task):
        super().setup(task)
        self.places = iter(range(10**9))


SPECS = [
    AdapterSpec(
        name=name, summary="", code=f"tests.streaming_methods:{code}", kind="stream"
    )
    for name, code in (
        ("drifting", "Drifting"), ("forgetting", "Forgetting"), ("unsaveable", "Unsaveable"),
    )
]  # fmt: skip


# For as long as a process lives.
REGISTERED = ExitStack()


def always_save_states() -> None:
    """Save the state after every chunk, whatever it costs."""
    stream.SHARE = 1e9


@dataclass(frozen=True)
class ElsewhereSpec:
    """A worker's spec that registers the methods in the process where it is built."""

    inner: MethodWorkerSpec

    @property
    def method(self) -> str:
        return self.inner.method

    @property
    def device(self) -> str:
        return self.inner.device

    @property
    def loaders(self) -> int:
        return self.inner.loaders

    def on_device(self, device: str) -> "ElsewhereSpec":
        return replace(self, inner=self.inner.on_device(device))

    def with_loaders(self, number: int) -> "ElsewhereSpec":
        return replace(self, inner=self.inner.with_loaders(number))

    def build(self, left_over=None):
        if left_over is None:
            REGISTERED.enter_context(registered(adapters=SPECS))
            always_save_states()
        return self.inner.build(left_over)
