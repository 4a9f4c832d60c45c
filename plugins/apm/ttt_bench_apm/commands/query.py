"""`ttt-bench apm query`."""

import json
from pathlib import Path

import click

from ttt_bench_apm.commands import options


class Point(click.ParamType):
    """`y,x` as fractions of the square, from the top left."""

    name = "y,x"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        """Two numbers from 0 to 1."""
        if isinstance(value, tuple):
            return value
        try:
            y, x = (float(part) for part in str(value).split(","))
        except ValueError:
            y = x = -1.0
        if not (0 <= y <= 1 and 0 <= x <= 1):
            self.fail(f"{value!r} is not two fractions from 0 to 1, as 0.5,0.25", param, ctx)
        return y, x


@click.command("query", short_help="Ask single locations, one at a time.")
@options.image
@click.option("--at", "points", type=Point(), multiple=True, required=True,
              help="y,x as fractions of the image's centred square, 0,0 its top left; may be "
                   "repeated, and is asked in that order.")  # fmt: skip
@options.checkpoint
@options.fine
@options.device
@options.output
def query(
    image: Path | None,
    points: tuple[tuple[float, float], ...],
    checkpoint: Path | None,
    fine: int,
    device: str,
    output: Path,
) -> None:
    """Ask IMAGE at single locations, each by itself, and print what it answers as JSON lines.

    The picture shows where, and how alike the features of all --fine x --fine locations are to each
    answer. Standard error says how far the answers are from those of all points asked at once.
    """
    import torch
    import torch.nn.functional as F

    from ttt_bench_apm.analysis.drawing import save_figure
    from ttt_bench_apm.analysis.figures import points_figure
    from ttt_bench_apm.self_supervised.locations import from_fractions

    trained = options.load_trained(checkpoint, device)
    subject, name = options.load_subject(image, trained), options.name_of(image)
    fractions = torch.tensor(points, device=subject.image.device)
    at = from_fractions(trained.network.sizes.grid, fractions)
    field = subject.ask(subject.grid(fine))
    alone = [subject.ask(one[None]) for one in at]
    together = subject.ask(at)
    for point, answer in zip(points, alone, strict=True):
        values = {
            "at": point,
            "rgb": answer.rgb[0].tolist(),
            "feature": answer.features[0].tolist(),
        }
        click.echo(json.dumps(values))
    features = torch.cat([answer.features for answer in alone])
    off = (features - together.features).abs().max() / together.features.abs().max()
    click.echo(f"asked one by one and all at once: {off:.1e} of the scale apart", err=True)
    every = trained.less_mean(field.features, subject.grid(fine))
    features = trained.less_mean(features, at)
    mean = every.mean(0)
    similarities = F.normalize(features - mean) @ F.normalize(every - mean).T
    figure = points_figure(
        subject.seen, field.rgb.cpu().numpy().clip(0, 1), points, list(similarities.cpu().numpy()),
        f"{name}: features of {fine}x{fine} locations, and those alike to the asked ones",
    )  # fmt: skip
    click.echo(save_figure(figure, output / f"{name}-query.png"), err=True)
