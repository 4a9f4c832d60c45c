"""The group `ttt-bench apm`; each of its commands is a file."""

import click

from ttt_bench_apm.commands.features import features
from ttt_bench_apm.commands.interpolate import interpolate
from ttt_bench_apm.commands.islands import islands
from ttt_bench_apm.commands.query import query
from ttt_bench_apm.commands.reconstruct import reconstruct
from ttt_bench_apm.commands.sweep import sweep
from ttt_bench_apm.commands.train import train
from ttt_bench_apm.commands.video_islands import video_islands


@click.group("apm", short_help="Train the self-supervised APM and draw what it perceives.")
def apm() -> None:
    """Draw and measure what APM perceives, and train the self-supervised APM.

    Every command runs on embedded models and, without an IMAGE, on an embedded photograph.

    \b
    ttt-bench apm features photo.jpg
    ttt-bench apm query photo.jpg --at 0.5,0.25
    ttt-bench apm islands photo.jpg
    """


for command in (
    features,
    reconstruct,
    interpolate,
    query,
    sweep,
    islands,
    video_islands,
    train,
):
    apm.add_command(command)
