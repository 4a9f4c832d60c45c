"""MlflowTracker: a run of MLflow, on a server or in local files."""

import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from ttt_bench import Run
from ttt_bench_trackers.logged_once import RUNNING_ACCURACY, LoggedOnce, parameters, run_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
# Parameters or metrics that a request may hold, and characters of a parameter's value.
MOST_IN_A_REQUEST = 100
LONGEST_VALUE = 6000


class MlflowTracker(LoggedOnce):
    """Logs to the server or database that `MLFLOW_TRACKING_URI` names."""

    name: ClassVar[str] = "mlflow"
    package: ClassVar[str] = "mlflow"

    _client: "MlflowClient"

    def __init__(self) -> None:
        super().__init__()
        # MLflow's own default waits more than four minutes for a server that is not there.
        os.environ.setdefault(RETRIES, "2")

    @override
    def place(self) -> str:
        import mlflow

        return f"{mlflow.get_tracking_uri()} {experiment_name()}"

    @override
    def open(self, run: Run, known_id: str) -> str:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient()
        if known_id and self._is_there(known_id):
            self._id = known_id
            self._client.update_run(known_id, status="RUNNING")
        else:
            self._id = self._new_run(run)
        # The same again, where a command was stopped while it logged them.
        for some in cut(list(parameters(run).items())):
            params = [Param(mlflow_name(name), value[:LONGEST_VALUE]) for name, value in some]
            self._client.log_batch(self._id, params=params)
        return self._id

    @override
    def log_accuracy(self, samples: int, accuracy: float) -> None:
        self._log({RUNNING_ACCURACY: accuracy}, samples)

    @override
    def log_results(self, samples: int, numbers: dict[str, float], exported: Path) -> None:
        self._log(numbers, samples)
        self._client.log_artifact(self._id, str(exported))

    @override
    def close(self, finished: bool) -> None:
        self._client.set_terminated(self._id, "FINISHED" if finished else "KILLED")

    def _new_run(self, run: Run) -> str:
        name = experiment_name()
        experiment = self._client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self._client.create_experiment(name)
        tags = {"ttt_bench.folder": run.path}
        return self._client.create_run(number, tags=tags, run_name=run_name(run)).info.run_id

    def _is_there(self, run_id: str) -> bool:
        """Say whether MLflow still has a run; a user may have deleted it."""
        from mlflow.exceptions import MlflowException

        try:
            return self._client.get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False

    def _log(self, numbers: dict[str, float], samples: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        for some in cut(list(numbers.items())):
            metrics = [Metric(mlflow_name(name), value, now, samples) for name, value in some]
            self._client.log_batch(self._id, metrics=metrics)


def experiment_name() -> str:
    """Return the name of the experiment that runs belong to."""
    return os.environ.get(EXPERIMENT) or "ttt-bench"


def mlflow_name(name: str) -> str:
    """Return a name without the characters that MLflow refuses, such as the @ of `fog@5`."""
    return re.sub(r"[^\w\-./: ]", "_", name)


def cut(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield the items in parts that one request may hold."""
    for start in range(0, len(items), MOST_IN_A_REQUEST):
        yield items[start : start + MOST_IN_A_REQUEST]
