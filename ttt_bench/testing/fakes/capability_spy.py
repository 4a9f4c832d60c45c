"""CapabilitySpy: which capabilities of a backbone a method uses, and which way."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from ttt_bench.api import backbone as api
from ttt_bench.api.backbone import Backbone, Classifier, DualEncoder, MaskedAutoencoder
from ttt_bench.testing.attempt import failing
from ttt_bench.testing.fakes.spy import spy_on

Capability = type[Backbone]


class CapabilitySpy:
    """A backbone that records the use of its capabilities, and of its network's modules.

    Attributes:
        backbone: what to give a method.
        used_directly: the capabilities that the method itself uses, and the first name that shows
            it.
        used_internally: the capabilities that the backbone's own functions use for it.
        network_taken: whether the method took the network, whose use cannot be seen in full.
    """

    def __init__(self, backbone: Backbone, capabilities: Iterable[Capability]) -> None:
        """Watch a backbone.

        Args:
            backbone: the one to watch.
            capabilities: the classes to tell apart; those that the backbone is not are left out.
        """
        self.used_directly: dict[Capability, str] = {}
        self.used_internally: set[Capability] = set()
        self.network_taken = False
        self._listening = False
        self._inside = 0
        given = [kind for kind in capabilities if isinstance(backbone, kind)]
        given.sort(key=lambda kind: len(kind.__mro__))
        self._names = {name: kind for kind in given for name in names_of(kind)}
        self._modules = _modules_of(backbone, given)
        self.backbone = spy_on(backbone, self._on_read)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Record what happens inside the `with` block."""
        hook = register_module_forward_pre_hook(self._on_forward)
        self._listening = True
        try:
            yield
        finally:
            self._listening = False
            hook.remove()

    def has_modules(self, capability: Capability) -> bool:
        """Say whether the network has modules that only this capability runs."""
        return any(kind is capability for kind, _ in self._modules.values())

    def _on_read(self, name: str, value: Any) -> Any:
        if self._inside or not self._listening:
            return value
        self.network_taken |= isinstance(value, nn.Module)
        if name in self._names:
            self.used_directly.setdefault(self._names[name], name)
        # `batch_invariant` calls back a function of the method's.
        own = isinstance(value, MethodType) and name != "batch_invariant"
        return self._internal(value, name == "build_classifier") if own else value

    def _internal(self, function: Callable[..., Any], result_too: bool) -> Callable[..., Any]:
        """Mark what a function of the backbone does as internal, and what its result does."""

        def internal(*arguments: Any, **named: Any) -> Any:
            self._inside += 1
            try:
                result = function(*arguments, **named)
            finally:
                self._inside -= 1
            return self._internal(result, False) if result_too else result

        return internal

    def _on_forward(self, module: nn.Module, arguments: Any) -> None:
        if id(module) not in self._modules:
            return
        capability, name = self._modules[id(module)]
        if self._inside:
            self.used_internally.add(capability)
        else:
            self.used_directly.setdefault(capability, f"model.{name}")


def built_in_capabilities() -> list[Capability]:
    """Return the capability classes of `ttt_bench`."""
    classes = [kind for kind in vars(api).values() if isinstance(kind, type)]
    return [kind for kind in classes if issubclass(kind, Backbone) and kind is not Backbone]


def names_of(capability: Capability) -> set[str]:
    """Return the public names that a capability class adds to its bases."""
    return _public_names(capability) - set().union(
        *(_public_names(base) for base in capability.__mro__[1:])
    )


def _public_names(owner: type) -> set[str]:
    names = {*vars(owner), *vars(owner).get("__annotations__", {})}
    return {name for name in names if not name.startswith("_")}


def _modules_of(
    backbone: Backbone, capabilities: Iterable[Capability]
) -> dict[int, tuple[Capability, str]]:
    """Return the modules that image features do not run, by identity: capability and name."""
    size, device = backbone.image_size, backbone.device
    blank = torch.zeros(1, 3, size, size, device=device)
    shared = _modules_run(backbone, "encode_image", lambda: backbone.encode_image(blank))
    names = {id(module): name for name, module in backbone.model.named_modules()}
    owners: dict[int, tuple[Capability, str]] = {}
    for capability in capabilities:
        called, use = _typical_use(backbone, capability, blank)
        if use is not None:
            for module in _modules_run(backbone, called, use) - shared:
                owners.setdefault(module, (capability, names[module]))
    return owners


def _typical_use(
    backbone: Backbone, capability: Capability, blank: torch.Tensor
) -> tuple[str, Callable[[], Any] | None]:
    """Return a call that runs the modules of a capability, None for one without its own."""
    if capability is DualEncoder and isinstance(backbone, DualEncoder):
        return "encode_text", lambda: backbone.encode_text(["a photo"])
    if capability is Classifier and isinstance(backbone, Classifier) and backbone.num_classes:
        features = torch.zeros(1, backbone.feature_dim, device=backbone.device)
        return "head", lambda: backbone.head(features)
    if capability is MaskedAutoencoder and isinstance(backbone, MaskedAutoencoder):
        noise = torch.linspace(0, 1, backbone.mask_grid**2, device=backbone.device)[None]  # (1, P)
        return "reconstruction_loss", lambda: backbone.reconstruction_loss(blank, noise, 0.5)
    return "", None


@torch.no_grad()
def _modules_run(backbone: Backbone, name: str, use: Callable[[], Any]) -> set[int]:
    ran: set[int] = set()
    members = {id(module) for module in backbone.model.modules()}
    hook = register_module_forward_pre_hook(lambda module, _: ran.add(id(module)))
    try:
        with failing(f"the backbone's {name} raises"):
            use()
    finally:
        hook.remove()
    return ran & members
