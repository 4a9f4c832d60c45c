"""What workers in tests are built from."""

from typing import Any

from ttt_bench.engine.worker import MethodWorkerSpec


def worker_spec(method: str, batch_size: int = 4, **fields: Any) -> MethodWorkerSpec:
    """Return the spec of a worker on the embedded dataset and tiny-clip, with further fields."""
    return MethodWorkerSpec(
        **{
            "method": method,
            "config": {},
            "dataset": "cifar10-c-mini",
            "backbone": "tiny-clip",
            "data_root": None,
            "device": "cpu",
            "seed": 0,
            "batch_size": batch_size,
            **fields,
        }
    )
