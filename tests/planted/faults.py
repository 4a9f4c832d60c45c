"""Every planted fault: its code, the check made for it, and the other checks that it also fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ttt_bench import AdapterSpec, registered
from ttt_bench.api.specs import Kind


@dataclass(frozen=True)
class Fault:
    """A method with one fault.

    Attributes:
        code: `module.Class` under tests/planted.
        check: the id of the check that is made for it.
        also: the other quick checks that it fails.
        finds: what the finding must contain.
        kind: the kind of the method.
    """

    code: str
    check: str
    also: frozenset[str]
    finds: str
    kind: Kind

    @property
    def name(self) -> str:
        return method_name(self.code)


def method_name(code: str) -> str:
    return code.lower().replace(".", "-").replace("_", "-")


def planted_spec(code: str, kind: Kind = "sample") -> AdapterSpec:
    module, _, class_name = code.partition(".")
    path = f"tests.planted.{module}:{class_name}"
    return AdapterSpec(name=method_name(code), summary=class_name, code=path, kind=kind)


def fault(code: str, check: str, *also: str, finds: str = "", kind: Kind = "sample") -> Fault:
    return Fault(code, check, frozenset(also), finds, kind)


# Methods without a fault.
CLEAN: dict[str, Kind] = {
    "clean.Fitted": "sample",
    "clean.AsksForAnotherSizeLate": "sample",
    "clean.BatchCentred": "batch",
    "clean.NormalizesByTheBatch": "batch",
    "clean.RunningCentre": "stream",
    "clean.BoundedMemory": "stream",
}
FAULTS = [
    fault(
        "state_leaks.MomentsKept",
        "check_optimizers_reset",
        "check_a_b_a",
        "check_order_independence",
        finds="adapter.optimizer.state[0].step has changed",
    ),
    fault(
        "state_leaks.ScheduleRunsOn",
        "check_schedulers_reset",
        finds="adapter.scheduler.last_epoch was 0 and is 2",
    ),
    fault(
        "state_leaks.ScalerKept", "check_scalers_reset", finds="adapter.scaler._scale has changed"
    ),
    fault(
        "state_leaks.GradientsAdd",
        "check_gradients_cleared",
        "check_a_b_a",
        "check_order_independence",
        finds="adapter.net.0.weight.grad has changed",
    ),
    fault(
        "state_leaks.WeightsKept",
        "check_parameters_restored",
        "check_a_b_a",
        "check_order_independence",
        finds="adapter.net.0.weight has changed",
    ),
    fault(
        "state_leaks.StatisticsMove",
        "check_buffers_restored",
        "check_a_b_a",
        "check_order_independence",
        finds="adapter.net.1.running_mean has changed",
    ),
    fault(
        "state_leaks.Counts",
        "check_attributes_restored",
        "check_a_b_a",
        "check_order_independence",
        finds="adapter.seen was 1 and is 2",
    ),
    fault(
        "state_leaks.CountsOnTheClass",
        "check_attributes_restored",
        finds="CountsOnTheClass.seen was",
    ),
    fault(
        "state_leaks.MutableDefault",
        "check_attributes_restored",
        finds="MutableDefault.score.__defaults__[0][0] has changed",
    ),
    fault("state_leaks.FirstSample", "check_order_independence", "check_attributes_restored"),
    fault("state_leaks.Recognizes", "check_a_b_a"),
    fault(
        "state_leaks.FeaturesPile",
        "check_memory_bounded",
        "check_attributes_restored",
        finds="adapter.features_seen[7]",
    ),
    fault(
        "state_leaks.GraphGrows",
        "check_memory_bounded",
        "check_attributes_restored",
        finds="more bytes of tensors",
    ),
    fault(
        "state_leaks.BackboneWritten",
        "check_backbone_untouched",
        finds="after sample 1, backbone.model.logit_scale has changed",
    ),
    fault(
        "state_leaks.BackboneTrainable",
        "check_backbone_untouched",
        finds="after setup, backbone.model.",
    ),
    fault(
        "state_leaks.BackboneGradients",
        "check_backbone_untouched",
        finds="backbone.model.logit_scale.grad is new",
    ),
    fault(
        "state_leaks.BackboneHooked",
        "check_backbone_untouched",
        finds="backbone.model._forward_hooks is new",
    ),
    fault(
        "state_leaks.BackboneTrains",
        "check_backbone_untouched",
        "check_a_b_a",
        "check_order_independence",
        finds="training was False and is True",
    ),
    fault("state_leaks.AverageOfFeatures", "check_nan_feature"),
    fault(
        "randomness.TorchSeeded",
        "check_global_state_untouched",
        finds="the random state of torch changed during sample 1",
    ),
    fault("randomness.TorchDraws", "check_global_state_untouched", "check_same_seed_same_result"),
    fault(
        "randomness.NumpyDraws",
        "check_global_state_untouched",
        "check_same_seed_same_result",
        finds="the random state of numpy changed",
    ),
    fault(
        "randomness.PythonDraws",
        "check_global_state_untouched",
        "check_same_seed_same_result",
        finds="the random state of python changed",
    ),
    fault(
        "randomness.Switches",
        "check_global_state_untouched",
        finds="cuDNN's benchmark switch changed",
    ),
    fault("randomness.Unseeded", "check_same_seed_same_result"),
    fault("randomness.SetupDraws", "check_same_seed_same_result"),
    fault(
        "randomness.IgnoresTheSeed",
        "check_another_seed_another_draw",
        finds="asks its rngs for views, weights",
    ),
    fault("label_leaks.LabelOfSample", "check_labels_unreachable", finds="on the sample"),
    fault("label_leaks.LabelOfEntry", "check_labels_unreachable", finds="on the sample"),
    fault("label_leaks.LabelInInfo", "check_labels_unreachable", finds="on the image"),
    fault("label_leaks.FileName", "check_labels_unreachable", finds="on the image"),
    fault("label_leaks.SampleId", "check_labels_unreachable", finds="in the sample's id"),
    fault("label_leaks.DatasetOfTask", "check_labels_unreachable", finds="on the task"),
    fault("label_leaks.LabelsOfTask", "check_labels_unreachable", finds="on the task"),
    fault("label_leaks.Neighbours", "check_batch_independence", finds="in a batch of 2"),
    fault("label_leaks.FavoursTheFirstClass", "check_class_order"),
    fault("outputs.BestStep", "check_last_step_reported"),
    fault("outputs.NotANumber", "check_prediction_scores", finds="not finite"),
    fault("outputs.OneTooMany", "check_prediction_scores", finds="[11]"),
    fault("outputs.OneBuffer", "check_predictions_kept", "check_attributes_restored"),
    fault("outputs.TextUndeclared", "check_needs_declared", finds="encode_text"),
    fault("outputs.TextThroughTheNetwork", "check_needs_declared", finds="model.token_embedding"),
    fault(
        "outputs.LosesConfig",
        "check_configuration_round_trip",
        finds="lr=0.0125 comes back from JSON as 0.01",
    ),
    fault("outputs.TakesAnyKey", "check_configuration_round_trip"),
    fault("outputs.Standardizes", "check_black_image"),
    fault("outputs.Halves", "check_one_pixel_image"),
    fault("outputs.Margin", "check_single_class"),
    fault(
        "streams.LeavesItsSumOnTheTask",
        "check_fresh_setup",
        finds="after another stream and a new setup, against alone: differs in logits by up to",
        kind="stream",
    ),
    fault(
        "streams.CountsInAFunction",
        "check_state_saved",
        finds="samples 3 and 1 from the state saved before samples 3 and 1: differs in logits",
        kind="stream",
    ),
    fault(
        "streams.SavesLessThanItsState",
        "check_state_saved",
        finds="from the state saved before samples 3 and 1: differs in logits by up to",
        kind="stream",
    ),
    fault(
        "streams.KeepsAnIterator",
        "check_state_saved",
        finds="after setup, KeepsAnIterator['places'] is an object of type itertools.count",
        kind="stream",
    ),
    fault(
        "streams.MakesItsNetworkInAdapt",
        "check_state_saved",
        finds="MakesItsNetworkInAdapt['net'] is not there after setup",
        kind="stream",
    ),
    fault(
        "streams.CountsBatchesOnTheClass",
        "check_nothing_outside_setup",
        finds="CountsBatchesOnTheClass.batches was",
        kind="stream",
    ),
    fault(
        "streams.MovesBatchStatistics",
        "check_batch_statistics_restored",
        "check_backbone_untouched",
        finds="backbone.batch_norm.running_mean has changed (norm 0, now",
        kind="batch",
    ),
    fault(
        "streams.KeepsMoreThanItDeclares",
        "check_samples_kept",
        finds="samples_kept declares 4 samples and 6 came before",
        kind="stream",
    ),
    fault(
        "streams.KeepsTextOfEverySample",
        "check_samples_kept",
        finds="more objects after every batch",
        kind="stream",
    ),
    fault(
        "streams.NeedsTwoSamples",
        "check_ragged_batch",
        finds="adapt raises ValueError: Expected more than 1 value",
        kind="batch",
    ),
    fault(
        "streams.PadsWithTheLastBatch",
        "check_ragged_batch",
        "check_attributes_restored",
        finds="after a full one, against alone: differs in logits by up to",
        kind="batch",
    ),
    fault(
        "streams.DividesByTheSpread",
        "check_odd_inputs_in_a_batch",
        finds="a batch with two equal images: its sample 1: logits is not finite",
        kind="batch",
    ),
]


@contextmanager
def planted_methods() -> Iterator[None]:
    """Register these methods for the time of a `with` block."""
    specs = [planted_spec(fault.code, fault.kind) for fault in FAULTS]
    specs += [planted_spec(code, kind) for code, kind in CLEAN.items()]
    specs.append(planted_spec("outputs.Stops"))
    with registered(adapters=specs, name="planted"):
        yield
