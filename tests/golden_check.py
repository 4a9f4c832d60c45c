"""Compare our implementations with numbers that the methods' original releases gave.

    python tests/golden_check.py FILE.npz

prints one JSON line: the kind of the file, and for every stored output the largest absolute
difference and the same relative to the output's largest value. The code of each kind stands in its
plugin (`ttt-bench list goldens`). The kind `cifar_c` alone belongs to the functions in tools/ that
make the embedded dataset: it prints mean absolute grey-level differences, and what was left out
because a library is missing.
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ttt_bench import UserError
from ttt_bench.testing import goldens

TOOLS = Path(__file__).parents[1] / "tools"
sys.path.append(str(TOOLS))
import cifar_c_golden  # noqa: E402


def compare(path: Path) -> dict[str, Any]:
    """The JSON object that the command prints."""
    arrays = goldens.read_arrays(path)
    if set(arrays) >= cifar_c_golden.ARRAYS:
        return cifar_c_golden.compare(arrays)
    # The inputs are those of other golden files; the plugin's own stand in for missing ones.
    beside = [arrays[name] for name in ("golden_file", "files", "inputs_from") if name in arrays]
    for name in itertools.chain(*map(np.atleast_1d, beside)):
        if path.with_name(str(name)).is_file():
            inputs = goldens.read_arrays(path.with_name(str(name)))
            arrays |= {f"golden_file/{array}": value for array, value in inputs.items()}
    result = goldens.compare(goldens.recognise(arrays), arrays)
    return {
        "kind": result.spec.name,
        "max_abs_diff": dict(result.max_abs_diff),
        "max_rel_diff": dict(result.max_rel_diff),
    }


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/golden_check.py FILE.npz")
    try:
        result = compare(Path(sys.argv[1]))
    except (UserError, ValueError) as error:
        sys.exit(f"golden_check: {sys.argv[1]}: {error}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
