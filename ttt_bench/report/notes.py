"""Marks on the rows of tables, and the notes below that explain them."""

from collections.abc import Mapping, Sequence
from typing import Any

Summary = Mapping[str, Any]

COUNTING = (
    "Oracle top-1 counts a sample as right if the prediction after any step was: it peeks at the "
    "labels and is an upper bound, not a result. GFLOPs per sample are those of the frozen model "
    "and of what is adapted, forward and backward, two per multiply-add. Memory is the peak of "
    "live tensors for one sample (one batch, of methods marked ‡), weights included."
)
OVER_SEEDS = (
    "Rows of several seeds: the mean, ± the standard deviation over the seeds. Their intervals "
    "and differences are by a bootstrap that draws samples and seeds anew."
)
LABELS_USED = "†"
NOT_ALONE = "‡"
KNOWN_FAILURES = "§"
DATASET_PRESET = "¶"
OTHER_PROMPTS = "◊"
DEPENDS_ON = {
    "batch": "of kind batch: a prediction depends on the other samples of its batch",
    "stream": "online: saw other test samples before; a prediction depends on them and on "
    "its batch",
}
STREAMS = {
    "grouped": "each corruption or domain a stream of its own",
    "continual": "one stream of the groups one after another, never reset",
    "gradual": "one stream in which severities rise and fall, never reset",
    "mixed": "one stream of all groups, shuffled",
}
COLLAPSED = "collapsed: predicts one or two classes at the end of"


def marked_name(row: Summary) -> str:
    """Return the name of a row's method with the marks of the notes that apply to it."""
    marks = {
        LABELS_USED: row["labelled_data"],
        NOT_ALONE: row["kind"] in DEPENDS_ON,
        KNOWN_FAILURES: row["known_failures"],
        DATASET_PRESET: row.get("dataset_preset"),
        OTHER_PROMPTS: row.get("other_prompts"),
    }
    return row["variant"] + "".join(mark for mark, applies in marks.items() if applies)


def shown_backbone(row: Summary) -> str:
    """Return a row's backbone, with the precision of its forward pass if that is not float32."""
    name, precision = row["backbone"], row["precision"]
    return name if precision == "fp32" else f"{name} {precision}"


def notes(rows: Sequence[Summary]) -> list[str]:
    """Return what a reader of these rows has to know: the marks explained, and the counting."""
    methods: dict[str, dict[str, None]] = {}
    for row in rows:
        for text in _texts(row):
            methods.setdefault(text, {})[row["variant"]] = None
    explained = [
        f"{mark} {', '.join(names)}: {rest}."
        for text, names in sorted(methods.items(), key=_order_of_marks)
        for mark, _, rest in [text.partition(" ")]
    ]
    return [*explained, *_seed_notes(rows), COUNTING]


def _seed_notes(rows: Sequence[Summary]) -> list[str]:
    """Return what has to be said of the seeds, nothing where every row has the same one."""
    seeds: dict[tuple[int, ...], list[str]] = {}
    for row in rows:
        # The label of a row for each seed names it.
        if f"seed={row.get('seed')}" not in row["variant"].split():
            seeds.setdefault(tuple(row.get("seeds", ())), []).append(row["variant"])
    several = any(len(some) > 1 for some in seeds)
    found = [OVER_SEEDS] if several else []
    if len(seeds) > 1:
        *fewer, most = sorted(seeds.items(), key=lambda item: len(item[1]))
        named = [(", ".join(dict.fromkeys(names)), some) for some, names in fewer]
        listed = [
            f"{names}: {', '.join(map(str, some))}"
            for names, some in [*named, ("all others", most[0])]
        ]
        found.append(f"Seeds of the rows: {'; '.join(listed)}.")
    return found


def _order_of_marks(item: tuple[str, Any]) -> int:
    return (LABELS_USED, NOT_ALONE, KNOWN_FAILURES, DATASET_PRESET, OTHER_PROMPTS).index(item[0][0])


def _texts(row: Summary) -> list[str]:
    """Return a mark with its explanation for each mark of a row."""
    texts = []
    if row["labelled_data"]:
        texts.append(f"{LABELS_USED} {row['labelled_data']}")
    if row["kind"] in DEPENDS_ON:
        size = row["batch_size"]
        samples = "" if size is None else f" of {size}"
        texts.append(f"{NOT_ALONE} {DEPENDS_ON[row['kind']]}{samples}{_stream_text(row)}")
    for check, reason in row["known_failures"].items():
        texts.append(f"{KNOWN_FAILURES} fails the check {check} by design ({reason})")
    if preset := row.get("dataset_preset"):
        values = ", ".join(f"{name} {value}" for name, value in preset["values"].items())
        texts.append(f"{DATASET_PRESET} {preset['note']} ({values})")
    if other := row.get("other_prompts"):
        values = ", ".join(f"{name} {value}" for name, value in other.items())
        texts.append(f"{OTHER_PROMPTS} other prompts than the protocol's ({values})")
    return texts


def _stream_text(row: Summary) -> str:
    """Return what a note says of a row's streams, "" for one that names none."""
    if row.get("stream") is None:
        return ""
    text = f"; {row['stream']}: {STREAMS.get(row['stream'], 'another order')}"
    if row["correlation"] is not None:
        text += f", labels in runs (Dirichlet concentration {row['correlation']:g})"
    if row["collapsed"]:
        text += f"; {COLLAPSED} {len(row['collapsed'])} of its streams"
    return text
