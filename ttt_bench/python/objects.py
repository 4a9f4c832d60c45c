"""Methods and datasets that are given as objects: registered for the time of their runs."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttt_bench.api.adapter import Adapter
from ttt_bench.api.dataset import Dataset
from ttt_bench.api.errors import UserError, described
from ttt_bench.api.specs import AdapterSpec, DatasetSpec, code_of
from ttt_bench.registry import registered, registry
from ttt_bench.runner.asking import Variant
from ttt_bench.runner.values import read_variant

LONGEST_TEXT = 60


@dataclass(frozen=True)
class Asked:
    """The methods and datasets of a call, by name.

    Attributes:
        variants: the methods, each with its settings.
        datasets: the names of the datasets.
        objects: the datasets that were given as objects, by name.
        given: what was given as an object, in words.
    """

    variants: Sequence[Variant]
    datasets: Sequence[str]
    objects: Mapping[str, Dataset]
    given: Sequence[str]


@contextmanager
def registered_objects(
    methods: Sequence[Any], datasets: Sequence[Any], data_root: Path | None
) -> Iterator[Asked]:
    """Register what was given as an object for the time of a `with` block.

    Args:
        methods: names with settings or without, `Adapter` subclasses and `AdapterSpec`s.
        datasets: names, and `Dataset`s or their classes.
        data_root: the folder to look for datasets in.

    Raises:
        UserError: something is neither, or its name is taken.
    """
    adapters: dict[str, AdapterSpec] = {}
    variants = [_variant(method, adapters) for method in methods]
    objects: dict[str, Dataset] = {}
    names = [_dataset_name(dataset, data_root, objects) for dataset in datasets]
    specs = _dataset_specs(objects)
    given = [f"the method {name}" for name in adapters]
    given += [f"the dataset {name}" for name in objects]
    asked = Asked(variants, names, objects, given)
    new = [*adapters.values(), *specs.values()]
    for spec in new:
        _require_free(spec)
    with registered(adapters=[*adapters.values()], datasets=[*specs.values()], name="objects"):
        yield asked


def _variant(method: Any, adapters: dict[str, AdapterSpec]) -> Variant:
    """Return a method as the engine knows it, and add its spec where it is given as an object.

    Raises:
        UserError: it is neither a name nor a method, or another object has its name.
    """
    if isinstance(method, str):
        return Variant(*read_variant(method, "methods"))
    if isinstance(method, Adapter):
        raise UserError(
            f"methods: give the class {type(method).__name__}, and not an object of it; settings "
            "are its configuration"
        )
    if isinstance(method, type) and issubclass(method, Adapter):
        if inspect.isabstract(method):
            missing = ", ".join(sorted(method.__abstractmethods__))
            raise UserError(f"methods: the class {method.__name__} needs a function {missing}")
        method = _of_plugin(method, registry().adapters) or AdapterSpec.of(method)
    if not isinstance(method, AdapterSpec):
        raise UserError(
            f"methods: {_shown(method)} is neither a name, an Adapter subclass nor an AdapterSpec"
        )
    known = registry().adapters.get(method.name)
    if known is None or known.spec != method:
        same = adapters.setdefault(method.name, method)
        if same != method or same.given is not method.given:
            raise UserError(
                f"methods: two methods are called {method.name}; give one another name by "
                "AdapterSpec.of(CLASS, name=...)"
            )
    return Variant(method.name)


def _of_plugin(kind: type[Any], catalog: Mapping[str, Any]) -> Any:
    """Return the spec that a plugin has registered for a class, None where none has."""
    specs = (item.spec for item in catalog.values())
    return next((spec for spec in specs if spec.code == code_of(kind)), None)


def _dataset_name(dataset: Any, data_root: Path | None, objects: dict[str, Dataset]) -> str:
    """Return the name of a dataset, and keep it where it is given as an object.

    Raises:
        UserError: it is neither a name nor a dataset, is incomplete, or has the name of another.
    """
    if isinstance(dataset, str):
        return dataset
    if isinstance(dataset, type) and issubclass(dataset, Dataset):
        try:
            dataset = dataset("", data_root)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"datasets: {dataset.__name__} cannot be made of no argument "  # pyright: ignore
                f"({described(error)}); give an object of it"
            ) from error
    if not isinstance(dataset, Dataset):
        raise UserError(
            f"datasets: {_shown(dataset)} is neither a name nor a Dataset; a folder of images is "
            "'imagefolder:PATH'"
        )
    for name in ("name", "classes", "entries"):
        if not hasattr(dataset, name):
            raise UserError(
                f"datasets: {type(dataset).__name__} has no `{name}`; set it in __init__"
            )
    if objects.setdefault(dataset.name, dataset) is not dataset:
        raise UserError(
            f"datasets: two datasets are called {dataset.name}; give one another `name`"
        )
    return dataset.name


def _dataset_specs(objects: Mapping[str, Dataset]) -> dict[str, DatasetSpec]:
    """Return a spec for each name before the colon that is no plugin's dataset.

    Raises:
        UserError: objects of two classes have the same name before the colon.
    """
    specs: dict[str, DatasetSpec] = {}
    for name, dataset in objects.items():
        base, colon, _ = name.partition(":")
        known = registry().datasets.get(base)
        if known is not None and known.spec.code == code_of(type(dataset)):
            continue
        spec = DatasetSpec(
            name=base,
            summary="given as an object",
            code=code_of(type(dataset)),
            given=type(dataset),
            argument="[ARGUMENT]" if colon else "",
            source="given as an object",
            licence="not stated",
        )
        if specs.setdefault(base, spec).given is not type(dataset):
            raise UserError(
                f"datasets: objects of two classes are called {base}; give one another `name`"
            )
    return specs


def _require_free(spec: AdapterSpec | DatasetSpec) -> None:
    """Refuse a name that a plugin has registered.

    Raises:
        UserError: one has.
    """
    of_method = isinstance(spec, AdapterSpec)
    catalog = registry().adapters if of_method else registry().datasets
    if spec.name not in catalog:
        return
    what, advice = ("method", f"AdapterSpec.of({spec.code.partition(':')[2]}, name=...)")
    if not of_method:
        what, advice = ("dataset", "its attribute `name`")
    raise UserError(
        f"the {what} name {spec.name!r} is taken by plugin {catalog[spec.name].plugin.name}; give "
        f"yours another one by {advice}"
    )


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."
