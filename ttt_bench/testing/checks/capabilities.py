"""A method uses the capabilities of the backbone that it declares, and no others."""

from typing import TYPE_CHECKING

from ttt_bench.testing.declaration import check
from ttt_bench.testing.outcome import CheckFailed, Finding

if TYPE_CHECKING:
    from ttt_bench.testing.method import MethodUnderTest


@check(order=2)
def check_needs_declared(method: "MethodUnderTest") -> Finding:
    """Check what two batches use of a backbone that is spied on, its network included."""
    from ttt_bench.engine.loading import capability_type
    from ttt_bench.registry import registry
    from ttt_bench.testing.fakes.capability_spy import CapabilitySpy, built_in_capabilities

    gives = registry().backbones.find(method.backbone_name).spec.gives
    declared = {capability_type(name) for name in method.spec.needs}
    # Plugins may bring classes of their own.
    known = {*built_in_capabilities(), *map(capability_type, gives), *declared}
    spy = CapabilitySpy(method.fresh_backbone(), known)
    task = method.task(backbone=spy.backbone)
    with spy.listening():
        fresh = method.fresh_adapter(task)
        for positions in method.batches[:2]:
            fresh.predict(method.batch(positions))
    for capability, shown_by in spy.used_directly.items():
        if not any(issubclass(need, capability) for need in declared):
            raise CheckFailed(
                f"uses the backbone's {shown_by}, which is part of {capability.__name__}, not "
                "declared in needs"
            )
    used = {*spy.used_directly, *spy.used_internally}
    if spy.network_taken:
        # What a method does with a copy of the network is not seen.
        used |= {capability for capability in known if spy.has_modules(capability)}
    idle = sorted(n.__name__ for n in declared if not any(issubclass(n, use) for use in used))
    names = sorted(need.__name__ for need in declared if need.__name__ not in idle)
    text = f"uses {', '.join(names) or 'image features alone'}"
    return Finding(text + (f"; warning: declares {', '.join(idle)} without use" if idle else ""))
