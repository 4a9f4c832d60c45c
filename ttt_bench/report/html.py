"""The report page: a whole comparison in one file that opens without a network."""

import io
import json
import re
import shlex
from collections.abc import Sequence
from importlib import resources
from typing import Any

import jinja2
import matplotlib
from markupsafe import Markup

from ttt_bench.compare.pairs import tabulate
from ttt_bench.compare.read import FinishedRun
from ttt_bench.report.comparison import ALL, comparison
from ttt_bench.report.disagreements import SHOWN, disagreements
from ttt_bench.report.figures import FIGURES
from ttt_bench.report.palette import TITLE
from ttt_bench.report.sentences import sentences

CAPTIONS = {
    "differences": "Differences to the baseline with 95 % intervals. Filled: more than noise.",
    "sweeps": "Top-1 with 95 % intervals, and time, over the fields that were swept.",
    "seeds": "Top-1 of each seed, with mean and standard deviation.",
    "pareto": "Top-1 against cost. Dashed: the Pareto front, the runs that no other beats in both.",
    "corruptions": "Top-1 under each corruption.",
    "steps": "Top-1 after each step. Dotted: the oracle over the steps, which sees the labels.",
    "calibration": "Accuracy against confidence. Calibrated methods lie on the diagonal.",
    "streams": "Running top-1 along the streams of online methods; the lines divide the groups.",
}
SECTIONS = [
    ("tables", "Tables"),
    ("figures", "Figures"),
    ("samples", "Disagreements"),
    ("protocol", "Protocol"),
]
# The colour of text and axes in figures; the page replaces it by that of its own text.
INK = "#010203"


def page(runs: Sequence[FinishedRun], reference: str | None = None) -> str:
    """Return the report of some runs, as HTML that links to nothing outside it.

    Args:
        runs: the runs.
        reference: published tables to set beside the measured numbers.

    Raises:
        UserError: runs of one table saw other pixels, or there is no such reference.
    """
    tables, left_out = tabulate(runs)
    compared = comparison(tables, reference)
    tables = compared.tables
    drawn = []
    for table in tables:
        for name, draw in FIGURES.items():
            if (figure := draw(table.rows)) is not None:
                caption = f"{table.title}: {CAPTIONS[name]}"
                drawn.append({"svg": Markup(svg(figure)), "caption": caption})
    shown = max(SHOWN // len(tables), 1)
    samples = [{"dataset": one.title, **disagreements(one.rows, shown)} for one in tables]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(_asset("page.html.j2"))
    datasets = ", ".join(dict.fromkeys(table.dataset for table in tables))
    return template.render(
        title=f"ttt-bench: {datasets}",
        intro=f"{len(runs)} runs on {datasets}, every row measured on the same samples.",
        summaries=[sentences(table) for table in tables],
        sections=SECTIONS,
        grids=compared.chosen([ALL]),
        notes=[*compared.notes, *left_out],
        figures=drawn,
        samples=samples,
        in_script=_in_script,
        runs=[_about(run, row.label) for table in tables for row in table.rows for run in row.runs],
        style=Markup(_asset("page.css")),
        script=Markup(_asset("page.js")),
    )


def svg(figure: Any) -> str:
    """Return a figure as an SVG element whose text takes the page's colour and font."""
    file = io.StringIO()
    figure.patch.set_alpha(0)
    ink = {name: INK for name in ("text.color", "axes.labelcolor", "axes.edgecolor")}
    for axis in figure.axes:
        axis.patch.set_alpha(0)
        axis.tick_params(colors=INK, which="both")
        axis.xaxis.label.set_color(INK)
        axis.yaxis.label.set_color(INK)
        for spine in axis.spines.values():
            spine.set_edgecolor(INK)
    for legend in figure.legends:
        legend.get_frame().set_alpha(0)
        for text in legend.get_texts():
            text.set_color(INK)
    settings: dict[Any, Any] = {**ink, "svg.fonttype": "none", "svg.hashsalt": "ttt-bench"}
    # A fixed salt makes the same figure the same text. Laid out here, it is drawn once, not twice.
    with matplotlib.rc_context(settings):
        figure.get_layout_engine().execute(figure)
        figure.set_layout_engine("none")
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    # A title is what a browser shows under the pointer, and what a screen reader says.
    text = re.sub(rf'<g id="{TITLE}([^"]*)">', r"<g><title>\1</title>", text[text.index("<svg") :])
    return text.replace(INK, "currentColor")


def _in_script(value: Any) -> Markup:
    """Return JSON as the text of a script element, which only a `<` could end."""
    return Markup(json.dumps(value).replace("<", "\\u003c"))


def _about(run: FinishedRun, name: str) -> dict[str, str]:
    card = run.card.as_json()
    return {
        "name": name,
        "dataset": str(run.card.protocol["dataset"]),
        "command": command(run),
        "card": json.dumps(card, indent=1, ensure_ascii=False),
        "environment": json.dumps(run.manifest["environment"], indent=1),
    }


def command(run: FinishedRun) -> str:
    """Return the command that makes a run again."""
    worker, protocol = run.manifest["worker"], run.card.protocol
    parts = ["ttt-bench", "run", "--method", worker["method"], "--dataset", worker["dataset"]]
    parts += ["--backbone", worker["backbone"], "--seed", str(worker["seed"])]
    if run.card.method["precision"] != "fp32":
        parts += ["--precision", run.card.method["precision"]]
    if protocol["limit"] is not None:
        parts += ["--limit", str(protocol["limit"])]
    stream = run.card.method.get("stream")
    if stream is not None:
        parts += ["--stream", stream["name"]]
        parts += ["--correlation", str(stream["correlation"])] if stream["correlation"] else []
        parts += ["--revisit"] if stream["revisited"] else []
    for option in ("weights", "data_root"):
        if worker.get(option):
            parts += [f"--{option.replace('_', '-')}", str(worker[option])]
    for key, value in worker["config"].items():
        # The hash of a file follows from the file.
        if not key.endswith("_sha256") and value is not None:
            parts += ["--set", f"{key}={json.dumps(value, ensure_ascii=False)}"]
    return shlex.join(parts)


def _asset(name: str) -> str:
    return (resources.files("ttt_bench.report.page") / name).read_text("utf-8")
