"""Specs: what a plugin declares of what it brings, by name, without importing the code.

A spec names its code as "package.module:Name". The harness imports the code when it is used, so
listing a hundred plugins imports none of them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypeVar

from typing_extensions import override

from ttt_bench.api.acquisition import HowToGet
from ttt_bench.api.errors import UserError, described

Kind = Literal["sample", "batch", "stream"]
SpecT = TypeVar("SpecT", bound="Spec")
ShownIn = Literal["overview", "others", "elsewhere"]


@dataclass(frozen=True, kw_only=True)
class Spec:
    """The part that all specs share.

    Attributes:
        name: the name that users type.
        summary: one line for `ttt-bench list`.
        code: where the implementation is, as "package.module:Name".
        given: the implementation itself, such as a class of a notebook's cell; None where it is
            imported from `code`.
    """

    name: str
    summary: str
    code: str
    given: Any = field(default=None, repr=False, compare=False)

    def load(self) -> Any:
        """Return the implementation; where only its name is given, import it.

        Raises:
            UserError: the module does not import or does not hold the name.
        """
        if self.given is not None:
            return self.given
        module, _, attribute = self.code.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except Exception as error:
            raise UserError(f"{self.name}: cannot load {self.code} ({described(error)})") from error

    def for_argument(self: SpecT, argument: str) -> SpecT:
        """Return the spec of what `name:ARGUMENT` stands for; the same one for every argument.

        Args:
            argument: the part after the colon, "" for none.
        """
        return self


@dataclass(frozen=True, kw_only=True)
class BackboneFamily:
    """The backbones that a family of methods runs on when the user names none.

    Attributes:
        name: the family's name, such as "clip".
        default: the backbone for any dataset.
        by_dataset: the backbones for named datasets.
    """

    name: str
    default: str
    by_dataset: Mapping[str, str] = field(default_factory=dict)


# tiny-clip has learned from CIFAR-10's training images, so it is no zero-shot model on `cifar10`.
CLIP_FAMILY = BackboneFamily(
    name="clip",
    default="open_clip:ViT-B-16/openai",
    by_dataset={"cifar10-c-mini": "tiny-clip"},
)
CLASSIFIER_FAMILY = BackboneFamily(
    name="classifier",
    default="timm:resnet50.tv_in1k",
    by_dataset=dict.fromkeys(("cifar10-c-mini", "cifar10", "cifar10-c"), "tiny-resnet"),
)


@dataclass(frozen=True, kw_only=True)
class AdapterSpec(Spec):
    """A method. `code` names an `Adapter` subclass.

    Attributes:
        kind: what a prediction may depend on. `sample`: the sample alone (an episodic method).
            `batch`: the batch, which is then forgotten. `stream`: the samples before it in a
            stream, such as a corruption or a domain; the method is set up anew for each stream. The
            last two get batches of their configuration's `batch_size`, which the plan fixes.
        paper: the publication of the method.
        needs: names of the capability classes that the backbone must be, such as "DualEncoder".
        family: the default backbones.
        presets: configuration values for named backbones, over the class's own defaults.
        dataset_presets: configuration values for named datasets, over those of the backbone.
        dataset_presets_note: what the values of `dataset_presets` were chosen on; the card and
            every table show it.
        trains: what learns at test time, such as "context tokens", "" for nothing.
        keeps: what a method of kind `stream` carries from sample to sample, "" for nothing.
        release: the repository of the authors' code and its licence, such as "azshue/TPT, MIT".
        labelled_data: the labelled data the method has learned from, "" for none.
        known_failures: conformance checks that the method fails by design, with the reason of each;
            `list` and every table show them.
    """

    kind: Kind = "sample"
    paper: str = ""
    needs: frozenset[str] = frozenset()
    family: BackboneFamily = CLIP_FAMILY
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dataset_presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dataset_presets_note: str = ""
    trains: str = ""
    keeps: str = ""
    release: str = ""
    labelled_data: str = ""
    known_failures: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, adapter: type[Any], **facts: Any) -> "AdapterSpec":
        """Return the spec of a class that is no plugin's, such as one of a notebook's cell.

        Args:
            adapter: an `Adapter` subclass.
            facts: attributes of the spec. Without `name` the method is called as its class, in
                lower case with hyphens; without `summary` it has the first line of its docstring.

        Example:
            ttt_bench.run(methods=[AdapterSpec.of(Mine, kind="stream")], datasets="cifar10-c-mini")
        """
        summary = next(iter((adapter.__doc__ or "").strip().splitlines()), "")
        defaults = {"name": name_of(adapter), "summary": summary}
        return cls(**{**defaults, **facts, "code": code_of(adapter), "given": adapter})

    def preset(self, backbone: str, dataset: str) -> dict[str, Any]:
        """Return the configuration values for a backbone and a dataset, by field.

        Args:
            backbone: the backbone's name.
            dataset: the dataset's name, with or without an argument.
        """
        return {**self.presets.get(backbone, {}), **self._dataset_preset(dataset)}

    def dataset_preset_card(self, dataset: str, config: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what the card says of a dataset's preset, None where no value of it is in force.

        Args:
            dataset: the dataset's name, with or without an argument.
            config: every field of the configuration with its value.
        """
        preset = self._dataset_preset(dataset)
        in_force = {name: value for name, value in preset.items() if config[name] == value}
        return {"values": in_force, "note": self.dataset_presets_note} if in_force else None

    def _dataset_preset(self, dataset: str) -> Mapping[str, Any]:
        return self.dataset_presets.get(dataset.partition(":")[0], {})


@dataclass(frozen=True, kw_only=True)
class DatasetSpec(Spec):
    """A dataset. `code` names a `Dataset` subclass.

    Attributes:
        argument: the part after the colon in `name:ARGUMENT`, "" for a dataset that takes none, in
            square brackets where it is optional.
        source: where the images come from.
        licence: the terms of use.
        citation: the publication to cite, "" for none.
        in_distribution: whether the images are from the distribution that the papers' models were
            trained on, as ImageNet's; `compare` leaves such a dataset out of the
            out-of-distribution mean.
        folders: names of the dataset's folder under a data root, in the order in which they are
            looked for; `data download` makes the first. Empty for a dataset without one.
        how_to_get: how to obtain the folder; None for a dataset that is embedded or the user's own.
            With one, `code` names an `OnDisk` subclass.
        backbones: default backbones by the name of a family of methods, in place of the family's
            own. A method that needs a capability which the named backbone lacks takes the family's.
    """

    argument: str = ""
    source: str
    licence: str
    citation: str = ""
    in_distribution: bool = False
    folders: tuple[str, ...] = ()
    how_to_get: HowToGet | None = None
    backbones: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BackboneSpec(Spec):
    """A backbone. `code` names a `Backbone` subclass.

    Attributes:
        argument: the part after the colon in `name:ARGUMENT`, "" for a backbone that takes none.
        gives: names of the capability classes that it is, such as "DualEncoder".
        by_argument: the function, as "package.module:name", that returns the spec of one model,
            given this spec and the argument, for a backbone whose models give different
            capabilities. It loads no weights. "" where all give the same.
    """

    argument: str = ""
    gives: frozenset[str] = frozenset()
    by_argument: str = ""

    @override
    def for_argument(self, argument: str) -> "BackboneSpec":
        if not self.by_argument:
            return self
        return replace(self, code=self.by_argument).load()(self, argument)


@dataclass(frozen=True, kw_only=True)
class MetricSpec(Spec):
    """A metric. `code` names a function from `Records` to its value.

    The value is a number, numbers by name (such as by group), a list of numbers, or None where the
    metric does not apply. The function gets all records of a run, read-only and without their
    logits in memory; `Records.required_logits` reads all of them.

    Attributes:
        per_sample: whether the function returns an array of one number for each sample instead. The
            metric is their mean, and of booleans the share that is true, in percent. The function
            gets some of the records at a time, with their logits, so a run of any size fits the
            memory.
        heading: the heading of its column in tables, the name without underscores where "".
        shown_in: the table of `compare` that has its column: `overview`, one for each dataset, or
            `others`, a table of further metrics. `elsewhere` is for metrics that have a table or
            figure of their own.
        lower_is_better: whether a smaller value is the better one, for `compare --sort`.
    """

    per_sample: bool = False
    lower_is_better: bool = False
    heading: str = ""
    shown_in: ShownIn = "others"


@dataclass(frozen=True, kw_only=True)
class ExecutorSpec(Spec):
    """A way to compute chunks. `code` names an `Executor` subclass.

    Attributes:
        argument: the part after the colon in `--executor NAME:ARGUMENT`, "" for an executor that
            takes none, in square brackets where it is optional.
    """

    argument: str = ""


@dataclass(frozen=True, kw_only=True)
class TrackerSpec(Spec):
    """A tracker of runs. `code` names a `Tracker` subclass that is made without arguments."""


@dataclass(frozen=True, kw_only=True)
class ReferenceSpec(Spec):
    """Published tables. `code` names a function that returns a `Publication`.

    Attributes:
        source: the publication.
    """

    source: str


@dataclass(frozen=True, kw_only=True)
class GoldenSpec(Spec):
    """Numbers that the original release of a method gave, to compare ours with.

    `code` names a function of the file's arrays by name and a `torch.device`. It returns a pair for
    each output by name: what this machine computes, on that device, and what the file expects, as
    tensors or arrays of one shape.

    Attributes:
        methods: names of the methods that the numbers cover.
        file: the file of arrays (.npz), relative to the folder of the module that `code` names. It
            stands in the package, so that an installed plugin can be tried on any machine.
        arrays: names of arrays by which a file of this kind is recognised, each a whole name or the
            part of one after the last slash.
        tolerance: the largest difference of an output that rounding explains, relative to the
            output's largest expected value.
        tolerances: tolerances of single outputs, by name.
    """

    methods: tuple[str, ...] = ()
    file: str
    arrays: frozenset[str]
    tolerance: float = 1e-4
    tolerances: Mapping[str, float] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file of arrays.

        Raises:
            UserError: the module does not import.
        """
        self.load()
        module = import_module(self.code.partition(":")[0])
        return Path(str(module.__file__)).parent / self.file


def code_of(kind: type[Any]) -> str:
    """Return where a class is, as specs name it."""
    return f"{kind.__module__}:{kind.__qualname__}"


def name_of(kind: type[Any]) -> str:
    """Return what a class is called where nobody names it: `MyMethod` is `my-method`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", kind.__name__).lower()
