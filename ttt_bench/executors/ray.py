"""RayExecutor: chunks computed on a Ray cluster, or on this machine as one."""

import os
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from typing_extensions import override

from ttt_bench.api.errors import UserError, first_line
from ttt_bench.api.executor import (
    Chain,
    Chunk,
    ChunkResult,
    Executor,
    LostStateError,
    Worker,
    WorkerSpec,
    chains,
)

# How often Ray starts a lost worker again and repeats its chunk.
RESTARTS = 3
PATIENCE_SECONDS = 10


class RayExecutor(Executor):
    """`ray` or `ray:HOST:PORT`: an actor for each worker; Ray places and replaces them."""

    # Whether this executor has started Ray, which ends with the command.
    _started = False

    @override
    def close(self) -> None:
        if self._started:
            _import_ray().shutdown()
            self._started = False

    @override
    def execute(
        self, worker: Worker, chunks: Sequence[Chunk]
    ) -> Iterator[tuple[Chunk, ChunkResult]]:
        ray = _import_ray()
        gpus = int(worker.spec.device == "cuda")
        # An actor has a core for itself and one for each of its loaders.
        cores = 1 + worker.spec.loaders
        started = _connect(ray, self.argument, self.workers and self.workers * cores)
        self._started = self._started or started
        try:
            available = int(ray.cluster_resources().get("GPU" if gpus else "CPU", 0))
            room = available if gpus else available // cores
            parts = chains(chunks)
            number = min(self.workers or max(room, 1), len(parts))
            if number > available:
                raise UserError(
                    f"--workers {number} is more than the cluster's {available} "
                    f"{'GPUs' if gpus else 'cores'}; give fewer, or none to take all"
                )
            spec = _with_room(worker.spec, number, ray)
            actor = ray.remote(
                num_cpus=1 + spec.loaders,
                num_gpus=gpus,
                max_restarts=RESTARTS,
                max_task_retries=RESTARTS,
            )(RemoteWorker)
            actors = [actor.remote(spec) for _ in range(number)]
            yield from _run_chains(ray, actors, parts)
            ray.get([actor.verify_backbone.remote() for actor in actors])
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise
        except ray.exceptions.RayActorError as error:
            raise UserError(
                f"Ray lost a worker {RESTARTS + 1} times ({first_line(error)}); finished chunks "
                "are kept: the same command continues"
            ) from error


def _run_chains(
    ray: Any, actors: Sequence[Any], parts: Sequence[Chain]
) -> Iterator[tuple[Chunk, ChunkResult]]:
    """Run each chain on one actor, one chunk at a time, and yield what is finished."""
    waiting, idle = deque(parts), list(actors)
    running: dict[Any, tuple[Any, Chain]] = {}
    while waiting or running:
        while waiting and idle:
            actor, chain = idle.pop(), waiting.popleft()
            running[actor.run.remote(chain.next())] = actor, chain
        (reference,), _ = ray.wait(list(running), num_returns=1)
        actor, chain = running.pop(reference)
        chunk = chain.next()
        assert chunk is not None
        try:
            result = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, LostStateError):
                raise
            # Ray has started the actor again, and repeats the chunk without those before it.
            chain.restart()
            result = None
        if result is not None:
            chain.finish(result)
        following = chain.next()
        if following is None:
            idle.append(actor)
        else:
            running[actor.run.remote(following)] = actor, chain
        if result is not None:
            yield chunk, result


class RemoteWorker:
    """A worker as an actor, built by name where Ray places it."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self._worker: Worker | None = None

    @property
    def worker(self) -> Worker:
        """The worker, built at the first call, so that its errors come from that call."""
        if self._worker is None:
            self._worker = self.spec.build()
        return self._worker

    def run(self, chunk: Chunk) -> ChunkResult:
        """Compute a chunk."""
        return self.worker.run(chunk)

    def verify_backbone(self) -> None:
        """Check that the backbone is as it was."""
        self.worker.verify_backbone()


def _with_room(spec: WorkerSpec, number: int, ray: Any) -> WorkerSpec:
    """Return the spec with no more loaders than the cluster has cores for, beside its actors."""
    cores = int(ray.cluster_resources().get("CPU", 1))
    return spec.with_loaders(min(spec.loaders, max(0, cores // number - 1)))


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "--executor ray needs Ray: pip install 'ttt-bench[ray]', or leave --executor out"
        ) from error
    return ray


def _connect(ray: Any, address: str, cores: int | None) -> bool:
    """Join a cluster, or start one on this machine; return whether there was none before."""
    if address:
        _require_listening(address)
    if ray.is_initialized():
        return False
    # A benchmark sends nothing to anybody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Hide no GPUs from this process, which holds none of Ray's.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    local: dict[str, Any] = {"include_dashboard": False, "num_cpus": cores}
    try:
        ray.init(
            address=address or "local",
            configure_logging=False,
            log_to_driver=False,
            **({} if address else local),
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"cannot join a Ray cluster at {address or 'this machine'}: {first_line(error)}; one "
            "that asks for a token needs RAY_AUTH_MODE=token in the environment"
        ) from error
    return True


def _require_listening(address: str) -> None:
    """Refuse an address where nobody answers; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), PATIENCE_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"no Ray cluster answers at {address} ({error}); start one there with "
            "`ray start --head`, or check the address in --executor ray:HOST:PORT"
        ) from error
