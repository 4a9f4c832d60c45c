"""Make the pages of the audit from the results of its claims.

    python tools/audit.py                        # every page, and the overview
    python tools/audit.py tpt-views              # the page of a claim, and the overview
    python tools/audit.py tpt-views --runs DIR   # its page from runs of your own; writes it alone
    python tools/audit.py --check                # write nothing; exit 1 if a page would change

A claim's runs are those of `ttt-bench run --config audit/CLAIM.yaml`, its results the files in
audit/results that `ttt-bench export` made of them.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from tools.auditing.claims import CLAIMS, Claim
from tools.auditing.comparing import Runs
from tools.auditing.pages import HERE, claim_page, overview
from tools.written import write_changed
from ttt_bench.api.errors import UserError
from ttt_bench.compare.read import FinishedRun, read_runs
from ttt_bench.runner.config_file import entries, read_file

ROOT = Path(__file__).parents[1]


def runs_of(claim: Claim, path: Path | None = None) -> Runs:
    """Read the runs of a claim, in the order of its file.

    Args:
        claim: the claim.
        path: a folder or an exported file; None for the results of this repository.

    Returns:
        The runs that are there by name, in the order of their seeds; nothing for a claim that needs
        no runs.

    Raises:
        UserError: there are none, or one is damaged.
    """
    if not claim.has_runs:
        return {}
    file = ROOT / "audit" / f"{claim.name}.yaml"
    names = [one.name or one.method for one in entries(file, read_file(file))]
    found: dict[str, list[FinishedRun]] = {name: [] for name in names}
    paths = [path] if path else [ROOT / name for name in claim.files]
    for run in read_runs(paths, warn=lambda _: None):
        if run.name in found:
            found[run.name].append(run)
    kept = {name: sorted(some, key=_seed) for name, some in found.items() if some}
    if not kept:
        raise UserError(
            f"{claim.name}: none of its runs is there; make them with "
            f"`ttt-bench run --config audit/{claim.name}.yaml`"
        )
    return kept


def _seed(run: FinishedRun) -> int:
    return int(run.card.protocol["seed"])


def pages(names: Sequence[str], root: Path) -> dict[Path, str]:
    """Return the text of the overview, and of the pages of some claims.

    Args:
        names: the claims whose pages are made again.
        root: the folder in which the pages' folder lies.

    Raises:
        UserError: runs are missing.
    """
    lines, texts = {}, {}
    for claim in CLAIMS:
        runs = runs_of(claim)
        outcome = claim.part.outcome(runs)
        lines[claim.name] = outcome.lines
        if claim.name in names:
            texts[root / HERE / f"{claim.name}.md"] = claim_page(claim, runs, outcome)
    texts[root / HERE / "index.md"] = overview(lines, CLAIMS)
    return texts


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [claim.name for claim in CLAIMS]
    parser.add_argument("claim", nargs="*", help="the claims; all of them by default")
    parser.add_argument("--runs", type=Path, help="folder or file with runs of one claim")
    parser.add_argument("--check", action="store_true", help="exit 1 if a page would change")
    options = parser.parse_args(arguments)
    if unknown := set(options.claim) - set(names):
        parser.error(f"no claim is called {', '.join(unknown)}; there are {', '.join(names)}")
    if options.runs and len(options.claim) != 1:
        parser.error("--runs is for one claim; name it")
    try:
        if options.runs:
            (claim,) = (one for one in CLAIMS if one.name == options.claim[0])
            runs = runs_of(claim, options.runs)
            text = claim_page(claim, runs, claim.part.outcome(runs))
            texts = {ROOT / HERE / f"{claim.name}.md": text}
        else:
            texts = pages(options.claim or names, ROOT)
    except UserError as error:
        print(f"audit: {error}", file=sys.stderr)
        return 2
    return write_changed(texts, ROOT, options.check)


if __name__ == "__main__":
    sys.exit(main())
