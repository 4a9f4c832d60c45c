"""Workers on a Ray cluster: this machine's, where no address is given."""

import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any

from typing_extensions import override

from ttt_bench.engine.executor import Executor
from ttt_bench.engine.plan import Chunk
from ttt_bench.engine.worker import Job, Worker
from ttt_bench.errors import UserError
from ttt_bench.records import Records

# How often Ray starts a lost worker again, and does again what it was doing.
RESTARTS = 3
PATIENCE_SECONDS = 10


class RayExecutor(Executor):
    """`ray`: an actor for each worker; Ray places them, and replaces those that are lost."""

    @override
    def execute(self, worker: Worker, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, Records]]:
        ray = _import_ray()
        gpus = int(worker.job.device == "cuda")
        started = _connect(ray, self.address, self.workers)
        try:
            there = int(ray.cluster_resources().get("GPU" if gpus else "CPU", 0))
            number = min(self.workers or max(there, 1), len(chunks))
            if number > there:
                raise UserError(
                    f"--workers {number} is more than the cluster's {there} "
                    f"{'GPUs' if gpus else 'cores'}; give fewer, or none to take all"
                )
            actor = ray.remote(
                num_cpus=1, num_gpus=gpus, max_restarts=RESTARTS, max_task_retries=RESTARTS
            )(RemoteWorker)
            actors = [actor.remote(worker.job) for _ in range(number)]
            pool = ray.util.ActorPool(actors)
            by_number = {chunk.number: chunk for chunk in chunks}
            # ActorPool hands out one chunk at a time to each actor, the next as one is done.
            for done, records in pool.map_unordered(lambda a, chunk: a.run.remote(chunk), chunks):
                yield by_number[done], records
            ray.get([actor.leave.remote() for actor in actors])
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise
        except ray.exceptions.RayActorError as error:
            raise UserError(
                f"Ray lost a worker {RESTARTS + 1} times ({_first_line(error)}); finished chunks "
                "are kept: the same command continues"
            ) from error
        finally:
            if started:
                ray.shutdown()


class RemoteWorker:
    """A worker as an actor: built where it lands, by name."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._worker: Worker | None = None

    @property
    def worker(self) -> Worker:
        """Built at the first call, so that what goes wrong is said by a call and not by Ray."""
        if self._worker is None:
            self._worker = Worker.build(self.job)
        return self._worker

    def run(self, chunk: Chunk) -> tuple[int, Records]:
        """The number of a chunk and its records."""
        return chunk.number, self.worker.run(chunk)

    def leave(self) -> None:
        """Check that the backbone is as it was."""
        self.worker.leave()


def _import_ray() -> Any:
    try:
        import ray
        import ray.util
    except ImportError as error:
        raise UserError(
            "--executor ray needs Ray: pip install 'ttt-bench[ray]', or leave --executor out"
        ) from error
    return ray


def _connect(ray: Any, address: str, workers: int | None) -> bool:
    """Join a cluster, or start one on this machine; returns whether there was none before."""
    if ray.is_initialized():
        return False
    # A benchmark sends nothing to anybody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Hide no GPUs from this process, which holds none of Ray's.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address:
        _knock(address)
    own: dict[str, Any] = {"include_dashboard": False, "num_cpus": workers}
    try:
        ray.init(
            address=address or "local",
            configure_logging=False,
            log_to_driver=False,
            **({} if address else own),
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"cannot join a Ray cluster at {address or 'this machine'}: {_first_line(error)}; one "
            "that asks for a token wants RAY_AUTH_MODE=token in the environment"
        ) from error
    return True


def _knock(address: str) -> None:
    """See that somebody answers; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), PATIENCE_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"no Ray cluster answers at {address} ({error}); start one there with "
            "`ray start --head`, or check the address, HOST:PORT"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
