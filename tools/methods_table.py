"""Make the table of all methods in docs/methods/index.md.

    python tools/methods_table.py                  # write the table, from specs and numbers
    python tools/methods_table.py --check          # write nothing; exit 1 if the page would change
    python tools/methods_table.py count [METHOD]   # count GFLOPs; what is counted is kept
    python tools/methods_table.py goldens [KIND]   # compare with the numbers of the releases

Counted GFLOPs are kept in tools/method_costs.json, differences to the releases in
tools/method_goldens.json. The table stands between the comments `<!-- methods -->` and
`<!-- end -->`; nobody writes there by hand.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))

from tools.result_text import wrapped
from tools.written import write_changed
from ttt_bench.api.specs import AdapterSpec
from ttt_bench.registry import registry
from ttt_bench.testing.goldens import GoldenResult, compare

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "methods" / "index.md"
COSTS = ROOT / "tools" / "method_costs.json"
GOLDENS = ROOT / "tools" / "method_goldens.json"
DRAWN = ROOT / "build" / "method_costs"
MARK = re.compile(r"(<!-- methods -->\n)(.*?)(<!-- end -->)", re.DOTALL)
# The page of each plugin's methods.
PAGES = {
    "baselines": "index.md",
    "apm": "apm.md",
    "tpt": "tpt.md",
    "clip_tta": "clip.md",
    "tta": "classic.md",
    "ttt_mae": "ttt-mae.md",
}
COLUMNS = ("ViT-B/16", "ResNet-50")
HEADING = (
    "method", "paper", "year", "kind", "trains", "keeps", "backbone", "labelled or source data",
    *(f"GFLOPs, {column}" for column in COLUMNS), "difference to the release", "release, licence",
)  # fmt: skip
NOTHING, NOT_COUNTED = "-", "not counted yet"


def shipped() -> dict[str, AdapterSpec]:
    """Return the methods of this repository's plugins, family by family."""
    items = registry().adapters.values()
    return {
        item.spec.name: item.spec
        for plugin in PAGES
        for item in items
        if item.plugin.name == plugin
    }


def by_method(result: GoldenResult) -> dict[str, float]:
    """Return the largest relative difference of each method that a golden covers.

    An output belongs to the method whose name it begins with, hyphens and such aside. A method
    without outputs of its own has those that belong to no method, or else all of them.

    Args:
        result: what the golden's comparison gave.
    """
    methods, differences = result.spec.methods, result.max_rel_diff
    owners = {
        output: max(
            (m for m in methods if _letters(output).startswith(_letters(m))), key=len, default=""
        )
        for output in differences
    }
    outputs = {
        owner: [differences[o] for o in owners if owners[o] == owner] for owner in owners.values()
    }
    unowned, every = outputs.get("", []), list(differences.values())
    return {method: max(outputs.get(method) or unowned or every) for method in methods}


def _letters(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def rows(costs: Mapping[str, Any], goldens: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the table's rows, without the heading.

    Args:
        costs: the content of tools/method_costs.json.
        goldens: the content of tools/method_goldens.json.
    """
    counted = costs.get("gflops", {})
    return [
        (
            _name(spec),
            *_paper(spec.paper),
            spec.kind,
            spec.trains or NOTHING,
            spec.keeps or NOTHING,
            ", ".join(sorted(spec.needs)) or NOTHING,
            spec.labelled_data or NOTHING,
            *(_gflops(counted.get(spec.name, {}), column) for column in COLUMNS),
            "; ".join(_difference(*item) for item in goldens.get(spec.name, {}).items()) or NOTHING,
            _release(spec.release),
        )
        for spec in shipped().values()
    ]


def _name(spec: AdapterSpec) -> str:
    """Return the method's name with a link to its section, or to the page of its plugin."""
    for page in dict.fromkeys(PAGES.values()):
        text = (PAGE.parent / page).read_text("utf-8")
        if re.search(rf"^#+ {re.escape(spec.name)}$", text, re.MULTILINE):
            return f"[`{spec.name}`]({page}#{spec.name})"
    page = PAGES[registry().adapters[spec.name].plugin.name]
    return f"[`{spec.name}`]({page}{'#baselines' if page == PAGE.name else ''})"


def _paper(paper: str) -> tuple[str, str]:
    """Return the authors, with a link where there is an arXiv number, and the year."""
    named = re.match(r"(.+?) (\d{4}), ", paper)
    if named is None:
        return NOTHING, NOTHING
    number = re.search(r"arXiv\s(\d{4}\.\d{5})", paper)
    authors, year = named.groups()
    return f"[{authors}](https://arxiv.org/abs/{number[1]})" if number else authors, year


def _gflops(counted: Mapping[str, float | None], column: str) -> str:
    if column not in counted:
        return NOT_COUNTED
    number = counted[column]
    if number is None:
        return NOTHING
    return f"{number:.3g}" if number < 1000 else f"{float(f'{number:.3g}'):,.0f}"


def _difference(kind: str, difference: float) -> str:
    number = f"{difference:.0e}".replace("e-0", "e-") if difference else "0"
    return f"{number} (`{kind}`)"


def _release(release: str) -> str:
    repository, _, licence = release.partition(", ")
    return f"[{repository}](https://github.com/{repository}), {licence}" if licence else NOTHING


def part() -> str:
    """Return the text between the marks."""
    costs, goldens = (json.loads(path.read_text("utf-8")) for path in (COSTS, GOLDENS))
    rule = ["---:" if heading.startswith("GFLOPs") else "---" for heading in HEADING]
    table = "\n".join(f"| {' | '.join(row)} |" for row in (HEADING, rule, *rows(costs, goldens)))
    versions = ", ".join(f"{name} {version}" for name, version in costs["versions"].items())
    counted = wrapped(
        f"GFLOPs are those of a sample, forward and backward, with {costs['classes']} classes and "
        f"drawn weights ({versions}); {NOTHING}: the method does not run on the backbone."
    )
    return f"\n{table}\n\n{counted}\n\n"


def write(check: bool) -> int:
    """Write the page, and return the exit status.

    Args:
        check: whether to write nothing, and to return 1 if the page would change.
    """
    before = PAGE.read_text("utf-8")
    after = MARK.sub(lambda mark: f"{mark[1]}{part()}{mark[3]}", before)
    return write_changed({PAGE: after}, ROOT, check)


def compare_goldens(kinds: Sequence[str]) -> None:
    """Compare methods with the numbers of their releases, and keep the differences.

    Args:
        kinds: the goldens to compare with; empty for all, which forgets what was kept.
    """
    found: dict[str, dict[str, float]] = json.loads(GOLDENS.read_text("utf-8")) if kinds else {}
    for kind, item in registry().goldens.items():
        if item.plugin.name not in PAGES or (kinds and kind not in kinds):
            continue
        for method, difference in by_method(compare(item.spec)).items():
            found.setdefault(method, {})[kind] = float(f"{difference:.0e}")
            print(f"{method}: {difference:.0e} ({kind})", flush=True)
    GOLDENS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Type a command of this script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "command", nargs="?", default="write", choices=["write", "count", "goldens"]
    )
    parser.add_argument("names", nargs="*", help="methods to count again, or kinds of goldens")
    parser.add_argument("--check", action="store_true", help="exit 1 if the page would change")
    options = parser.parse_args(arguments)
    if options.command == "write":
        return write(options.check)
    if options.command == "goldens":
        compare_goldens(options.names)
        return 0
    if unknown := set(options.names) - set(shipped()):
        parser.error(f"no methods are called {', '.join(sorted(unknown))}")
    from tools.count_costs import count

    count(COSTS, DRAWN, options.names, list(shipped()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
