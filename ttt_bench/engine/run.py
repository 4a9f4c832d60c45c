"""One run: a method on a dataset with a backbone, from its card to its summary."""

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ttt_bench.backbones.base import Backbone
from ttt_bench.datasets.base import Dataset
from ttt_bench.engine.config import resolve_config
from ttt_bench.engine.environment import describe
from ttt_bench.engine.executor import Executor
from ttt_bench.engine.loading import (
    backbone_type,
    choose_device,
    default_backbone,
    load_backbone,
    load_dataset,
)
from ttt_bench.engine.plan import Chunk, Plan, make_plan
from ttt_bench.engine.summary import summarize
from ttt_bench.engine.worker import Job, Worker
from ttt_bench.errors import UserError
from ttt_bench.plugins import Registry, registry
from ttt_bench.protocol import Card, column_card, digest
from ttt_bench.records import DEFAULT_OUTPUT, RunFolder
from ttt_bench.specs import AdapterSpec

# Of a folder, in bytes; file systems allow 255.
LONGEST_NAME = 200

Loaded = tuple[str, Path | None]


@dataclass(frozen=True)
class Request:
    """What the user asked for, one method on one dataset.

    Attributes:
        backbone: None for the default of the dataset and the method's family.
        overrides: configuration fields of the method.
        output: None for a folder of its own under `ttt-bench-runs`.
        weights: a file of weights for the named backbone, None for its own.
        feature_cache: whether features of the backbone are kept on disk and taken from there.
        decoders: how many processes decode images ahead of the method, 0 for none.
        workers: how many work off the chunks, None to leave it to the executor.
        ray_address: of the cluster for the `ray` executor, "" for this machine.
    """

    method: str
    dataset: str
    backbone: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    seed: int = 0
    device: str = "auto"
    batch_size: int = 16
    data_root: Path | None = None
    output: Path | None = None
    executor: str = "local"
    weights: Path | None = None
    feature_cache: bool = True
    decoders: int = 0
    workers: int | None = None
    ray_address: str = ""


@dataclass(frozen=True)
class Run:
    """A run as hooks see it.

    Attributes:
        card: the protocol card.
        plan: its chunks.
        folder: where its records are.
        finished: how many samples were there when it started.
    """

    method: str
    dataset: str
    backbone: str
    card: Card
    plan: Plan
    folder: RunFolder
    finished: int


def check(request: Request) -> tuple[AdapterSpec, str]:
    """Refuse what cannot work, before anything is loaded.

    Returns:
        The method's spec and the name of the backbone.

    Raises:
        UserError: an unknown name, a backbone that lacks what the method needs, or weights for a
            backbone that is not named or takes none.
    """
    plugins = registry()
    spec = plugins.adapters.find(request.method).spec
    backbone = request.backbone or default_backbone(request.dataset, spec.family)
    lacking = spec.needs - plugins.backbones.find(backbone).spec.gives
    if lacking:
        raise UserError(
            f"{spec.name} needs {', '.join(sorted(lacking))}, which {backbone} does not give; "
            "see `ttt-bench list backbones`"
        )
    if request.weights is not None:
        if request.backbone is None:
            raise UserError("--weights needs --backbone: say which model the file is for")
        backbone_type(backbone, request.weights)
    plugins.executors.find(request.executor)
    return spec, backbone


@dataclass(frozen=True)
class Prepared:
    """A run that nothing stands against: loaded and checked, and nothing written yet.

    Attributes:
        job: what its worker does.
        worker: ready, or None where every chunk is there already.
        missing: the chunks that are not.
        executor: who works them off.
    """

    run: Run
    job: Job
    worker: Worker | None
    missing: list[Chunk]
    executor: Executor


def prepare(request: Request, backbones: dict[Loaded, Backbone]) -> Prepared:
    """Load and check everything a run needs, its method set up for its task.

    Args:
        backbones: those of this command so far, by name and file of weights; runs on the same one
            share it.

    Raises:
        UserError: bad input, data or weights that are missing, a folder that holds another run or
            is damaged, a method that cannot work on this task.
    """
    plugins = registry()
    spec, name = check(request)
    config = resolve_config(spec, name, request.overrides)
    dataset = load_dataset(request.dataset, request.data_root)
    plan = make_plan(dataset, request.limit, spec.online)
    job = Job(
        method=request.method,
        config=config,
        dataset=request.dataset,
        backbone=name,
        data_root=request.data_root,
        device=choose_device(request.device),
        seed=request.seed,
        batch_size=request.batch_size,
        weights=request.weights,
        feature_cache=request.feature_cache,
        decoders=request.decoders,
    )
    loaded = name, request.weights
    if loaded not in backbones:
        backbones[loaded] = load_backbone(name, job.device, request.weights)
    backbone = backbones[loaded]
    card = Card(
        column=column_card(dataset, plan.indices, request.limit, request.seed),
        row={
            "method": spec.name,
            "plugin": _origin(plugins, spec.name),
            "config": config,
            "backbone": name,
            **backbone.card(),
            "prompt": dataset.prompt,
            "templates": list(dataset.templates),
            "labelled_data": spec.labelled_data or None,
        },
    )
    folder = RunFolder(_place(request, card))
    folder.check(card)
    missing = [chunk for chunk in plan.chunks if not _is_done(folder, chunk, dataset)]
    complete = not missing and folder.has("cost.json")
    worker = None if complete else Worker(job, dataset, backbone)
    done = len(plan.indices) - sum(len(chunk.indices) for chunk in missing)
    run = Run(spec.name, dataset.name, name, card, plan, folder, done)
    executor_type: type[Executor] = plugins.executors.find(request.executor).spec.load()
    executor = executor_type(request.workers, request.ray_address)
    return Prepared(run, job, worker, missing, executor)


def _is_done(folder: RunFolder, chunk: Chunk, dataset: Dataset) -> bool:
    """Whether a chunk's file is there and whole; one that is not is done again."""
    if not folder.chunk_path(chunk.number).exists():
        return False
    try:
        folder.read_chunk(chunk.number, [dataset.sample_id(index) for index in chunk.indices])
    except UserError as error:
        print(f"{error.args[0].rpartition(';')[0]}; it is done again", file=sys.stderr)
        return False
    return True


def finish(prepared: Prepared) -> dict[str, Any]:
    """Do the chunks whose file is missing, and return the summary.

    Raises:
        UserError: a full disk, an unreadable image, a method that fails or changes the backbone.
    """
    run, worker, folder = prepared.run, prepared.worker, prepared.run.folder
    job = asdict(prepared.job)
    folder.begin(
        run.card,
        {
            "chunks": len(run.plan.chunks),
            "samples": len(run.plan.indices),
            "job": {k: str(v) if isinstance(v, Path) else v for k, v in job.items()},
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "environment": describe(prepared.job.device),
        },
    )
    plugins = registry()
    plugins.call("ttt_bench_run_started", run=run)
    if worker is not None:
        if not folder.has("cost.json"):
            folder.write_json("cost.json", worker.probe(run.plan.indices))
        if prepared.missing:
            for chunk, records in prepared.executor.execute(worker, prepared.missing):
                folder.write_chunk(chunk.number, records)
                plugins.call("ttt_bench_chunk_finished", run=run, records=records)
        worker.leave()
    records = folder.read_records()
    summary = summarize(run.card, records, folder.read_json("cost.json"))
    folder.write_json("summary.json", summary)
    plugins.call("ttt_bench_run_finished", run=run, summary=summary)
    return {**summary, "path": str(folder.path)}


def _origin(plugins: Registry, method: str) -> dict[str, str]:
    plugin = plugins.adapters[method].plugin
    return {"distribution": plugin.distribution, "version": plugin.version}


def _place(request: Request, card: Card) -> Path:
    """`OUTPUT/DATASET/METHOD`, or a folder named after the card where no output is given."""
    dataset = request.dataset.replace("/", "-").replace(":", "-").strip(".-") or "dataset"
    if len(dataset.encode()) > LONGEST_NAME:
        dataset = f"{dataset[:40]}-{digest(request.dataset)[:10]}"
    if request.output is not None:
        return request.output / dataset / request.method
    return DEFAULT_OUTPUT / dataset / f"{request.method}-{card.key}"
