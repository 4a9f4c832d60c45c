"""The options of `run` as Python gives them, checked by the same types and bounds."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import ValidationError

from ttt_bench.api.errors import UserError, unknown
from ttt_bench.runner.config import Option, RunConfig
from ttt_bench.runner.config_file import file_model

# Parameters of `ttt_bench.run` of their own.
ELSEWHERE = ("method", "dataset", "backbone", "seed")


def checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with checked values, and those that environment variables give.

    Args:
        options: fields of `RunConfig` by name; `backbone` and `seed` as lists.

    Raises:
        UserError: there is no such option, or a value is refused.
    """
    known, one_or_several = {}, {}
    for name, option, several in _options():
        known[name], one_or_several[name] = option, several
    environment = {
        name: os.environ[option.env]
        for name, option in known.items()
        if option.env and os.environ.get(option.env)
    }
    checked: dict[str, Any] = {}
    for name, value in {**environment, **options}.items():
        if name not in known:
            allowed = [one for one in known if one not in ELSEWHERE]
            raise unknown("option of ttt_bench.run", name, allowed)
        try:
            model = file_model().model_validate({name.replace("_", "-"): value})
        except ValidationError as error:
            # Of the types that a value may have, the one that it comes closest to.
            nearest = max(error.errors(), key=lambda one: len(one["loc"]))
            raise UserError(f"{name}={nearest['input']!r} is refused: {nearest['msg']}") from error
        checked[name] = getattr(model, name)
        if one_or_several[name] and checked[name] is not None:
            value = checked[name]
            checked[name] = (value,) if isinstance(value, str) else tuple(value)
    return checked


def _options() -> Iterator[tuple[str, Option, bool]]:
    """Yield each option's name, what the command line needs to know, and whether it is a tuple."""
    hints = get_type_hints(RunConfig, include_extras=True)
    for one in fields(RunConfig):
        if get_origin(hints[one.name]) is Annotated:
            value_type, *details = get_args(hints[one.name])
            options = (item for item in details if isinstance(item, Option))
            yield one.name, next(options, Option()), get_origin(value_type) is tuple
