"""The runs of a command: opened, executed, and one that fails stops no other."""

import shutil
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ttt_bench.api.errors import MethodError, UserError
from ttt_bench.api.events import Run
from ttt_bench.api.executor import Chunk, ChunkResult, UnreadableImages
from ttt_bench.engine.probe import PROBED_BATCHES
from ttt_bench.engine.process_state import restored
from ttt_bench.engine.worker import MethodWorker
from ttt_bench.metrics.summary import summarize
from ttt_bench.registry import registry
from ttt_bench.runner.adopting import adopted_chunks
from ttt_bench.runner.config import RunConfig
from ttt_bench.runner.loading import Loaded, LoadingError
from ttt_bench.runner.opening import (
    OpenRun,
    has_costs,
    open_run,
    validate,
)
from ttt_bench.runner.resuming import chunks_to_run, save_chunk
from ttt_bench.runner.tracking import tracked
from ttt_bench.runs.code import harness
from ttt_bench.runs.environment import describe
from ttt_bench.runs.folder import COST_FILE, SUMMARY_FILE, UNREADABLE_FILE
from ttt_bench.toolkit.interrupt import check_interrupted

SHOWN_STREAMS = 3


@dataclass(frozen=True)
class Failure:
    """A run of a command that could not be finished.

    Attributes:
        method: the method's name.
        dataset: the dataset's name.
        title: what the command calls the run.
        messages: one line for each thing that is wrong.
    """

    method: str
    dataset: str
    title: str
    messages: tuple[str, ...]


class UnreadableImagesError(UserError):
    """Images of a run that cannot be read; its other chunks are finished.

    Attributes:
        problems: for each image its entry's index and a message that names the file.
    """

    def __init__(self, problems: Sequence[tuple[int, str]]) -> None:
        several = len(problems) > 1
        images, them = ("images", "them") if several else ("image", "it")
        super().__init__(
            f"{len(problems)} {images} cannot be read; repair {them}, or finish without {them} by "
            "--skip-unreadable: the same command continues"
        )
        self.problems = tuple(problems)


def run_all(
    configs: Sequence[RunConfig], loaded: Loaded | None = None
) -> tuple[list[dict[str, Any]], list[Failure]]:
    """Run every configuration, and return the summaries and what failed.

    What can be known before the first run starts stops the command: a wrong name or value, a method
    that refuses its task, a folder that holds another run. Data that is missing, a method that
    raises or images that cannot be read stop their own run alone.

    Args:
        configs: the runs.
        loaded: datasets and backbones that are loaded already, None for none; closed at the end.

    Raises:
        UserError: something stands against a run before the first one starts.
    """
    failures: list[Failure] = []
    summaries: list[dict[str, Any]] = []
    # Standard output belongs to the command; what plugins print goes to standard error.
    with (
        closing(loaded or Loaded()) as loaded,
        redirect_stdout(sys.stderr),
        tracked(name for config in configs for name in config.track),
    ):
        opened = list(_open_all(configs, loaded, failures))
        changed: dict[str, str] = {}
        for one in opened:
            check_interrupted()
            if one.run.backbone in changed:
                message = f"not run, since {changed[one.run.backbone]} changed its backbone"
                run = one.run
                failures.append(Failure(run.method, run.dataset, run.title, (message,)))
                continue
            try:
                with restored(one.run.method):
                    summaries.append(_run_one(one, loaded))
            except UserError as error:
                failures.append(_failure(one.config, error))
                if one.worker is not None and not one.worker.backbone_unchanged():
                    changed[one.run.backbone] = one.run.method
    return summaries, failures


def open_all(configs: Sequence[RunConfig]) -> list[OpenRun]:
    """Open the runs of a command, for an estimate.

    Raises:
        UserError: one of them cannot be opened.
    """
    for config in configs:
        validate(config)
    loaded = Loaded()
    with redirect_stdout(sys.stderr):
        return [open_run(config, loaded) for config in configs]


def _open_all(
    configs: Sequence[RunConfig], loaded: Loaded, failures: list[Failure]
) -> Iterator[OpenRun]:
    # Names and values first, since loading takes time.
    for config in configs:
        validate(config)
    for config in configs:
        try:
            yield open_run(config, loaded)
        except (LoadingError, MethodError) as error:
            failures.append(_failure(config, error))
            print(f"{config.called} on {config.dataset}: {error}", file=sys.stderr)


def _failure(config: RunConfig, error: UserError) -> Failure:
    details = (text for _, text in getattr(error, "problems", ()))
    return Failure(config.method, config.dataset, config.called, (*details, str(error)))


def _run_one(opened: OpenRun, loaded: Loaded) -> dict[str, Any]:
    """Execute a run; without the images that cannot be read, where the user wants that."""
    try:
        return execute(opened)
    except UnreadableImagesError as error:
        if not opened.config.skip_unreadable:
            raise
        for _, text in error.problems:
            print(f"skipped: {text}", file=sys.stderr)
        skip = frozenset(index for index, _ in error.problems)
        return execute(open_run(opened.config, loaded, skip))


def execute(opened: OpenRun) -> dict[str, Any]:
    """Compute the chunks whose file is missing, and return the summary.

    Raises:
        UnreadableImagesError: images cannot be read; every other chunk is finished.
        UserError: a full disk, a method that fails or changes the backbone.
    """
    run, worker, folder, key = opened.run, opened.worker, opened.folder, opened.card.key
    plugins = registry()
    with _adopting(opened) as adopt:
        _begin(opened)
        missing = adopt()
        plugins.call("ttt_bench_run_started", run=run)
        if worker is not None:
            if not has_costs(folder, opened.card):
                probed = opened.plan.full_batches(PROBED_BATCHES)
                folder.write_json(COST_FILE, worker.count_costs(probed), key)
            unreadable: list[tuple[int, str]] = []
            wanted = chunks_to_run(opened.plan, {one.number for one in missing}, folder, key)
            with _executing(opened, worker, wanted) as results:
                for chunk, result in results:
                    check_interrupted()
                    if isinstance(result, UnreadableImages):
                        unreadable += result.problems
                        continue
                    records = save_chunk(opened.plan, chunk, result, folder, key)
                    if records is not None and chunk.number < run.chunks:
                        plugins.call("ttt_bench_chunk_finished", run=run, records=records)
            worker.verify_backbone()
            if unreadable:
                # A stream that went on elsewhere may have met the same images twice.
                unreadable = sorted({*unreadable})
                texts = {"files": [text for _, text in unreadable]}
                folder.write_json(UNREADABLE_FILE, texts, key)
                raise UnreadableImagesError(unreadable)
    folder.states.drop(folder.states.numbers())
    parts, again = folder.parts(opened.card), folder.revisited_parts(opened.card)
    counted = folder.read_json(COST_FILE, key)
    summary, _ = summarize(opened.card, parts, counted, revisited=again)
    folder.write_json(SUMMARY_FILE, summary, key)
    if streams := summary.get("collapsed"):
        _warn_of_collapse(run, streams)
    plugins.call("ttt_bench_run_finished", run=run, summary=summary)
    return {**summary, "path": str(folder.path)}


def _warn_of_collapse(run: Run, streams: Sequence[str]) -> None:
    """Say in one line that a method predicts one or two classes at the end of streams."""
    named = ", ".join(streams[:SHOWN_STREAMS]) + (", ..." if len(streams) > SHOWN_STREAMS else "")
    print(
        f"{run.title} on {run.dataset}: it has collapsed: the predictions for the last tenth of "
        f"{'these streams' if len(streams) > 1 else 'the stream'} fall into one or two classes: "
        f"{named}",
        file=sys.stderr,
    )


@contextmanager
def _executing(
    opened: OpenRun, worker: MethodWorker, missing: Sequence[Chunk]
) -> Iterator[Iterator[tuple[Chunk, ChunkResult]]]:
    """Return what the executor computes; its processes end with the block, however it ends."""
    results = opened.executor.execute(worker, missing) if missing else iter(())
    try:
        yield results
    finally:
        if isinstance(results, Generator):
            results.close()


def _begin(opened: OpenRun) -> None:
    """Write the manifest, where there is none."""
    folder, continues = opened.folder, opened.continues
    if opened.config.fresh and (aside := folder.keep_aside()):
        print(f"{folder.path}: the run there is kept as {aside}", file=sys.stderr)
    lost = continues.chunks_count and continues.manifest is None
    spec = asdict(opened.worker_spec)
    folder.begin(
        opened.card,
        {
            "samples": opened.run.n,
            "worker": {k: str(v) if isinstance(v, Path) else v for k, v in spec.items()},
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "environment": describe(opened.worker_spec.device),
            "harness": harness(),
            "code_files": opened.code,
            **({"name": opened.config.name} if opened.config.name else {}),
        },
        replace=lost,
    )
    _rename(opened)


def _rename(opened: OpenRun) -> None:
    """Give a run that was there already the name that it has now."""
    folder, name = opened.folder, opened.config.name
    manifest = folder.manifest()
    if name and manifest.get("name") != name:
        card = ("card", "digests", "fingerprint", "key")
        about = {key: value for key, value in manifest.items() if key not in card}
        folder.begin(opened.card, {**about, "name": name}, replace=True)


@contextmanager
def _adopting(opened: OpenRun) -> Iterator[Callable[[], list[Any]]]:
    """Give a function that takes over the samples of a first attempt and returns what is missing.

    A first attempt in the same folder is moved aside before, and removed after the run.
    """
    aside: Path | None = None
    adopted = opened.continues.adopted
    if adopted is not None and adopted[0].path == opened.folder.path:
        aside = opened.folder.keep_aside()
        assert aside is not None
        adopted = type(opened.folder)(aside), adopted[1]

    def adopt() -> list[Any]:
        done: set[int] = set()
        if adopted is not None:
            source, before = adopted
            for chunk, records in adopted_chunks(
                source, before, opened.card, opened.missing, opened.dataset
            ):
                opened.folder.write_chunk(chunk.number, records, opened.card.key)
                done.add(chunk.number)
        return [chunk for chunk in opened.missing if chunk.number not in done]

    yield adopt
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)


def failure_lines(failures: Sequence[Failure]) -> list[str]:
    """Return the lines that say at the end of a command what failed."""
    return [
        f"{failure.title} on {failure.dataset}: {message}"
        for failure in failures
        for message in failure.messages
    ]


def as_json(summaries: Sequence[Mapping[str, Any]], failures: Sequence[Failure]) -> dict[str, Any]:
    """Return what `run --format json` prints."""
    printed: dict[str, Any] = {"runs": list(summaries)}
    if failures:
        printed["failures"] = [asdict(failure) for failure in failures]
    return printed
