"""Opening a run: everything is validated and loaded, and nothing is written yet."""

import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from ttt_bench.api.backbone import Backbone
from ttt_bench.api.dataset import Dataset
from ttt_bench.api.errors import UserError, method_errors, unknown
from ttt_bench.api.events import Run
from ttt_bench.api.executor import Chunk, Executor
from ttt_bench.api.inputs import Inputs
from ttt_bench.api.precision import Precision
from ttt_bench.api.specs import AdapterSpec, Spec
from ttt_bench.api.task import Task
from ttt_bench.cache.store import cache_limit
from ttt_bench.datasets.loading import load_dataset
from ttt_bench.engine.loading import (
    backbone_type,
    choose_device,
    default_backbone,
    load_backbone,
)
from ttt_bench.engine.worker import MethodWorker, MethodWorkerSpec
from ttt_bench.registry import registry
from ttt_bench.runner.config import RunConfig
from ttt_bench.runner.continuing import Continuation, continuation
from ttt_bench.runner.loaders import number_of_loaders
from ttt_bench.runner.loading import Loaded, LoadingError, load
from ttt_bench.runner.settings import resolve_config
from ttt_bench.runs.card import Card, digest, protocol_part
from ttt_bench.runs.code import HARNESS, code_files, combined
from ttt_bench.runs.folder import COST_FILE, DEFAULT_OUTPUT, RunFolder
from ttt_bench.runs.plan import Plan, make_plan
from ttt_bench.runs.streams import STREAMS, StreamSetting

# Of a folder, in bytes; file systems allow 255.
LONGEST_NAME = 200


def validate(config: RunConfig) -> tuple[AdapterSpec, str, dict[str, Any]]:
    """Refuse what cannot work, before anything is loaded.

    Returns:
        The method's spec, the name of the backbone, and the method's whole configuration.

    Raises:
        UserError: an unknown name, a backbone that lacks what the method needs, a configuration
            that is refused, weights for a backbone that is not named or takes none, or an output
            that cannot be written to.
    """
    plugins = registry()
    spec = plugins.adapters.find(config.method).spec
    backbone = config.backbone or default_backbone(config.dataset, spec.family, spec.needs)
    missing = spec.needs - plugins.backbones.find(backbone).spec.gives
    if missing:
        raise UserError(
            f"{spec.name} needs {', '.join(sorted(missing))}, which {backbone} does not give; "
            "see `ttt-bench list backbones`"
        )
    if config.weights is not None and config.backbone is None:
        raise UserError("--weights needs --backbone: say which model the file is for")
    if config.feature_cache:
        # A limit that is no size is refused here.
        cache_limit()
    # A card may come from anywhere.
    if config.precision not in get_args(Precision):
        raise unknown("precision", str(config.precision), get_args(Precision))
    if config.stream not in STREAMS:
        raise unknown("stream", str(config.stream), STREAMS)
    _setting(config).validate()
    plugins.executors.find(config.executor)
    classifies = backbone_type(backbone, config.weights).build_classifier
    if spec.load().uses_backbone_classifier and classifies is Backbone.build_classifier:
        raise UserError(
            f"{spec.name} needs a backbone that classifies, which {backbone} does not; "
            "see `ttt-bench list backbones`"
        )
    values = resolve_config(spec, backbone, config.dataset, config.settings)
    if spec.kind != "sample" and "batch_size" not in values:
        raise UserError(
            f"{spec.name} is of kind {spec.kind}: its configuration needs a field batch_size"
        )
    require_writable(_parent(config))
    return spec, backbone, values


def require_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to, without making it.

    Raises:
        UserError: it lies below a file, its name is too long, or the disk is read-only.
    """
    try:
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=existing):
            pass
        longest = max((len(os.fsencode(part)) for part in folder.parts), default=0)
        if longest > LONGEST_NAME:
            raise OSError(0, f"a name of {longest} bytes is too long")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write to {folder} ({reason}); give another --output") from error


@dataclass(frozen=True)
class OpenRun:
    """A validated run: everything is loaded, and nothing written yet.

    Attributes:
        config: what the user asked for.
        run: the facts that hooks are told.
        card: the protocol card.
        plan: its chunks.
        dataset: the dataset.
        folder: where its records are.
        code: digests of the plugins' files by what they bring, then by file.
        continues: what there is of the run already.
        worker_spec: what its worker does.
        worker: ready, or None where every chunk is there already.
        missing: the chunks that are not.
        executor: what computes them.
    """

    config: RunConfig
    run: Run
    card: Card
    plan: Plan
    dataset: Dataset
    folder: RunFolder
    code: Mapping[str, Mapping[str, str]]
    continues: Continuation
    worker_spec: MethodWorkerSpec
    worker: MethodWorker | None
    missing: list[Chunk]
    executor: Executor


def open_run(config: RunConfig, loaded: Loaded, skip: frozenset[int] = frozenset()) -> OpenRun:
    """Load everything a run needs, its method set up for its task.

    Args:
        config: what the user asked for.
        loaded: the datasets and backbones of this command so far; runs on the same one share it.
        skip: entries of the dataset to leave out, since their images cannot be read.

    Raises:
        LoadingError: data or weights are missing.
        MethodError: the method's setup fails.
        UserError: bad input, a folder that holds another run, a method that refuses this task.
    """
    plugins = registry()
    spec, name, values = validate(config)
    place = config.dataset, config.data_root
    if place not in loaded.datasets:
        loaded.datasets[place] = load(config.dataset, lambda: load_dataset(*place))
    dataset = loaded.datasets[place]
    size = values.get("batch_size")
    plan = make_plan(dataset, config.limit, spec.kind, config.seed, size, skip, _setting(config))
    if not plan.chunks:
        raise LoadingError(f"{config.dataset}: no image of it can be read; repair the dataset")
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
        loaders=number_of_loaders(config, choose_device(config.device)),
        precision=config.precision,
    )
    model = name, config.weights
    if model not in loaded.backbones:
        loaded.backbones[model] = load(
            name, lambda: load_backbone(name, worker_spec.device, config.weights)
        )
    backbone = loaded.backbones[model]
    plugin = plugins.adapters[spec.name].plugin
    code = _plugin_code(
        {
            "method": spec,
            "backbone": plugins.backbones.find(name).spec,
            "dataset": plugins.datasets.find(config.dataset).spec,
        }
    )
    preset = spec.dataset_preset_card(config.dataset, values)
    inputs = _declared_inputs(spec, values, dataset, backbone)
    further = _further_backbones(inputs, worker_spec.device)
    card = Card(
        protocol=protocol_part(dataset, plan.indices, config.limit, config.seed, sorted(skip)),
        method={
            "method": spec.name,
            "kind": spec.kind,
            "plugin": {"distribution": plugin.distribution, "version": plugin.version},
            "code": {part: combined(files) for part, files in code.items()},
            "config": values,
            "backbone": name,
            **backbone.card(),
            "precision": config.precision,
            "view_sets": [view_set.card() for view_set in inputs.view_sets],
            **({"further_backbones": further} if further else {}),
            "prompt": dataset.classes.prompt,
            "templates": list(dataset.classes.templates),
            "labelled_data": spec.labelled_data or None,
            **({"read_from": dataset.read_from} if dataset.read_from else {}),
            "known_failures": dict(spec.known_failures),
            "chunks": len(plan.chunks),
            **({} if preset is None else {"dataset_preset": preset}),
            **({} if spec.kind == "sample" else {"stream": _stream_card(config, plan, size)}),
        },
    )
    folder = RunFolder(_folder_path(config, card))
    continues = continuation(folder, card, code, config)
    saved = _sound_chunks(folder, card, plan, dataset) if continues.chunks_count else {}
    missing = [chunk for chunk in plan.all_chunks if chunk.number not in saved]
    continues.require_same_engine(folder, bool(missing and saved))
    counted = continues.chunks_count and has_costs(folder, card)
    worker = None if counted and not missing else MethodWorker(worker_spec, dataset, backbone)
    n = len(plan.indices)
    run = Run(
        method=spec.name,
        dataset=dataset.name,
        backbone=name,
        card=card.as_json(),
        n=n,
        finished=sum(len(chunk.indices) for chunk in plan.chunks if chunk.number in saved),
        correct=sum(saved.get(chunk.number, 0) for chunk in plan.chunks),
        chunks=len(plan.chunks),
        path=str(folder.path),
        title=config.called,
    )
    return OpenRun(
        config, run, card, plan, dataset, folder, code, continues, worker_spec, worker, missing,
        loaded.executor(config.executor, config.workers),
    )  # fmt: skip


def _setting(config: RunConfig) -> StreamSetting:
    return StreamSetting(config.stream, config.correlation, config.revisit)


def _stream_card(config: RunConfig, plan: Plan, batch_size: int | None) -> dict[str, Any]:
    """Return what the card records of the streams of a method of kind `batch` or `stream`."""
    return {
        "name": config.stream,
        "correlation": config.correlation,
        "batch_size": batch_size,
        "order": plan.order,
        "revisited": sum(len(chunk.indices) for chunk in plan.revisited),
        "revisited_chunks": len(plan.revisited),
    }


def _declared_inputs(
    spec: AdapterSpec, values: Mapping[str, Any], dataset: Dataset, backbone: Backbone
) -> Inputs:
    """Return the inputs that the method declares.

    Raises:
        MethodError: it raises when it is asked.
    """
    adapter_type = spec.load()
    package = spec.code.partition(".")[0].partition(":")[0]
    with method_errors(f"{spec.name} failed to declare its inputs", package):
        adapter = adapter_type(adapter_type.Config(**values))
        return adapter.inputs(Task(backbone, dataset.classes, dataset.augmix))


def _further_backbones(inputs: Inputs, device: str) -> dict[str, Any]:
    """Return what the card records of the further backbones of a method.

    Raises:
        LoadingError: one cannot be loaded.
    """
    return {
        name: load(name, lambda name=name: load_backbone(name, device)).card()
        for name in inputs.further_backbones
    }


def _plugin_code(specs: Mapping[str, Spec]) -> dict[str, dict[str, str]]:
    """Return the files of the plugins that bring these specs; ttt-bench's own are left out."""
    own = f"{HARNESS}."
    return {part: code_files(spec) for part, spec in specs.items() if not spec.code.startswith(own)}


def _sound_chunks(folder: RunFolder, card: Card, plan: Plan, dataset: Dataset) -> dict[int, int]:
    """Return how many predictions are right in each chunk, by number, whose file is sound.

    A chunk whose file is damaged is done again.
    """
    sound: dict[int, int] = {}
    for chunk in plan.all_chunks:
        if not folder.chunk_path(chunk.number).exists():
            continue
        try:
            ids = [dataset.sample_id(index) for index in chunk.indices]
            records = folder.read_chunk(chunk.number, card.key, ids)
            sound[chunk.number] = int(records.correct.sum())
        except UserError as error:
            print(f"{str(error).rpartition(';')[0]}; it is done again", file=sys.stderr)
    return sound


def has_costs(folder: RunFolder, card: Card) -> bool:
    """Say whether the costs are there and sound; they are counted again otherwise."""
    try:
        folder.read_json(COST_FILE, card.key)
    except UserError:
        return False
    return True


def _folder_path(config: RunConfig, card: Card) -> Path:
    """Return `OUTPUT/DATASET/METHOD`, or a folder named after the card without an output.

    Where a command has several runs of a method, what was typed for this one follows the method.
    """
    below_output = config.folder or config.method
    name = below_output if config.output is not None else f"{config.method}-{card.key}"
    return _parent(config) / name


def _parent(config: RunConfig) -> Path:
    dataset = config.dataset.replace("/", "-").replace(":", "-").strip(".-") or "dataset"
    if len(dataset.encode("utf-8", "surrogateescape")) > LONGEST_NAME:
        dataset = f"{dataset[:40]}-{digest(config.dataset)[:10]}"
    return (DEFAULT_OUTPUT if config.output is None else config.output) / dataset
