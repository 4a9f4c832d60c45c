"""The pages of the audit: one for each claim, and the overview."""

from collections.abc import Mapping, Sequence

from tools.auditing.claims import Claim
from tools.auditing.comparing import Runs
from tools.auditing.lines import Line, Outcome
from tools.result_text import table, time_of, wrapped

HERE = "docs/audit"
MADE = "<!-- Made by `python tools/audit.py`; nobody writes here by hand. -->"
OVERVIEW = (
    "Papers on test-time training and adaptation claim gains. This audit runs what can be run "
    "here, with the same views and inputs for every row, no labels, a reset that is checked, "
    "paired statistics and counted costs. [The rules](protocol.md) say what a verdict is and how "
    "to submit runs; [the leaderboard](leaderboard.md) lists the rows of all files.",
    'The models here are small: a verdict is about what was run, and "here" is part of it. The '
    "claim as its paper tests it is *not testable here*, and the claim's page has the one command "
    "that tests it.",
)


def claim_page(claim: Claim, runs: Runs, outcome: Outcome) -> str:
    """Return the page of a claim.

    Args:
        claim: the claim.
        runs: its runs by name, empty where it has none.
        outcome: what they show.
    """
    every = [run for some in runs.values() for run in some]
    blocks = [
        f"# {claim.title}",
        MADE,
        wrapped(f"**Source.** {claim.source}"),
        *map(wrapped, claim.about),
        *outcome.blocks,
        "## See it again",
        f"```sh\n{chr(10).join(_commands(claim, runs))}\n```",
        *([wrapped(time_of(every))] if every else []),
    ]
    if claim.elsewhere:
        blocks += [
            "## Not testable here",
            wrapped(f"The claim as its paper tests it needs {claim.needs}. The command:"),
            f"```sh\n{claim.elsewhere}\n```",
        ]
    return "\n\n".join(blocks) + "\n"


def _commands(claim: Claim, runs: Runs) -> list[str]:
    """Return what a reader types to see the numbers of a page again."""
    page = f"python tools/audit.py {claim.name}"
    if not runs:
        return [f"{page}   # this page"]
    return [
        *(
            f"ttt-bench verify {file} --samples 4   # some samples of each run again"
            for file in claim.files
        ),
        f"ttt-bench run --config audit/{claim.name}.yaml -o build/audit/{claim.name}   # all runs",
        f"{page} --runs build/audit/{claim.name}   # this page from them",
    ]


def overview(lines: Mapping[str, Sequence[Line]], claims: Sequence[Claim]) -> str:
    """Return the overview.

    Args:
        lines: the rows by the claims' names.
        claims: the claims, in their order.
    """
    rows = [["claim", "tested", "on", "result", "p", "GFLOPs", "verdict"]]
    for claim in claims:
        first = f"[{claim.title}]({claim.name}.md)"
        for line in lines[claim.name]:
            rows.append(
                [first, line.question, line.tested, line.result, line.p, line.cost,
                 line.verdict if line.verdict.startswith("(") else f"**{line.verdict}**"]
            )  # fmt: skip
            first = ""
        if claim.elsewhere:
            rows.append(
                [first, "as its paper tests it", claim.needs, "", "", "", "**not testable here**"]
            )
    note = (
        "Results are points of top-1 with 95 % intervals, the first side less the second; p after "
        "Holm's correction for the comparisons of the claim. GFLOPs are for a sample, of the first "
        "and of the second side. Where nothing was told apart, the smallest gain is given that "
        "the runs would have shown in 4 of 5 cases."
    )
    return (
        "\n\n".join(
            [
                "# The audit",
                MADE,
                *map(wrapped, OVERVIEW),
                table(rows, numbers=False),
                wrapped(note),
            ]
        )
        + "\n"
    )
