"""One run: validated, opened, executed, from the user's configuration to the summary."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ttt_bench.api.backbone import Backbone
from ttt_bench.api.dataset import Dataset
from ttt_bench.api.errors import UserError
from ttt_bench.api.events import Run
from ttt_bench.api.executor import Chunk, Executor
from ttt_bench.api.specs import AdapterSpec
from ttt_bench.engine.loading import (
    backbone_type,
    choose_device,
    default_backbone,
    load_backbone,
    load_dataset,
)
from ttt_bench.engine.worker import MethodWorker, MethodWorkerSpec
from ttt_bench.metrics.summary import summarize
from ttt_bench.registry import Registry, registry
from ttt_bench.runner.config import RunConfig
from ttt_bench.runner.settings import resolve_config
from ttt_bench.runs.card import Card, digest, protocol_part
from ttt_bench.runs.environment import describe
from ttt_bench.runs.folder import DEFAULT_OUTPUT, RunFolder
from ttt_bench.runs.plan import Plan, make_plan

# Of a folder, in bytes; file systems allow 255.
LONGEST_NAME = 200

LoadedBackbones = dict[tuple[str, Path | None], Backbone]


def validate(config: RunConfig) -> tuple[AdapterSpec, str, dict[str, Any]]:
    """Refuse what cannot work, before anything is loaded.

    Returns:
        The method's spec, the name of the backbone, and the method's whole configuration.

    Raises:
        UserError: an unknown name, a backbone that lacks what the method needs, a configuration
            that is refused, or weights for a backbone that is not named or takes none.
    """
    plugins = registry()
    spec = plugins.adapters.find(config.method).spec
    backbone = config.backbone or default_backbone(config.dataset, spec.family)
    missing = spec.needs - plugins.backbones.find(backbone).spec.gives
    if missing:
        raise UserError(
            f"{spec.name} needs {', '.join(sorted(missing))}, which {backbone} does not give; "
            "see `ttt-bench list backbones`"
        )
    if config.weights is not None and config.backbone is None:
        raise UserError("--weights needs --backbone: say which model the file is for")
    plugins.executors.find(config.executor)
    classifies = backbone_type(backbone, config.weights).build_classifier
    if spec.load().uses_backbone_classifier and classifies is Backbone.build_classifier:
        raise UserError(
            f"{spec.name} needs a backbone that classifies, which {backbone} does not; "
            "see `ttt-bench list backbones`"
        )
    values = resolve_config(spec, backbone, config.settings)
    if spec.kind != "sample" and "batch_size" not in values:
        raise UserError(
            f"{spec.name} is of kind {spec.kind}: its configuration needs a field batch_size"
        )
    return spec, backbone, values


@dataclass(frozen=True)
class OpenRun:
    """A validated run: everything is loaded, and nothing written yet.

    Attributes:
        run: the facts that hooks are told.
        card: the protocol card.
        plan: its chunks.
        folder: where its records are.
        worker_spec: what its worker does.
        worker: ready, or None where every chunk is there already.
        missing: the chunks that are not.
        executor: what computes them.
    """

    run: Run
    card: Card
    plan: Plan
    folder: RunFolder
    worker_spec: MethodWorkerSpec
    worker: MethodWorker | None
    missing: list[Chunk]
    executor: Executor


def open_runs(configs: Sequence[RunConfig]) -> list[OpenRun]:
    """Open the runs of one command; everything is refused before anything runs.

    Raises:
        UserError: one of them cannot run.
    """
    # Names and values first, since loading takes time.
    for config in configs:
        validate(config)
    backbones: LoadedBackbones = {}
    return [open_run(config, backbones) for config in configs]


def open_run(config: RunConfig, backbones: LoadedBackbones) -> OpenRun:
    """Load everything a run needs, its method set up for its task.

    Args:
        config: what the user asked for.
        backbones: those of this command so far, by name and file of weights; runs on the same one
            share it.

    Raises:
        UserError: bad input, data or weights that are missing, a folder that holds another run or
            is damaged, a method that cannot work on this task.
    """
    plugins = registry()
    spec, name, values = validate(config)
    dataset = load_dataset(config.dataset, config.data_root)
    plan = make_plan(dataset, config.limit, spec.kind, config.seed, values.get("batch_size"))
    worker_spec = MethodWorkerSpec(
        method=config.method,
        config=values,
        dataset=config.dataset,
        backbone=name,
        data_root=config.data_root,
        device=choose_device(config.device),
        seed=config.seed,
        batch_size=config.batch_size,
        weights=config.weights,
        feature_cache=config.feature_cache,
        loaders=config.loaders,
    )
    loaded = name, config.weights
    if loaded not in backbones:
        backbones[loaded] = load_backbone(name, worker_spec.device, config.weights)
    backbone = backbones[loaded]
    card = Card(
        protocol=protocol_part(dataset, plan.indices, config.limit, config.seed),
        method={
            "method": spec.name,
            "kind": spec.kind,
            "plugin": _origin(plugins, spec.name),
            "config": values,
            "backbone": name,
            **backbone.card(),
            "prompt": dataset.classes.prompt,
            "templates": list(dataset.classes.templates),
            "labelled_data": spec.labelled_data or None,
            "known_failures": dict(spec.known_failures),
        },
    )
    folder = RunFolder(_folder_path(config, card))
    folder.require_same_run(card)
    missing = [chunk for chunk in plan.chunks if not _is_done(folder, chunk, dataset)]
    complete = not missing and folder.has("cost.json")
    worker = None if complete else MethodWorker(worker_spec, dataset, backbone)
    n = len(plan.indices)
    run = Run(
        method=spec.name,
        dataset=dataset.name,
        backbone=name,
        card=card.as_json(),
        n=n,
        finished=n - sum(len(chunk.indices) for chunk in missing),
        chunks=len(plan.chunks),
        path=str(folder.path),
    )
    executor_type: type[Executor] = plugins.executors.find(config.executor).spec.load()
    executor = executor_type(config.executor.partition(":")[2], config.workers)
    return OpenRun(run, card, plan, folder, worker_spec, worker, missing, executor)


def _is_done(folder: RunFolder, chunk: Chunk, dataset: Dataset) -> bool:
    """Say whether a chunk's file is there and whole; one that is damaged is done again."""
    if not folder.chunk_path(chunk.number).exists():
        return False
    try:
        folder.read_chunk(chunk.number, [dataset.sample_id(index) for index in chunk.indices])
    except UserError as error:
        print(f"{error.args[0].rpartition(';')[0]}; it is done again", file=sys.stderr)
        return False
    return True


def execute(opened: OpenRun) -> dict[str, Any]:
    """Compute the chunks whose file is missing, and return the summary.

    Raises:
        UserError: a full disk, an unreadable image, a method that fails or changes the backbone.
    """
    run, worker, folder = opened.run, opened.worker, opened.folder
    spec = asdict(opened.worker_spec)
    folder.begin(
        opened.card,
        {
            "chunks": run.chunks,
            "samples": run.n,
            "worker": {k: str(v) if isinstance(v, Path) else v for k, v in spec.items()},
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "environment": describe(opened.worker_spec.device),
        },
    )
    plugins = registry()
    plugins.call("ttt_bench_run_started", run=run)
    if worker is not None:
        if not folder.has("cost.json"):
            folder.write_json("cost.json", worker.count_costs(opened.plan.indices))
        if opened.missing:
            for chunk, records in opened.executor.execute(worker, opened.missing):
                folder.write_chunk(chunk.number, records)
                plugins.call("ttt_bench_chunk_finished", run=run, records=records)
        worker.verify_backbone()
    records = folder.read_records()
    summary = summarize(opened.card, records, folder.read_json("cost.json"))
    folder.write_json("summary.json", summary)
    plugins.call("ttt_bench_run_finished", run=run, summary=summary)
    return {**summary, "path": str(folder.path)}


def _origin(plugins: Registry, method: str) -> dict[str, str]:
    plugin = plugins.adapters[method].plugin
    return {"distribution": plugin.distribution, "version": plugin.version}


def _folder_path(config: RunConfig, card: Card) -> Path:
    """Return `OUTPUT/DATASET/METHOD`, or a folder named after the card without an output."""
    dataset = config.dataset.replace("/", "-").replace(":", "-").strip(".-") or "dataset"
    if len(dataset.encode()) > LONGEST_NAME:
        dataset = f"{dataset[:40]}-{digest(config.dataset)[:10]}"
    if config.output is not None:
        return config.output / dataset / config.method
    return DEFAULT_OUTPUT / dataset / f"{config.method}-{card.key}"
