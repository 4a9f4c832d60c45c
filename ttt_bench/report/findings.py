"""Sentences that say which differences between methods are more than noise."""

from collections.abc import Mapping, Sequence
from typing import Any

from ttt_bench.compare.statistics import LEVEL
from ttt_bench.report.notes import shown_backbone

SMALLEST_P = 0.0001


def findings(compared: Mapping[str, Any]) -> list[str]:
    """Return which methods are better than which others, or that no difference is more than noise.

    Differences between methods of one backbone are described method by method. The other ones are
    counted, or described if there are no differences within a backbone.

    Args:
        compared: rows and pairs, as `compare` returns them.

    Returns:
        One sentence where no difference is more than noise, a heading and sentences otherwise.
    """
    rows, pairs = compared["rows"], compared["pairs"]
    if not pairs:
        return []
    backbones = {row["path"]: shown_backbone(row) for row in rows}
    datasets = {row["path"]: row["column"] for row in rows}
    names = {row["path"]: row["variant"] for row in rows}
    within: list[Mapping[str, Any]] = []
    between: list[Mapping[str, Any]] = []
    for pair in pairs:
        alike = backbones[pair["a"]["path"]] == backbones[pair["b"]["path"]]
        (within if alike else between).append(pair)
    described, counted = (within, between) if within else (between, [])
    prefixes = {
        path: ": ".join(
            value
            for value, values in ((datasets[path], datasets), (backbones[path], backbones))
            if len(set(values.values())) > 1 and (within or values is datasets)
        )
        for path in names
    }
    heading = _heading(described, len(pairs), names, of_one_backbone=bool(counted))
    winners, count = _winners(described, names, prefixes), _between_backbones(counted)
    return [heading, *winners, *count] if winners else [" ".join([heading, *count])]


def _heading(
    pairs: Sequence[Mapping[str, Any]],
    corrected: int,
    names: Mapping[str, str],
    of_one_backbone: bool,
) -> str:
    """Return the sentence before the differences, or the one that says that there are none.

    Args:
        pairs: the pairs that are described.
        corrected: the number of pairs that Holm's correction is for.
        names: the name of each run.
        of_one_backbone: whether pairs of different backbones are not among them.
    """
    among = "methods of one backbone" if of_one_backbone else "methods"
    correction = f" after Holm's correction for {corrected} pairs" if corrected > 1 else ""
    if any(pair["p_holm"] < LEVEL for pair in pairs):
        return (
            f"Differences between {among} that are more than noise (p below {LEVEL}{correction}):"
        )
    smallest = min(pairs, key=lambda pair: pair["p_holm"])
    p_value = p_text(smallest["p_holm"])
    none = f"No difference between {among} is more than noise"
    if len(pairs) > 1:
        return f"{none}: the smallest p{correction} is {p_value}."
    low, high = smallest["ci95"]
    first, second = (names[smallest[side]["path"]] for side in ("a", "b"))
    return (
        f"{none}: {first} less {second} is {smallest['difference']:+.1f} points (95 % interval "
        f"{low:+.1f} to {high:+.1f}, p {p_value}{correction})."
    )


def _winners(
    pairs: Sequence[Mapping[str, Any]], names: Mapping[str, str], prefixes: Mapping[str, str]
) -> list[str]:
    """Return which methods are better than others, one backbone after another.

    Methods that are better than the same ones share a sentence. One that is better than a single
    other has its own, with the interval.
    """
    better: dict[str, list[tuple[str, Mapping[str, Any]]]] = {path: [] for path in names}
    for pair in pairs:
        if pair["p_holm"] < LEVEL:
            winner, loser = ("a", "b") if pair["difference"] > 0 else ("b", "a")
            better[pair[winner]["path"]].append((names[pair[loser]["path"]], pair))
    order = list(dict.fromkeys(prefixes.values()))
    alike: dict[tuple[str, ...], list[str]] = {}
    for path in sorted(better, key=lambda path: order.index(prefixes[path])):
        if better[path]:
            losers = [name for name, _ in better[path]]
            own = [path] if len(losers) == 1 else []
            alike.setdefault((prefixes[path], *losers, *own), []).append(path)
    sentences = []
    for winners in alike.values():
        prefix, won = prefixes[winners[0]], [pair for path in winners for pair in better[path]]
        losers = list(dict.fromkeys(name for name, _ in won))
        sentence = _better([names[path] for path in winners], losers, [pair for _, pair in won])
        sentences.append(f"{prefix}: {sentence}" if prefix else sentence)
    return sentences


def _better(
    winners: Sequence[str], losers: Sequence[str], pairs: Sequence[Mapping[str, Any]]
) -> str:
    differences = [abs(pair["difference"]) for pair in pairs]
    p_value = p_text(max(pair["p_holm"] for pair in pairs))
    if len(pairs) == 1:
        low, high = sorted(
            bound if pairs[0]["difference"] > 0 else -bound for bound in pairs[0]["ci95"]
        )
        numbers = (
            f"{differences[0]:.1f} points (95 % interval {low:.1f} to {high:.1f}, p {p_value})"
        )
    else:
        at_most = p_value if p_value.startswith("below") else f"at most {p_value}"
        low, high = f"{min(differences):.1f}", f"{max(differences):.1f}"
        numbers = f"{low if low == high else f'{low} to {high}'} points (p {at_most})"
    verb = "is" if len(winners) == 1 else "are each"
    return f"{_listed(winners)} {verb} better than {_listed(losers)} by {numbers}."


def _between_backbones(pairs: Sequence[Mapping[str, Any]]) -> list[str]:
    if not pairs:
        return []
    clear = sum(pair["p_holm"] < LEVEL for pair in pairs)
    return [
        f"Between methods of different backbones, {clear} of {len(pairs)} differences are more "
        "than noise."
    ]


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def p_text(p: float) -> str:
    """Return a p-value as text, as a bound where it is very small."""
    return f"below {SMALLEST_P}" if p < SMALLEST_P else f"{p:.2g}"
