"""The samples that one method gets right and another wrong, with their pictures."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ttt_bench.api.dataset import Dataset
from ttt_bench.api.errors import UserError
from ttt_bench.compare.read import FinishedRun
from ttt_bench.report.figures import names

# So many samples on a page at most, as thumbnails of so many pixels a side: it is sent around.
SHOWN = 120
SIDE = 96


def disagreements(runs: Sequence[FinishedRun], shown: int) -> dict[str, Any]:
    """Samples of one dataset on which runs differ in being right, spread evenly over it.

    Args:
        shown: how many at most.

    Returns:
        `methods`, the runs' names; `items`, each with `image` (a data address), `label`, `group`
        and `predictions` by method, as class names; `why` there are none.
    """
    labels = names(runs)
    result: dict[str, Any] = {"methods": labels, "items": [], "why": ""}
    if len(runs) < 2:
        return {**result, "why": "There is one run only."}
    right = np.stack([run.records.correct for run in runs])
    places = np.flatnonzero(right.any(axis=0) & ~right.all(axis=0))
    if not len(places):
        return {**result, "why": "The methods are right and wrong on the same samples."}
    try:
        dataset = _dataset(runs[0])
    except UserError as error:
        return {**result, "why": f"The pictures could not be had: {error}"}
    known = {dataset.sample_id(index): index for index in range(len(dataset.entries))}
    spread = np.linspace(0, len(places) - 1, min(shown, len(places))).round().astype(int)
    for place in places[spread].tolist():
        records = runs[0].records
        index = known.get(records.sample_id[place])
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


def _dataset(run: FinishedRun) -> Dataset:
    from ttt_bench.engine.loading import load_dataset

    worker = run.manifest["worker"]
    root = worker["data_root"]
    return load_dataset(worker["dataset"], Path(root) if root else None)


def _thumbnail(image: Image.Image) -> str:
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    # Small pictures stay exact; photographs are smaller as JPEG.
    kind = "png" if max(image.size) <= SIDE // 2 else "jpeg"
    image.save(file, kind, quality=80)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
