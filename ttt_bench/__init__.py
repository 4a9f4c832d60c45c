"""ttt-bench: test-time training methods on identical inputs, under one protocol, with their cost.

The names below are all that a plugin may import. They load on first use, so that importing
`ttt_bench` stays instant: nothing here imports torch until a method runs.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ttt_bench.adapter import Adapter, AdapterConfig, Prediction, Sample, Stream, Task
    from ttt_bench.backbones.base import Backbone
    from ttt_bench.checkpoints import file_hash, read_checkpoint
    from ttt_bench.cost import Counter
    from ttt_bench.datasets.base import Dataset, Entry
    from ttt_bench.datasets.on_disk import open_image
    from ttt_bench.engine.executor import Executor
    from ttt_bench.engine.loading import (
        choose_device,
        default_backbone,
        load_backbone,
        load_dataset,
    )
    from ttt_bench.errors import UserError
    from ttt_bench.hookspecs import hookimpl
    from ttt_bench.records import Records
    from ttt_bench.references.tables import Publication
    from ttt_bench.specs import (
        AdapterSpec,
        BackboneSpec,
        Capability,
        DatasetSpec,
        ExecutorSpec,
        MetricSpec,
        ReferenceSpec,
    )
    from ttt_bench.stacking import stacked_product
    from ttt_bench.training_folder import TrainingFolder

_HOMES = {
    "Adapter": "adapter",
    "AdapterConfig": "adapter",
    "AdapterSpec": "specs",
    "Backbone": "backbones.base",
    "BackboneSpec": "specs",
    "Capability": "specs",
    "Counter": "cost",
    "Dataset": "datasets.base",
    "DatasetSpec": "specs",
    "Entry": "datasets.base",
    "Executor": "engine.executor",
    "ExecutorSpec": "specs",
    "MetricSpec": "specs",
    "Prediction": "adapter",
    "Publication": "references.tables",
    "Records": "records",
    "ReferenceSpec": "specs",
    "Sample": "adapter",
    "Stream": "adapter",
    "Task": "adapter",
    "TrainingFolder": "training_folder",
    "UserError": "errors",
    "choose_device": "engine.loading",
    "default_backbone": "engine.loading",
    "file_hash": "checkpoints",
    "hookimpl": "hookspecs",
    "load_backbone": "engine.loading",
    "load_dataset": "engine.loading",
    "open_image": "datasets.on_disk",
    "read_checkpoint": "checkpoints",
    "stacked_product": "stacking",
}

__all__ = [
    "Adapter",
    "AdapterConfig",
    "AdapterSpec",
    "Backbone",
    "BackboneSpec",
    "Capability",
    "Counter",
    "Dataset",
    "DatasetSpec",
    "Entry",
    "Executor",
    "ExecutorSpec",
    "MetricSpec",
    "Prediction",
    "Publication",
    "Records",
    "ReferenceSpec",
    "Sample",
    "Stream",
    "Task",
    "TrainingFolder",
    "UserError",
    "choose_device",
    "default_backbone",
    "file_hash",
    "hookimpl",
    "load_backbone",
    "load_dataset",
    "open_image",
    "read_checkpoint",
    "stacked_product",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'ttt_bench' has no attribute {name!r}")
    return getattr(import_module(f"ttt_bench.{_HOMES[name]}"), name)
