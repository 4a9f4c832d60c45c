"""`ttt-bench doctor`: whether this machine and what is installed on it are sound."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ttt_bench.api.text import plain
from ttt_bench.cli.options import data_root_option, format_option

if TYPE_CHECKING:
    from ttt_bench.doctor.proof import Effort


@click.command("doctor", short_help="Examine this machine, the plugins, folders and devices.")
@click.option(
    "--full",
    is_flag=True,
    help="Also try goldens, checks and speeds on each device; takes minutes.",
)
@click.option(
    "--device",
    metavar="DEVICE",
    help="Look at this device alone: cpu, cuda, cuda:1 or mps.  [default: all]",
)
@data_root_option
@format_option()
def command(full: bool, device: str | None, data_root: Path | None, format_: str) -> None:
    """Say what this machine is and what is broken on it; the exit code is 1 if anything is.

    Looks at versions, cores, memory and devices; imports every plugin and the code of everything
    that it brings; tries whether the feature cache and the folder of runs can be written to.

    With --full each device also proves that it computes what it should: the numbers of the
    original releases (`ttt-bench list goldens`), the conformance checks of apm, tpt and ttt-mae,
    and the share of the device's own matmul rate that zero-shot, TPT and APM reach with ViT-B/16.
    Nothing is downloaded.

    \b
    ttt-bench doctor
    ttt-bench doctor --full --device cuda
    """
    if not print_examination(full, device, data_root, format_):
        sys.exit(1)


def print_examination(
    full: bool,
    device: str | None,
    data_root: Path | None,
    format_: str,
    effort: "Effort | None" = None,
) -> bool:
    """Examine everything and print it; say whether nothing is broken.

    Args:
        full: whether each device is tried.
        device: the only device to look at; None for all.
        data_root: the folder that the user gave to look for datasets in, None for none.
        format_: `text` or `json`.
        effort: how much is tried on a device; None for everything.

    Raises:
        UserError: this machine has no such device.
    """
    from ttt_bench.doctor.examine import examine, proof_problems

    examined = examine(device, data_root)
    proofs = []
    if full and examined["devices"]:
        from ttt_bench.doctor.machine import Device
        from ttt_bench.doctor.proof import Effort, prove

        for facts in examined["devices"]:
            proofs.append(prove(Device(**facts), effort or Effort(), _report))
    problems = [*examined.pop("problems"), *proof_problems(proofs)]
    if format_ == "json":
        printed = {"ok": not problems, "problems": problems, **examined, "proofs": proofs}
        click.echo(json.dumps(printed, indent=2))
    else:
        from ttt_bench.doctor.page import show

        show(examined, proofs, problems)
    return not problems


def _report(line: str) -> None:
    click.echo(plain(line), err=True)
