"""The hook: trackers that this package adds to ttt-bench."""

from ttt_bench import TrackerSpec, hookimpl


@hookimpl
def ttt_bench_trackers() -> list[TrackerSpec]:
    """Return the trackers."""
    return [
        TrackerSpec(
            name="tensorboard",
            summary="event files of TensorBoard in the run's folder",
            code="ttt_bench_trackers.tensorboard:TensorBoardTracker",
        ),
        TrackerSpec(
            name="mlflow",
            summary="a run of MLflow, at MLFLOW_TRACKING_URI",
            code="ttt_bench_trackers.mlflow:MlflowTracker",
        ),
        TrackerSpec(
            name="wandb",
            summary="a run of Weights & Biases, in the project WANDB_PROJECT",
            code="ttt_bench_trackers.wandb:WandbTracker",
        ),
    ]
