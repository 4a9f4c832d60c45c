"""Every planted fault: where it is, the check made for it, and what else it cannot but fail."""

from dataclasses import dataclass

import pytest

from ttt_bench import AdapterSpec
from ttt_bench.registry import PluginInfo, Registered, registry


@dataclass(frozen=True)
class Fault:
    """A method with one fault.

    Attributes:
        code: `module.Class` under tests/planted.
        check: the one that is made for it.
        also: those of the checks of two tours that it fails, too.
        finds: what the finding must say.
    """

    code: str
    check: str
    also: frozenset[str]
    finds: str

    @property
    def name(self) -> str:
        return self.code.lower().replace(".", "-")

    def spec(self) -> AdapterSpec:
        module, _, kind = self.code.partition(".")
        return AdapterSpec(
            name=self.name, summary=self.check, code=f"tests.planted.{module}:{kind}"
        )


def fault(code: str, check: str, *also: str, finds: str = "") -> Fault:
    return Fault(code, check, frozenset(also), finds)


CLEAN = fault("clean.Fitted", "none")
STOPS = fault("shaped.Stops", "none")
FAULTS = [
    fault(
        "kept.MomentsKept",
        "optimizers-reset",
        "a-b-a",
        "order-independence",
        finds="adapter.optimizer.state[0].step has changed",
    ),
    fault(
        "kept.ScheduleRunsOn",
        "schedulers-reset",
        finds="adapter.scheduler.last_epoch was 0 and is 2",
    ),
    fault("kept.ScalerKept", "scalers-reset", finds="adapter.scaler._scale has changed"),
    fault(
        "kept.GradientsAdd",
        "gradients-cleared",
        "a-b-a",
        "order-independence",
        finds="adapter.net.0.weight.grad has changed",
    ),
    fault(
        "kept.WeightsKept",
        "parameters-restored",
        "a-b-a",
        "order-independence",
        finds="adapter.net.0.weight has changed",
    ),
    fault(
        "kept.StatisticsMove",
        "buffers-restored",
        "a-b-a",
        "order-independence",
        finds="adapter.net.1.running_mean has changed",
    ),
    fault(
        "kept.Counts",
        "attributes-restored",
        "a-b-a",
        "order-independence",
        finds="adapter.seen was 1 and is 2",
    ),
    fault("kept.CountsOnTheClass", "attributes-restored", finds="CountsOnTheClass.seen was"),
    fault(
        "kept.MutableDefault",
        "attributes-restored",
        finds="MutableDefault.score.__defaults__[0][0] has changed",
    ),
    fault("kept.FirstSample", "order-independence", "attributes-restored"),
    fault("kept.Recognizes", "a-b-a"),
    fault(
        "kept.FeaturesPile",
        "memory-bounded",
        "attributes-restored",
        finds="adapter.features_seen[7]",
    ),
    fault(
        "kept.GraphGrows", "memory-bounded", "attributes-restored", finds="more bytes of tensors"
    ),
    fault(
        "kept.BackboneWritten",
        "backbone-untouched",
        finds="after sample 1, backbone.model.logit_scale has changed",
    ),
    fault("kept.BackboneTrainable", "backbone-untouched", finds="after setup, backbone.model."),
    fault(
        "kept.BackboneGradients",
        "backbone-untouched",
        finds="backbone.model.logit_scale.grad is new",
    ),
    fault(
        "kept.BackboneHooked", "backbone-untouched", finds="backbone.model._forward_hooks is new"
    ),
    fault(
        "kept.BackboneTrains",
        "backbone-untouched",
        "a-b-a",
        "order-independence",
        finds="training was False and is True",
    ),
    fault("kept.AverageOfFeatures", "nan-feature"),
    fault(
        "drawn.TorchSeeded",
        "global-state-untouched",
        finds="the random state of torch changed during sample 1",
    ),
    fault("drawn.TorchDraws", "global-state-untouched", "same-seed-same-result"),
    fault(
        "drawn.NumpyDraws",
        "global-state-untouched",
        "same-seed-same-result",
        finds="the random state of numpy changed",
    ),
    fault(
        "drawn.PythonDraws",
        "global-state-untouched",
        "same-seed-same-result",
        finds="the random state of python changed",
    ),
    fault("drawn.Switches", "global-state-untouched", finds="cuDNN's benchmark switch changed"),
    fault("drawn.Unseeded", "same-seed-same-result"),
    fault("drawn.SetupDraws", "same-seed-same-result"),
    fault(
        "drawn.DeafToTheSeed",
        "another-seed-another-draw",
        finds="asks its rngs for views, weights",
    ),
    fault("told.LabelOfSample", "labels-unreachable", finds="on the sample"),
    fault("told.LabelOfEntry", "labels-unreachable", finds="on the sample"),
    fault("told.LabelInInfo", "labels-unreachable", finds="on the image"),
    fault("told.FileName", "labels-unreachable", finds="on the image"),
    fault("told.SampleId", "labels-unreachable", finds="in the sample's id"),
    fault("told.DatasetOfTask", "labels-unreachable", finds="on the task"),
    fault("told.LabelsOfTask", "labels-unreachable", finds="on the task"),
    fault("told.Neighbours", "batch-independence", finds="in a batch of 2"),
    fault("told.FavoursTheFirstClass", "class-order"),
    fault("shaped.BestStep", "last-step-reported"),
    fault("shaped.NotANumber", "trajectory", finds="not finite"),
    fault("shaped.OneTooMany", "trajectory", finds="[11]"),
    fault("shaped.OneBuffer", "predictions-kept", "attributes-restored"),
    fault("shaped.TextUndeclared", "needs-declared", finds="encode_text"),
    fault("shaped.TextThroughTheNetwork", "needs-declared", finds="model.token_embedding"),
    fault(
        "shaped.LosesConfig",
        "configuration-round-trip",
        finds="lr=0.0125 comes back from JSON as 0.01",
    ),
    fault("shaped.TakesAnyKey", "configuration-round-trip"),
    fault("shaped.Standardizes", "black-image"),
    fault("shaped.Halves", "one-pixel-image"),
    fault("shaped.Margin", "single-class"),
]


def plant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register these methods as a plugin's are, for one test."""
    plugin = PluginInfo("planted", "planted", "1.0")
    for one in (CLEAN, STOPS, *FAULTS):
        registered = Registered(one.spec(), plugin)
        monkeypatch.setitem(registry().adapters._items, one.name, registered)
