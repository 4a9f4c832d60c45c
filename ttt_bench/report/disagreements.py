"""Disagreements: samples that one method gets right and another wrong, with their pictures."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ttt_bench.api.errors import UserError
from ttt_bench.compare.rows import Row

# The most samples on a page, and the side of a thumbnail in pixels: they bound the page's size.
SHOWN = 120
SIDE = 96


def disagreements(rows: Sequence[Row], shown: int) -> dict[str, Any]:
    """Choose samples that some rows get right and others wrong, spread evenly over a dataset.

    Of a row with several seeds the first seed counts.

    Args:
        rows: the rows of one table.
        shown: the largest number of samples.

    Returns:
        `methods`, the rows' labels; `items`, each with `image` (a data address), `label`, `group`
        and `predictions` by method, as class names; `why_none`, the reason if there are none.
    """
    runs, labels = [row.first for row in rows], [row.label for row in rows]
    result: dict[str, Any] = {"methods": labels, "items": [], "why_none": ""}
    if len(runs) < 2:
        return {**result, "why_none": "There is one run only."}
    right = np.stack([run.records.correct for run in runs])
    differing = np.flatnonzero(right.any(axis=0) & ~right.all(axis=0))
    if not len(differing):
        return {**result, "why_none": "The methods are right and wrong on the same samples."}
    try:
        dataset = runs[0].load_dataset()
    except UserError as error:
        return {**result, "why_none": f"The pictures could not be loaded: {error}"}
    entries = {dataset.sample_id(index): index for index in range(len(dataset.entries))}
    spread = np.linspace(0, len(differing) - 1, min(shown, len(differing))).round().astype(int)
    records = runs[0].records
    places: list[int] = differing[spread].tolist()
    for place in places:
        index = entries.get(records.sample_id[place])
        if index is None:
            continue
        result["items"].append(
            {
                "image": _thumbnail(dataset.open(index)),
                "label": dataset.classes.names[records.label[place]],
                "group": records.group[place],
                "predictions": {
                    name: dataset.classes.names[run.records.prediction[place]]
                    for name, run in zip(labels, runs, strict=True)
                },
            }
        )
    return result


def _thumbnail(image: Image.Image) -> str:
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    # Small pictures stay exact; photographs are smaller as JPEG.
    format_ = "png" if max(image.size) <= SIDE // 2 else "jpeg"
    image.save(file, format_, quality=80)
    return f"data:image/{format_};base64,{base64.b64encode(file.getvalue()).decode()}"
