"""Files of options for `run`: their keys, checked, and their JSON schema."""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from typing_extensions import Doc

from ttt_bench.api.errors import UserError, unknown
from ttt_bench.runner.asking import Variant
from ttt_bench.runner.config import Option, RunConfig
from ttt_bench.runner.values import read_variant, read_yaml

RUNS = "runs"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
SET = (
    "Settings of a method's configuration: `steps: 5` for every method that has the field, or "
    "`apm: {steps: 5}` for one method."
)
# The options that an entry may have of its own: one value or several, and one value.
SEVERAL = ("dataset", "backbone", "seed")
OWN = ("limit", "stream", "correlation", "revisit", "precision")
SWEEP = "Several values for a setting, written as in `set`, such as `apm.steps: [5, 20]`."


One = TypeVar("One", str, int)


class RunEntry(BaseModel):
    """One entry of `runs`. `entry_model` adds the options that it may have of its own."""

    model_config = ConfigDict(extra="forbid")

    method: str = Field(description="Method to run, with settings or without.")
    name: str | None = Field(
        None, min_length=1, max_length=60, description="What tables call the run."
    )
    set: dict[str, Any] = Field({}, description="Settings of the method's configuration.")


@cache
def option_fields() -> dict[str, Any]:
    """Return the options of `run` as the fields of a model, by name."""
    hints = get_type_hints(RunConfig, include_extras=True)
    found: dict[str, Any] = {}
    for one in fields(RunConfig):
        hint = hints[one.name]
        if get_origin(hint) is not Annotated:
            continue
        value_type, *metadata = get_args(hint)
        text = next(item.documentation for item in metadata if isinstance(item, Doc))
        details = next((item for item in metadata if isinstance(item, Option)), Option())
        bounds = [item for item in metadata if not isinstance(item, Doc | Option)]
        for bound in bounds:
            value_type = Annotated[value_type, bound]
        if details.repeated:
            # A field that takes several values is a tuple, one with a run for each value is not.
            one_value = get_args(value_type)[0] if get_origin(value_type) is tuple else value_type
            value_type = one_value | list[one_value]
        default = None if one.default is MISSING else one.default
        found[one.name] = (
            value_type,
            Field(default, alias=one.name.replace("_", "-"), description=text),
        )
    return found


@cache
def entry_model() -> type[RunEntry]:
    """Return the model of an entry: its own fields, and options in place of the file's."""
    options = option_fields()
    found: dict[str, Any] = {}
    for name in (*SEVERAL, *OWN):
        value_type, option = options[name]
        about = f"In place of the file's `{name}`. {option.description}"
        found[name] = (value_type | None, Field(None, description=about))
    return create_model("RunEntry", __base__=RunEntry, **found)


@cache
def file_model() -> type[BaseModel]:
    """Return the model of a file of options: the options of `run` by name, and `runs`."""
    # A checker of types refuses `list[...]` of a model that is made here.
    entries_type = GenericAlias(list, (entry_model(),))
    found: dict[str, Any] = {
        "set": (dict[str, Any], Field({}, description=SET)),
        "sweep": (dict[str, Any], Field({}, description=SWEEP)),
        "runs": (entries_type, Field([], min_length=1, description="Runs, each with its own.")),
        "format": (Literal["text", "json"], Field("text", description="Output format.")),
        "dry_run": (bool, Field(False, alias="dry-run", description="Only estimate the runs.")),
        **option_fields(),
    }
    return create_model(
        "RunFile",
        __config__=ConfigDict(
            extra="forbid", title="ttt-bench run", json_schema_extra={"$schema": DRAFT}
        ),
        **found,
    )


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a file of options, for editors."""
    return file_model().model_json_schema(by_alias=True)


def read_file(path: Path) -> dict[str, Any]:
    """Read a file of options and check every key.

    Returns:
        The keys of the file as written, with their values.

    Raises:
        UserError: the file is not readable, a key is no option, or a value is refused.
    """
    try:
        content = read_yaml(path.read_text("utf-8"))
    # YAML's own types fail in many ways: a 13th month, an empty integer, endless brackets.
    except Exception as error:
        raise UserError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from error
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: needs lines `option: value`, such as `seed: 1`")
    content = {str(key): value for key, value in content.items()}
    try:
        file_model().model_validate(content)
    except ValidationError as error:
        raise _refused(path, error) from error
    return content


def _refused(path: Path, error: ValidationError) -> UserError:
    """Return the error that names the first key which is refused."""
    first = error.errors()[0]
    location = list(first["loc"])
    entry = ""
    model: type[BaseModel] = file_model()
    if location[0] == RUNS and len(location) > 2:
        entry, model, location = (
            f", entry {int(location[1]) + 1} of runs",
            entry_model(),
            location[2:],
        )
    key = str(location[0])
    if first["type"] == "extra_forbidden":
        known = [field.alias or name for name, field in model.model_fields.items()]
        return unknown(f"option in {path}{entry}", key, known)
    if first["type"] == "missing":
        return UserError(f"{path}{entry}: {key} is missing; add a line `{key}: ...`")
    return UserError(f"{path}{entry}: {key}={first['input']!r} is refused: {first['msg']}")


def entries(path: Path, content: Mapping[str, Any]) -> list[Variant]:
    """Return the entries of `runs` as variants.

    Args:
        path: the file, for messages.
        content: what `read_file` returned.

    Raises:
        UserError: the settings of an entry are not plain.
    """
    found = []
    for number, value in enumerate(content.get(RUNS, ())):
        entry = entry_model().model_validate(value)
        given = entry.model_dump()
        option = f"{path}, entry {number + 1} of runs: method"
        method, settings = read_variant(entry.method, option)
        found.append(
            Variant(
                method=method,
                settings={**settings, **entry.set},
                name=entry.name or "",
                datasets=_several(given["dataset"]),
                backbones=_several(given["backbone"]),
                seeds=_several(given["seed"]),
                options={name: given[name] for name in OWN if given[name] is not None},
            )
        )
    return found


def _several(value: One | list[One] | None) -> tuple[One, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else (value,)


def flat_settings(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield `{apm: {steps: 10}}` and `{steps: 10}` with dotted keys."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from ((f"{key}.{inner}", one) for inner, one in value.items())
        else:
            yield str(key), value
