"""What a plugin declares: names, one-line descriptions and where the code is.

Specs are cheap. They name code as "package.module:Name" and the harness imports it only when it is
used, so listing a hundred plugins imports none of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

from ttt_bench.errors import UserError

Capability = Literal["image_features", "text_tower", "patch_features", "masked_autoencoder"]


@dataclass(frozen=True, kw_only=True)
class Spec:
    """The part all specs share.

    Attributes:
        name: what the user types.
        summary: one line for `ttt-bench list`.
        code: where the implementation is, as "package.module:Name".
    """

    name: str
    summary: str
    code: str

    def load(self) -> Any:
        """Import and return the object that `code` names.

        Raises:
            UserError: the module does not import or does not hold the name.
        """
        module, _, attribute = self.code.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise UserError(f"{self.name}: cannot load {self.code} ({reason})") from error


@dataclass(frozen=True, kw_only=True)
class AdapterSpec(Spec):
    """A method. `code` names an `Adapter` subclass.

    Attributes:
        paper: where the method comes from.
        needs: what the backbone must give.
        family: which of a dataset's default backbones the method takes.
        presets: configuration values for named backbones, over the class's own defaults.
        labelled_data: the labelled data the method has learned from, "" for none.
        online: whether it carries state from sample to sample on purpose. Then it gets every
            stream (a corruption, a domain, else the dataset) whole, in an order drawn from the
            seed, in batches of its own configuration's `batch_size`, set up anew before each.
    """

    paper: str = ""
    needs: frozenset[Capability] = frozenset({"image_features"})
    family: str = "clip"
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    labelled_data: str = ""
    online: bool = False


@dataclass(frozen=True, kw_only=True)
class DatasetSpec(Spec):
    """A dataset. `code` names a `Dataset` subclass.

    Attributes:
        argument: what stands after the colon in `name:ARGUMENT`, "" where nothing does, in square
            brackets where nothing need do.
        backbones: the default backbone of each method family.
        source: where the images come from.
        licence: under which terms.
        citation: the publication to cite, "" where there is none.
    """

    argument: str = ""
    backbones: Mapping[str, str]
    source: str
    licence: str
    citation: str = ""


@dataclass(frozen=True, kw_only=True)
class BackboneSpec(Spec):
    """A backbone. `code` names a `Backbone` subclass.

    Attributes:
        argument: what stands after the colon in `name:ARGUMENT`, "" where nothing does.
        gives: what methods may ask of it.
    """

    argument: str = ""
    gives: frozenset[Capability] = frozenset({"image_features"})


@dataclass(frozen=True, kw_only=True)
class MetricSpec(Spec):
    """A metric. `code` names a function from `Records` to a number or to numbers by group."""


@dataclass(frozen=True, kw_only=True)
class ExecutorSpec(Spec):
    """A way to work off chunks. `code` names an `Executor` subclass."""


@dataclass(frozen=True, kw_only=True)
class ReferenceSpec(Spec):
    """Published tables. `code` names a function that returns a `Publication`.

    Attributes:
        source: the publication.
    """

    source: str
