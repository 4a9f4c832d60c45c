"""`ttt-bench apm`: what the network perceives, drawn and measured. Each command is a file."""

import click

from ttt_bench_apm.commands.features import features
from ttt_bench_apm.commands.interpolate import interpolate
from ttt_bench_apm.commands.islands import islands
from ttt_bench_apm.commands.query import query
from ttt_bench_apm.commands.reconstruct import reconstruct
from ttt_bench_apm.commands.sweep import sweep
from ttt_bench_apm.commands.train import train
from ttt_bench_apm.commands.video_islands import video_islands


@click.group("apm", short_help="Draw what APM perceives; train the self-supervised APM.")
def apm() -> None:
    """What APM perceives: fields, islands, reconstruction, interpolation, cost.

    Every command runs on the embedded models and, without an IMAGE, on an embedded photograph.

    \b
    ttt-bench apm islands photo.jpg
    ttt-bench apm features photo.jpg
    ttt-bench apm query photo.jpg --at 0.5,0.25
    """


for command in (
    islands,
    train,
    features,
    reconstruct,
    interpolate,
    query,
    sweep,
    video_islands,
):
    apm.add_command(command)
