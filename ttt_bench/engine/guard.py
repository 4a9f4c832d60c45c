"""BackboneGuard: notices whether a method has changed the shared backbone."""

from typing import Any

from torch import Tensor, nn


class BackboneGuard:
    """A quick check that a model is as it was: tensors, modules, hooks, training mode.

    It reads counters that PyTorch keeps, so it costs next to nothing. What is written through
    `.data` goes past those counters; the hash of the weights after a run finds that.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        # Held, so that nothing new can take an old one's identity.
        self._held = [*model.modules(), *_tensors(model)]
        self._before = self._state()

    def unchanged(self) -> bool:
        """Say whether the model is as it was when the guard was made."""
        return self._state() == self._before

    def _state(self) -> list[tuple[Any, ...]]:
        modules = [
            (
                id(module),
                module.training,
                len(module._forward_hooks),
                len(module._forward_pre_hooks),
            )
            for module in self.model.modules()
        ]
        return modules + [
            (id(tensor), tensor.data_ptr(), None if tensor.is_inference() else tensor._version)
            for tensor in _tensors(self.model)
        ]


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
