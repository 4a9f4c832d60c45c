"""`ttt-bench apm query`."""

import json
from pathlib import Path

import click

from ttt_bench_apm.commands import options


class Point(click.ParamType):
    """A point `y,x` in fractions of the square, 0,0 at the top left."""

    name = "y,x"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        """Return both numbers."""
        if isinstance(value, tuple):
            return value
        try:
            y, x = (float(part) for part in str(value).split(","))
        except ValueError:
            y = x = -1.0
        if not (0 <= y <= 1 and 0 <= x <= 1):
            self.fail(f"{value!r} is not two fractions from 0 to 1, such as 0.5,0.25", param, ctx)
        return y, x


@click.command("query", short_help="Query single locations and print their features.")
@options.image
@click.option("--at", "points", type=Point(), multiple=True, required=True,
              help="Point to query, in fractions of the image's centred square, 0,0 at its top "
                   "left. May be repeated.")  # fmt: skip
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
    """Query IMAGE at single points, one after another, and print colour and feature as JSON lines.

    The figure shows the points, and how similar the features of --fine x --fine locations are to
    each of them. Standard error has the largest difference to querying all points at once.
    """
    import torch
    import torch.nn.functional as F

    from ttt_bench_apm.analysis.drawing import save_figure
    from ttt_bench_apm.analysis.figures import points_figure
    from ttt_bench_apm.self_supervised.locations import from_fractions

    trained = options.load_trained(checkpoint, device)
    photograph, name = options.load_photograph(image, trained), options.image_name(image)
    fractions = torch.tensor(points, device=photograph.image.device)  # (points, 2)
    locations = from_fractions(trained.network.sizes.grid, fractions)
    alone = [photograph.query(location[None]) for location in locations]
    together = photograph.query(locations)
    for point, values in zip(points, alone, strict=True):
        line = {
            "at": point,
            "rgb": values.rgb[0].tolist(),
            "feature": values.features[0].tolist(),
        }
        click.echo(json.dumps(line))
    features = torch.cat([values.features for values in alone])  # (points, D)
    difference = (features - together.features).abs().max() / together.features.abs().max()
    click.echo(
        f"largest difference to all points at once: {difference:.1e} of the largest feature",
        err=True,
    )
    grid = photograph.grid(fine)
    field = photograph.query(grid)
    field_features = trained.subtract_mean_field(field.features, grid)  # (fine*fine, D)
    mean = field_features.mean(0)
    features = trained.subtract_mean_field(features, locations)
    # (points, D) x (D, fine*fine) -> (points, fine*fine)
    similarities = F.normalize(features - mean) @ F.normalize(field_features - mean).T
    figure = points_figure(
        photograph.input_display, field.rgb.cpu().numpy().clip(0, 1), points,
        list(similarities.cpu().numpy()),
        f"{name}: features of {fine}x{fine} locations, and their similarity to the queried points",
    )  # fmt: skip
    click.echo(save_figure(figure, output / f"{name}-query.png"), err=True)
