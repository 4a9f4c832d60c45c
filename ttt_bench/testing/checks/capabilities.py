"""A method asks of the backbone what it declared, and nothing else."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from ttt_bench.api.backbone import Backbone
from ttt_bench.registry import registry
from ttt_bench.testing.fakes.spy import lend
from ttt_bench.testing.method import Subject
from ttt_bench.testing.suite import CheckFailed, Finding

# What of a backbone belongs to which capability; everything else is free to use.
NAMES: dict[str, str] = {
    "encode_text": "DualEncoder",
    "class_features": "DualEncoder",
    "tokenizer": "DualEncoder",
    "logit_scale": "DualEncoder",
    "encode_patches": "PatchEncoder",
}


def needs_declared(subject: Subject) -> Finding:
    """Two samples on a backbone that is overheard, its network included."""
    backbone = subject.fresh_backbone()
    gives = registry().backbones.find(subject.backbone_name).spec.gives
    overheard = Overheard(backbone, "DualEncoder" in gives)
    task = subject.task(backbone=overheard.backbone)
    # The task has looked at the network by now, which is no doing of the method's.
    overheard.network = False
    with overheard.running():
        subject.trial(task).predict(subject.samples[:2])
    needs = subject.spec.needs
    undeclared = {what: by for what, by in overheard.touched.items() if what not in needs}
    if undeclared:
        what, by = next(iter(undeclared.items()))
        raise CheckFailed(
            f"uses the backbone's {by}, which is part of {what}, not declared in needs"
        )
    used = {*overheard.touched, *overheard.within}
    if overheard.network:
        used.add("MaskedAutoencoder")
    idle = sorted(needs - used)
    text = f"uses {', '.join(sorted(needs & used)) or 'nothing of the backbone'}"
    return Finding(text + (f"; warning: declares {', '.join(idle)} without use" if idle else ""))


class Overheard:
    """What is used of a backbone, and of its network's modules.

    Attributes:
        touched: by the method itself: capabilities, and the first name that gave each away.
        within: by functions of the backbone on the method's behalf.
        network: whether the method took the network itself.
    """

    def __init__(self, backbone: Backbone, has_text: bool) -> None:
        self.touched: dict[str, str] = {}
        self.within: set[str] = set()
        self.network = False
        self._inside = 0
        self._modules = _owners(backbone, has_text)
        self.backbone = lend(backbone, self._overhear)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Listen to the modules, too."""
        hook = register_module_forward_pre_hook(self._ran)
        try:
            yield
        finally:
            hook.remove()

    def _overhear(self, name: str, value: Any) -> Any:
        if self._inside:
            return value
        self.network |= name == "model"
        if name in NAMES:
            self.touched.setdefault(NAMES[name], name)
        # That one calls back what the method gives it.
        own = isinstance(value, MethodType) and name != "batch_invariant"
        return self._quiet(value, name == "build_classifier") if own else value

    def _quiet(self, function: Callable[..., Any], result_too: bool) -> Callable[..., Any]:
        def quiet(*arguments: Any, **named: Any) -> Any:
            self._inside += 1
            try:
                result = function(*arguments, **named)
            finally:
                self._inside -= 1
            return self._quiet(result, False) if result_too else result

        return quiet

    def _ran(self, module: nn.Module, arguments: Any) -> None:
        if id(module) not in self._modules:
            return
        what, name = self._modules[id(module)]
        if self._inside:
            self.within.add(what)
        else:
            self.touched.setdefault(what, f"model.{name}")


def _owners(backbone: Backbone, has_text: bool) -> dict[int, tuple[str, str]]:
    """The modules that only one capability runs: the text tower's, and a decoder's."""
    blank = torch.zeros(1, 3, backbone.image_size, backbone.image_size, device=backbone.device)
    image = _run(backbone, lambda: backbone.encode_image(blank))
    with_text: Any = backbone
    text = _run(backbone, lambda: with_text.encode_text(["a photo"])) if has_text else set()
    owners: dict[int, tuple[str, str]] = {}
    for name, module in backbone.model.named_modules():
        if id(module) in image:
            continue
        if id(module) in text:
            owners[id(module)] = "DualEncoder", name
        elif "decoder" in name:
            owners[id(module)] = "MaskedAutoencoder", name
    return owners


@torch.no_grad()
def _run(backbone: Backbone, compute: Callable[[], Any]) -> set[int]:
    ran: set[int] = set()
    own = {id(module) for module in backbone.model.modules()}
    hook = register_module_forward_pre_hook(lambda module, _: ran.add(id(module)))
    try:
        compute()
    finally:
        hook.remove()
    return ran & own
