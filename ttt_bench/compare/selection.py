"""Choosing among finished runs: by fields of their cards, by method, and by what sorts them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ttt_bench.api.errors import UserError, unknown
from ttt_bench.compare.labels import shown
from ttt_bench.compare.read import FinishedRun
from ttt_bench.compare.rows import Row, is_number
from ttt_bench.registry import registry

# The sort that needs no number.
BY_NAME = "name"


def where(runs: Sequence[FinishedRun], wanted: Mapping[str, Any]) -> list[FinishedRun]:
    """Return the runs whose cards have these values.

    Args:
        runs: the runs.
        wanted: a value for each field; a field is one of the card, such as `limit`, `backbone` or
            `stream.name`, or of the method's configuration, such as `steps`.

    Raises:
        UserError: no run has the field, or none that is left has the value.
    """
    left = list(runs)
    for field, value in wanted.items():
        values = [_fields(run).get(field, KeyError) for run in left]
        if all(one is KeyError for one in values):
            known = {name for run in runs for name in _fields(run)}
            raise unknown("field of a run in --where", field, known)
        kept = [run for run, one in zip(left, values, strict=True) if _same(one, value)]
        if not kept:
            there = dict.fromkeys(shown(one) for one in values if one is not KeyError)
            raise UserError(
                f"--where {field}={shown(value)}: no run has it; {field} is {', '.join(there)}"
            )
        left = kept
    return left


def _same(value: Any, wanted: Any) -> bool:
    if value is KeyError:
        return False
    # The value of an option that stands for no limit, and the words that a label shows.
    return value == wanted or shown(value) == shown(wanted)


def _fields(run: FinishedRun) -> dict[str, Any]:
    """Return the fields of both parts of a card by name, and those of the configuration bare."""
    method, protocol = run.card.method, run.card.protocol
    fields: dict[str, Any] = dict(method["config"])
    for name, value in {**method, **protocol}.items():
        if isinstance(value, Mapping):
            fields |= {f"{name}.{inner}": one for inner, one in value.items()}
        else:
            fields[name] = value
    if isinstance(method.get("stream"), Mapping):
        fields["stream"] = method["stream"].get("name")
    return fields


@dataclass(frozen=True)
class Wanted:
    """Rows that the user names.

    Attributes:
        text: what was typed; it may be the label of a row.
        method: the method that it names otherwise.
        settings: the values of the configuration that it names with the method.
    """

    text: str
    method: str
    settings: Mapping[str, Any]

    def names(self, row: Row) -> bool:
        """Say whether a row is meant."""
        if self.text in (row.label, row.first.name):
            return True
        method = row.first.card.method
        return method["method"] == self.method and all(
            key in method["config"] and _same(method["config"][key], value)
            for key, value in self.settings.items()
        )


def chosen_runs(
    rows: Sequence[Row], only: Sequence[Wanted], without: Sequence[Wanted]
) -> list[FinishedRun]:
    """Return the runs of the rows that are wanted.

    Args:
        rows: the rows of all tables.
        only: rows to keep, all of them where none is named.
        without: rows to leave out.

    Raises:
        UserError: a name is of no row, or no row is left.
    """
    for option, several in (("--only", only), ("--without", without)):
        for wanted in several:
            require_named(rows, wanted, option)
    runs = [
        run
        for row in rows
        if not only or any(wanted.names(row) for wanted in only)
        if not any(wanted.names(row) for wanted in without)
        for run in row.runs
    ]
    if not runs:
        raise UserError("--only and --without leave no row; name fewer in --without")
    return runs


def require_named(rows: Sequence[Row], wanted: Wanted, option: str) -> None:
    """Refuse a name of no row.

    Raises:
        UserError: it is of none.
    """
    if not any(wanted.names(row) for row in rows):
        known = {name for row in rows for name in (row.label, row.first.card.method["method"])}
        raise unknown(f"method in {option}", wanted.text, known)


def sorted_rows(rows: Sequence[Row], by: str) -> list[Row]:
    """Return rows in the order of a metric or a cost, the best first, those without it last.

    Args:
        rows: the rows.
        by: a metric, a cost, or `name` for the label.

    Raises:
        UserError: no row has a number of this name.
    """
    if by == BY_NAME:
        return sorted(rows, key=lambda row: row.label)
    require_number(rows, by, "--sort")
    # The plugin that brings the metric may be missing on this machine.
    metric = registry().metrics.get(by)
    is_cost = any(by in row.summary["cost"] for row in rows)
    rising = is_cost or (metric is not None and metric.spec.lower_is_better)

    def place(row: Row) -> tuple[bool, float]:
        value = number_of(row.summary, by)
        return value is None, 0.0 if value is None else (value if rising else -value)

    return sorted(rows, key=place)


def number_of(summary: Mapping[str, Any], name: str) -> float | None:
    """Return a metric or a cost of a row, None where it is no number."""
    value = summary.get(name, summary["cost"].get(name))
    return float(value) if is_number(value) else None


def require_number(rows: Sequence[Row], name: str, option: str) -> None:
    """Refuse the name of a metric or a cost of which no row has a number.

    Raises:
        UserError: no row has it.
    """
    if any(number_of(row.summary, name) is not None for row in rows):
        return
    known = {
        key
        for row in rows
        for key in (*row.summary, *row.summary["cost"])
        if number_of(row.summary, key) is not None
    }
    raise unknown(f"metric or cost in {option}", name, known)
