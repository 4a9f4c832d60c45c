"""Adapter and AdapterConfig: what the author of a method implements."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from ttt_bench.api.inputs import Inputs
from ttt_bench.api.sample import Prediction, Sample, SampleRNG
from ttt_bench.api.task import Task


class AdapterConfig(BaseModel):
    """The base of a method's configuration: the paper's values as defaults, frozen, no extras."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# Attributes that are no state: what the engine gives.
GIVEN = ("task", "config")
ConfigT = TypeVar("ConfigT", bound=AdapterConfig)


class Adapter(ABC, Generic[ConfigT]):
    """A method.

    What `adapt` returns for a sample depends on the sample, its random generators and what `setup`
    made. It does not depend on the other samples of the batch or on what ran before, bit for bit;
    `batch_invariant_matmul` and `task.batch_invariant` help with rounding. Methods of kind `batch`
    and `stream` (see `AdapterSpec`) may depend on their batch or on the samples before.

    Attributes:
        uses_backbone_classifier: whether the method classifies with `task.classifier`, which is
            then built, or refused, before `setup`. A method with a head of its own says False.
    """

    Config: ClassVar[type[Any]] = AdapterConfig
    uses_backbone_classifier: ClassVar[bool] = True

    def __init__(self, config: ConfigT) -> None:
        self.config = config

    def inputs(self, task: Task) -> Inputs:
        """Return what `adapt` will ask the task for, so that it can be made ahead.

        Called before `setup`, once for each task. The answer may depend on the configuration, the
        backbone's sizes and `task.augmix`.
        """
        return Inputs()

    def setup(self, task: Task) -> None:
        """Prepare for a task, once and before any sample: text features, templates of the state."""
        self.task = task

    @abstractmethod
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        """Predict a batch of samples, one prediction for each.

        Args:
            samples: at most `--batch-size` of them; for the kinds `batch` and `stream` a whole
                batch of the configuration's `batch_size`, the last one of a stream perhaps smaller.
            rngs: the random generators of each sample.
        """

    def state(self) -> dict[str, Any]:
        """Return everything that later predictions of a stream depend on, by name.

        After a few batches of a stream the engine saves this beside the records, so that a run that
        is stopped goes on. Only a method of kind `stream` is asked. The default is every attribute
        but `task` and `config`, and needs no code where attributes hold tensors, arrays, numbers,
        strings, lists, tuples, dicts, sets, random generators, networks, optimizers, or objects
        with such attributes. What two attributes share they share again afterwards.

        Example, for a method that needs no more than two of its attributes:
            def state(self):
                return {"mean": self.mean, "count": self.count}
        """
        return {name: value for name, value in vars(self).items() if name not in GIVEN}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned, on a new adapter after its `setup`.

        Networks, optimizers and parameters in it are those that `setup` made, with the saved values
        in them; networks and optimizers have to be made there. Everything else is new. The default
        sets the attributes.

        Args:
            state: what `state` returned.
        """
        vars(self).update(state)

    def samples_kept(self) -> int:
        """Return the largest number of samples that a method of kind `stream` keeps anything of.

        A memory bank of 64 features, or a cache of 3 for each class, declares its size here; sums
        and averages keep no sample. The conformance kit checks, after `setup`, that the method's
        memory stops growing at this number.
        """
        return 0
