"""Verifying a run: some of its samples are run again and compared with its records."""

import random
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ttt_bench.api.errors import UserError, described
from ttt_bench.api.executor import Chunk, UnreadableImages, without_state
from ttt_bench.api.records import Records
from ttt_bench.cache.features import image_name
from ttt_bench.datasets.loading import load_dataset
from ttt_bench.preparation.parts import open_entry
from ttt_bench.registry import registry
from ttt_bench.runner.config import RunConfig
from ttt_bench.runner.continuing import changed_code
from ttt_bench.runner.loading import Loaded
from ttt_bench.runner.opening import OpenRun, open_run
from ttt_bench.runner.sample_check import SampleCheck, check_sample
from ttt_bench.runs.archive import RunFiles
from ttt_bench.runs.arrow import joined
from ttt_bench.runs.card import PARTS, Card, differences, samples_digest
from ttt_bench.runs.code import harness
from ttt_bench.runs.environment import describe
from ttt_bench.runs.parts import chosen_rows, read_without_logits
from ttt_bench.runs.schema import require_manifest

# What a bit of a result can depend on besides the card and the code.
ENVIRONMENT = ("python", "packages", "processor", "device")
LONGEST_VALUE = 60
# A method that is known to fail one of these predicts a sample otherwise when it is alone.
INDEPENDENCE = ("check_a_b_a", "check_order_independence", "check_batch_independence")


@dataclass(frozen=True)
class Subject:
    """What the user says of this machine, where it differs from that of the run.

    Attributes:
        dataset: the dataset's name here, None for the run's.
        data_root: where datasets are looked for, None for where the run found them.
        weights: the backbone's file of weights here, None for the run's.
        device: the device to compute on.
    """

    dataset: str | None = None
    data_root: Path | None = None
    weights: Path | None = None
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"


@dataclass(frozen=True)
class Verification:
    """The samples of one run that were run again.

    Attributes:
        path: the run's folder, or its place in an exported file.
        key: the run's key.
        differences: how this machine differs from that of the run.
        samples: the samples, in the order of the records.
    """

    path: str
    key: str
    differences: tuple[str, ...]
    samples: tuple[SampleCheck, ...]

    def counts(self) -> dict[str, int]:
        """Return how many samples were checked, and how many got each verdict."""
        return count(self.samples)

    def as_json(self) -> dict[str, Any]:
        """Return the run, the counts and how this machine differs."""
        return {
            "run": self.path,
            "key": self.key,
            **self.counts(),
            "differences": list(self.differences),
        }


def count(samples: Sequence[SampleCheck]) -> dict[str, int]:
    """Return how many samples there are, and how many of each verdict."""
    verdicts = [sample.verdict for sample in samples]
    counts = {verdict: verdicts.count(verdict) for verdict in ("equal", "close", "different")}
    return {"checked": len(verdicts), **counts}


def as_json(verifications: Sequence[Verification]) -> dict[str, Any]:
    """Return what `verify --format json` prints."""
    checked = [(one.path, sample) for one in verifications for sample in one.samples]
    return {
        **count([sample for _, sample in checked]),
        "samples": [{"run": path, **asdict(sample)} for path, sample in checked],
        "runs": [one.as_json() for one in verifications],
    }


def verify(files: RunFiles, samples: int, subject: Subject) -> Verification:
    """Run a few samples of a finished run again and compare them with its records.

    Args:
        files: the run.
        samples: how many to draw. Of a method of kind `batch` the whole batches that they are in
            are run again. Of one of kind `stream` they are drawn from one stream, which is run
            again from its start to the last of them.
        subject: what the user says of this machine.

    Returns:
        The samples that were run again; none where the method is known to predict a sample
        otherwise without those before it.

    Raises:
        UserError: the run is unfinished or damaged, this machine lacks something it needs, or the
            method fails.
    """
    manifest, card = files.manifest(), files.card()
    require_manifest(manifest, str(files.path / "manifest.json"))
    parts = files.parts(card)
    read = read_without_logits(parts)
    records = joined(read)
    if samples_digest(records.sample_id) != card.protocol["samples"]:
        raise UserError(f"{files.path}: its records are not of the samples that its card names")
    if known := [name for name in INDEPENDENCE if name in card.method["known_failures"]]:
        reason = (
            f"no sample is run again, since {card.method['method']} is known to fail {known[0]}: "
            "its predictions depend on other samples"
        )
        print(f"{files.path}: {reason}", file=sys.stderr, flush=True)
        return Verification(str(files.path), card.key, (reason,), ())
    rows = _drawn_rows(records, samples, one_stream=card.method["kind"] == "stream")
    drawn = chosen_rows(parts, [len(part) for part in read], rows)
    # Plugins print to standard error, as in a run.
    with redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as folder:
        opened = _open(files, manifest, card, subject, Path(folder))
        by_id = {opened.dataset.sample_id(i): i for i in range(len(opened.dataset.entries))}
        absent = [name for name in records.sample_id if name not in by_id]
        if absent:
            raise UserError(
                f"{files.path}: {len(absent)} of its {len(records)} samples are not in "
                f"{opened.dataset.name} here; give the folder of the same data by --data-root or "
                "--dataset"
            )
        indices = [by_id[name] for name in drawn.sample_id]
        environment = list(_environment(manifest, opened))
        deviations = [*_card_differences(manifest, card, opened), *environment]
        deviations += _image_differences(drawn, opened, indices)
        for line in deviations:
            print(f"{files.path}: {line}", file=sys.stderr, flush=True)
        if opened.card.method["kind"] == "stream":
            last = max(_position(records, row) for row in rows) + 1
            print(
                f"{files.path}: predictions depend on the samples before, so the stream "
                f"{(records.stream or ['all'])[rows[0]]} is run again from its start, at least "
                f"{last} samples",
                file=sys.stderr,
                flush=True,
            )
        here = _run_again(opened, indices)
    checks = tuple(
        check_sample(drawn.in_order_of([name]), here.in_order_of([name]), not environment)
        for name in drawn.sample_id
    )
    return Verification(str(files.path), card.key, tuple(deviations), checks)


def _drawn_rows(records: Records, samples: int, one_stream: bool) -> list[int]:
    """Return rows drawn from all records, or from those of one drawn stream."""
    draw, rows = random.SystemRandom(), list(range(len(records)))
    if one_stream and records.stream is not None:
        # A long stream is drawn more often.
        stream = records.stream[draw.choice(rows)]
        rows = [row for row in rows if records.stream[row] == stream]
    return sorted(draw.sample(rows, min(samples, len(rows))))


def _position(records: Records, row: int) -> int:
    return 0 if records.position is None else int(records.position[row])


def _open(
    files: RunFiles, manifest: Mapping[str, Any], card: Card, subject: Subject, folder: Path
) -> OpenRun:
    """Open the run anew, as `ttt-bench run` would.

    Raises:
        UserError: this machine lacks a plugin, data or weights; each is named.
    """
    worker, method = manifest["worker"], card.method
    root, weights = worker["data_root"], worker.get("weights")
    limit, seed = card.protocol["limit"], card.protocol["seed"]
    if seed < 0 or (limit is not None and limit < 1):
        raise UserError(f"{files.path}: its card has a limit or a seed that no run can have")
    if subject.weights is not None or not isinstance(weights, str):
        weights = subject.weights
    config = RunConfig(
        method=method["method"],
        dataset=subject.dataset or worker["dataset"],
        backbone=method["backbone"],
        weights=None if weights is None else Path(weights),
        data_root=subject.data_root or (None if root is None else Path(root)),
        limit=limit,
        seed=seed,
        settings=method["config"],
        **_stream_options(method.get("stream")),
        device=subject.device,
        precision=method["precision"],
        # Features that were kept may be what is wrong.
        feature_cache=False,
        output=folder,
    )
    missing: list[str] = []
    skip: frozenset[int] = frozenset()
    for catalog, name in (
        (registry().adapters, config.method),
        (registry().backbones, method["backbone"]),
    ):
        try:
            catalog.find(name)
        except UserError as error:
            missing.append(str(error))
    try:
        dataset = load_dataset(config.dataset, config.data_root)
        skipped = {*card.protocol.get("skipped", ())}
        skip = frozenset(i for i, entry in enumerate(dataset.entries) if entry.key in skipped)
    except UserError as error:
        missing.append(str(error))
    except Exception as error:
        missing.append(f"{config.dataset}: cannot be loaded ({described(error)})")
    if missing:
        raise UserError(f"{files.path}: cannot be run again here: {'; '.join(missing)}")
    try:
        return open_run(config, Loaded(), skip)
    except UserError as error:
        raise UserError(f"{files.path}: cannot be run again here: {error}") from error


def _stream_options(stream: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the options of a run that the card of an online method records."""
    if stream is None:
        return {}
    return {
        "stream": stream["name"],
        "correlation": stream["correlation"],
        "revisit": stream["revisited"] > 0,
    }


def _card_differences(manifest: Mapping[str, Any], card: Card, opened: OpenRun) -> Iterator[str]:
    """Yield in what the card that this machine would write differs, code by its files."""
    code = False
    for part in PARTS:
        for name, before, now in differences(getattr(card, part), getattr(opened.card, part)):
            if name.partition(".")[0] == "code":
                code = True
            else:
                yield f"{name} is {_short(before)} in the run and {_short(now)} here"
    if code:
        changed = changed_code(manifest, opened.code)
        yield f"the plugins' code differs here{f' (changed: {changed})' if changed else ''}"
    before, now = manifest["harness"], harness()
    if before["code"] != now["code"]:
        yield (
            f"ttt-bench's own code differs here (version {_short(before['version'])} in the run, "
            f"{now['version']} here)"
        )


def _environment(manifest: Mapping[str, Any], opened: OpenRun) -> Iterator[str]:
    """Yield in what the device and the versions differ."""
    now = describe(opened.worker_spec.device)
    parts = [
        {name: env.get(name) for name in ENVIRONMENT} for env in (manifest["environment"], now)
    ]
    for name, before, value in differences(*parts):
        yield f"{name} is {_short(before)} in the run and {_short(value)} here"


def _image_differences(drawn: Records, opened: OpenRun, indices: Sequence[int]) -> Iterator[str]:
    """Yield the drawn samples whose image has other pixels here.

    Raises:
        UserError: an image cannot be read.
    """
    for name, digest, index in zip(drawn.sample_id, drawn.image_digest, indices, strict=True):
        if digest and digest != image_name(open_entry(opened.dataset, index)):
            key = opened.dataset.entries[index].key
            yield f"the image of sample {name} ({_short(key)}) has other pixels here"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _run_again(opened: OpenRun, indices: Sequence[int]) -> Records:
    """Compute the records of these entries, in the batches and streams of the plan.

    Raises:
        UserError: an image cannot be read, or the method fails.
    """
    assert opened.worker is not None
    results: list[Records] = []
    for chunk in _chunks(opened, frozenset(indices)):
        result = opened.worker.run(chunk)
        if isinstance(result, UnreadableImages):
            raise UserError("; ".join(text for _, text in result.problems))
        results.append(without_state(result))
    opened.worker.verify_backbone()
    return joined(results)


def _chunks(opened: OpenRun, indices: frozenset[int]) -> Iterator[Chunk]:
    """Yield what has to run for these entries: themselves, whole batches, or what led to them."""
    kind = opened.card.method["kind"]
    if kind == "sample":
        yield Chunk(0, tuple(sorted(indices)))
        return
    chosen = [chunk for chunk in opened.plan.chunks if not indices.isdisjoint(chunk.indices)]
    if kind == "stream":
        starts = opened.plan.chain_starts
        # From a new start to the last of them in each stream.
        ends = {starts[chunk.number]: chunk.number for chunk in chosen}
        for start, end in ends.items():
            yield from opened.plan.chunks[start : end + 1]
        return
    for chunk in chosen:
        batches = tuple(batch for batch in chunk.batches if not indices.isdisjoint(batch))
        inside = tuple(sorted(index for batch in batches for index in batch))
        yield Chunk(chunk.number, inside, batches)
