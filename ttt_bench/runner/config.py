"""RunConfig: what a user asks for. The command's options and the YAML keys derive from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt
from typing_extensions import Doc

from ttt_bench.api.precision import Precision
from ttt_bench.api.stream_name import StreamName


@dataclass(frozen=True)
class Option:
    """What the command line needs to know of a field besides its type and its text.

    Attributes:
        short: the one-letter form, "" for none.
        repeated: whether `run` takes the option several times.
        metavar: the placeholder for the value, "" for the type's own.
        env: the environment variable that gives a default, "" for none.
        default: the default in words, where the value itself says too little.
        folder: whether a path is a folder's; None where it may be either.
    """

    short: str = ""
    repeated: bool = False
    metavar: str = ""
    env: str = ""
    default: str = ""
    folder: bool | None = None


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One method on one dataset, as the user asks for it.

    `settings` is the option `--set KEY=VALUE`, repeated, with what `--method NAME:KEY=VALUE` and
    `--sweep` add to it. The last three fields follow from the other options. Every other field is
    the option of the same name with hyphens.

    Attributes:
        name: what a file of options calls the run, "" for a run without a name.
        folder: the name of the run's folder below `output`, "" for the method's.
        title: what messages call the run, "" for the method.
    """

    method: Annotated[
        str,
        Doc("Method to run, with settings of its configuration or without."),
        Option("-m", repeated=True, metavar="NAME[:KEY=VALUE,...]"),
    ]
    dataset: Annotated[str, Doc("Dataset to run on."), Option("-d", repeated=True)]
    backbone: Annotated[
        str | None,
        Doc("Backbone to use."),
        Option("-b", repeated=True, default="the dataset's, for the method's family"),
    ] = None
    weights: Annotated[
        Path | None,
        Doc("File of weights for --backbone, in the safetensors format or torch's."),
        Option(folder=False),
    ] = None
    data_root: Annotated[
        Path | None, Doc("Folder to look for datasets in."), Option(env="TTT_BENCH_DATA")
    ] = None
    limit: Annotated[
        int | None,
        Ge(1),
        Doc("Number of samples, spread evenly over the dataset's groups."),
        Option(default="all"),
    ] = None
    seed: Annotated[int, Ge(0), Doc("Seed of every random draw."), Option(repeated=True)] = 0
    stream: Annotated[
        StreamName,
        Doc(
            "Order of the samples for methods that adapt along a stream or to batches. grouped: "
            "each group anew; continual: the groups one after another; gradual: the severities of "
            "each corruption up and down; mixed: all groups shuffled."
        ),
    ] = "grouped"
    correlation: Annotated[
        float | None,
        Gt(0),
        Doc(
            "Dirichlet concentration of the order of the labels in a stream; small numbers give "
            "long runs of one class."
        ),
        Option(metavar="D", default="an even order"),
    ] = None
    revisit: Annotated[
        bool,
        Doc(
            "Let the first group come again at the end of a continual or gradual stream, to see "
            "what is left of its accuracy."
        ),
    ] = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], Doc("Device to compute on.")] = "auto"
    batch_size: Annotated[
        int, Ge(1), Doc("Samples that a method gets at once. Changes speed, never a prediction.")
    ] = 16
    precision: Annotated[
        Precision,
        Doc("Precision of the backbone's forward pass."),
    ] = "fp32"
    loaders: Annotated[
        int | Literal["auto"],
        Ge(0),
        Doc(
            "Processes for each worker that prepare samples ahead; auto is the worker's cores, "
            "at most 16, and none on a CPU or with MPS. Changes speed, never a prediction."
        ),
        Option(metavar="N|auto"),
    ] = "auto"
    feature_cache: Annotated[
        bool, Doc("Keep the backbone's features on disk, or compute them anew.")
    ] = True
    executor: Annotated[
        str, Doc("Where chunks are computed: local, ray, or ray:HOST:PORT for a cluster.")
    ] = "local"
    workers: Annotated[
        int | None,
        Ge(1),
        Doc("Worker processes, one for each GPU or core. Changes speed, never a prediction."),
        Option(default="1 for local, all for ray"),
    ] = None
    track: Annotated[
        tuple[str, ...],
        Doc(
            "Tracker to follow the runs, such as tensorboard, mlflow or wandb, which come with "
            "plugins/trackers. Changes no prediction."
        ),
        Option(repeated=True, metavar="NAME"),
    ] = ()
    fresh: Annotated[
        bool, Doc("Start anew, and keep a run that is there beside it under another name.")
    ] = False
    skip_unreadable: Annotated[
        bool, Doc("Finish without images that cannot be read, and list them on the protocol card.")
    ] = False
    output: Annotated[
        Path | None,
        Doc("Folder for the runs, as OUTPUT/DATASET/METHOD."),
        Option("-o", folder=True, default="a folder for every protocol card, in ttt-bench-runs"),
    ] = None
    name: str = ""
    folder: str = ""
    title: str = ""

    @property
    def called(self) -> str:
        """What messages call the run."""
        return self.title or self.method
