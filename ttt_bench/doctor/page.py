"""The page of text that `ttt-bench doctor` prints."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ttt_bench.api.text import plain

WIDTH = 80


def show(examined: dict[str, Any], proofs: Sequence[dict[str, Any]], problems: list[str]) -> None:
    """Print the page to standard output.

    Args:
        examined: what `examine` returned.
        proofs: what `prove` returned for each device.
        problems: a line for each thing that is broken.
    """
    terminal = Console()
    console = Console(width=min(WIDTH, terminal.width) if terminal.is_terminal else WIDTH)
    _section(console, "Versions", [_versions(examined["versions"])])
    _section(console, "Machine", [_machine(examined["machine"])])
    _section(console, "Devices", map(_device, examined["devices"]))
    _section(console, "Plugins", map(_plugin, examined["plugins"]))
    _section(console, "Folders", map(_folder, examined["folders"]))
    for proof in proofs:
        _show_proof(console, proof)
    if problems:
        _section(console, "Broken", [[problem] for problem in problems])
    else:
        console.print("Nothing is broken.")


def _section(console: Console, title: str, rows: Iterable[Sequence[str]]) -> None:
    """Print a title and rows below it, whose cells are folded to fit."""
    console.print(Text(title, "bold"))
    table = Table(box=None, show_header=False, padding=(0, 1), pad_edge=False)
    for row in rows:
        while len(table.columns) < len(row) + 1:
            table.add_column(overflow="fold")
        # In a `Text` no name is taken for rich's markup.
        table.add_row("", *(Text(plain(cell)) for cell in row))
    console.print(table)


def _versions(versions: dict[str, str]) -> list[str]:
    return [", ".join(f"{name} {version or 'missing'}" for name, version in versions.items())]


def _machine(facts: dict[str, Any]) -> list[str]:
    return [
        f"{facts['system']}, {facts['processor']}, {facts['cores']} cores, of which this process "
        f"may use {facts['usable_cores']}, {_memory(facts['memory_gb'], facts['available_gb'])}"
    ]


def _memory(total: float, free: float | None) -> str:
    return f"{total:.1f} GB of memory" + ("" if free is None else f" ({free:.1f} free)")


def _device(device: dict[str, Any]) -> list[str]:
    capability = f", capability {device['capability']}" if device["capability"] else ""
    product = f"{device['product']}{capability}"
    return [device["name"], product, _memory(device["memory_gb"], device["free_gb"])]


def _plugin(plugin: dict[str, Any]) -> list[str]:
    source = f"{plugin['distribution']} {plugin['version']}"
    state = "BROKEN" if plugin["problems"] else "sound"
    return [plugin["name"], source, f"brings {plugin['specs']}", state]


def _folder(folder: dict[str, Any]) -> list[str]:
    state = "writable" if folder["writable"] else "not writable"
    path = folder["path"] if folder["exists"] else f"{folder['path']} (not there yet)"
    return [folder["purpose"], state, f"{folder['free_gb']:,.0f} GB free", path]


def _show_proof(console: Console, proof: dict[str, Any]) -> None:
    name, threads = proof["device"], proof["threads"]
    _section(console, f"Goldens on {name}", map(_golden, proof["goldens"]))
    _section(console, f"Checks on {name}", map(_checked, proof["checks"]))
    title = f"Speed on {name}, one sample, 1 CPU thread" if threads == 1 else f"Speed on {name}"
    rates = proof["matmul_gflops_per_second"].items()
    rows = [["matmul", name, "", "", f"{rate:,.0f} GFLOP/s", "100 %"] for name, rate in rates]
    _section(console, title, [*rows, *map(_speed, proof["speeds"])])


def _golden(row: dict[str, Any]) -> list[str]:
    if row["difference"] is None:
        return [row["name"], "FAILED", row["error"]]
    return [
        row["name"],
        "FAILED" if row["error"] else "passed",
        f"{row['worst']} differs by {row['difference']:.1e} of its largest value; "
        f"{row['tolerance']:.0e} is allowed",
    ]


def _checked(row: dict[str, Any]) -> list[str]:
    counts = ", ".join(f"{count} {word}" for word, count in row["counts"].items() if count)
    return [row["name"], "FAILED" if row["error"] else "passed", counts or row["error"]]


def _speed(row: dict[str, Any]) -> list[str]:
    if row["error"]:
        return [row["name"], row.get("precision", ""), "FAILED", row["error"]]
    return [
        row["name"],
        row["precision"],
        f"{row['seconds_per_sample'] * 1000:,.1f} ms",
        f"{row['gflops_per_sample']:,.0f} GFLOP",
        f"{row['gflops_per_second']:,.0f} GFLOP/s",
        f"{row['share']:.0%}".replace("%", " %"),
    ]
