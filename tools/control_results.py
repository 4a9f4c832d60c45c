"""The part of a result page that compares each method with its control.

A control does with a method's inputs the plain thing: it averages the same views, or classifies
the image as it is. What a method gains over its control is what its own idea gains.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tools.result_text import signed, table, wrapped
from ttt_bench.compare.statistics import LEVEL, holm
from ttt_bench.report.findings import p_text

PLAIN, ALL_VIEWS, CONFIDENT_VIEWS = "clip-zero-shot", "view-mean", "confident-mean"
# The control of each method on CLIP.
CLIP_CONTROLS = {
    **dict.fromkeys(("clip-ensemble", "temperature", ALL_VIEWS, "view-vote"), PLAIN),
    **dict.fromkeys((CONFIDENT_VIEWS, "mta"), ALL_VIEWS),
    **dict.fromkeys(("zero", "vte", "tps", "tpt", "c-tpt", "r-tpt"), CONFIDENT_VIEWS),
    **dict.fromkeys(("dynaprompt", "rlcf", "ttl"), CONFIDENT_VIEWS),
    **dict.fromkeys(("tda", "boostadapter", "dpe", "dmn"), CONFIDENT_VIEWS),
    **dict.fromkeys(("coop", "cocoop", "apm"), PLAIN),
    **dict.fromkeys(("stata", "clipartt", "tent-clip", "watt", "onzeta", "ecalp"), PLAIN),
    "tpt-coop": "coop",
    "tpt-cocoop": "cocoop",
}


def compared_with_controls(
    compared: Mapping[str, Any], controls: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return each method less its control, in the order of the rows.

    Args:
        compared: rows and pairs, as `compare` returns them.
        controls: the control of each method.

    Returns:
        For each method that has a control among the rows: `method`, `control`, `difference` in
        points, `ci95`, and `p_holm` by Holm's correction for these pairs.
    """
    order = {row["method"]: number for number, row in enumerate(compared["rows"])}
    found = []
    for pair in compared["pairs"]:
        first, second = (pair[side]["method"] for side in ("a", "b"))
        for method, control, sign in ((first, second, 1), (second, first, -1)):
            if controls.get(method) == control:
                found.append(
                    {
                        "method": method,
                        "control": control,
                        "difference": sign * pair["difference"],
                        "ci95": sorted(sign * bound for bound in pair["ci95"]),
                        "p": pair["p"],
                    }
                )
    found.sort(key=lambda one: order[one["method"]])
    corrected = holm([one["p"] for one in found])
    return [{**one, "p_holm": p} for one, p in zip(found, corrected, strict=True)]


def control_blocks(compared: Mapping[str, Any], controls: Mapping[str, str]) -> list[str]:
    """Return the table of methods less their controls, and its findings in words.

    Args:
        compared: rows and pairs, as `compare` returns them.
        controls: the control of each method.
    """
    found = compared_with_controls(compared, controls)
    heading = ["method", "control", "method less control", "95 % interval", "p"]
    lines = [
        [
            one["method"],
            one["control"],
            signed(one["difference"]),
            " to ".join(map(signed, one["ci95"])),
            p_text(one["p_holm"]),
        ]
        for one in found
    ]
    sentences = [
        _sentence(control, [one for one in found if one["control"] == control])
        for control in dict.fromkeys(one["control"] for one in found)
    ]
    about = (
        "Points, with 95 % intervals over samples and seeds; p after Holm's correction for these "
        f"{len(found)} pairs, more than noise below {LEVEL}."
    )
    return [
        "**Each method and its control**",
        table([heading, *lines]),
        wrapped(about),
        "\n".join(wrapped(sentence, "- ") for sentence in sentences),
    ]


def _sentence(control: str, found: Sequence[Mapping[str, Any]]) -> str:
    """Return which methods are better than their control, worse, or not told apart from it."""
    clear = [one for one in found if one["p_holm"] < LEVEL]
    parts = {
        "better": [one["method"] for one in clear if one["difference"] > 0],
        "worse": [one["method"] for one in clear if one["difference"] < 0],
        "not told apart": [one["method"] for one in found if one["p_holm"] >= LEVEL],
    }
    named = (f"{part}: {', '.join(methods)}" for part, methods in parts.items() if methods)
    return f"Compared with {control}, {'; '.join(named)}."
