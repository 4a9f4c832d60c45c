"""Draw the picture of README.md and docs/index.md: accuracy by corruption of the first result set.

    python tools/make_results.py run first   # the runs
    python tools/make_picture.py             # docs/images/report.svg

The figure is one of `ttt-bench report`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "build" / "results" / "first"
PICTURE = ROOT / "docs" / "images" / "report.svg"
# The same runs give the same file: letters stay letters, and ids are not drawn at random.
STYLE = "svg.hashsalt: ttt-bench\nsvg.fonttype: none\n"


def main() -> None:
    """Draw the figure of the runs in build/results/first, or in the folder that is named."""
    runs = sys.argv[1] if len(sys.argv) > 1 else str(RUNS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "matplotlibrc").write_text(STYLE)
        environment = {
            **os.environ,
            "MATPLOTLIBRC": str(folder / "matplotlibrc"),
            "SOURCE_DATE_EPOCH": "0",
        }
        output = str(folder / "figures")
        options = ["--figure", "corruptions", "--format", "svg", "--output", output]
        command = [sys.executable, "-m", "ttt_bench", "plot", runs, *options]
        subprocess.run(command, check=True, env=environment)
        (drawn,) = (folder / "figures").iterdir()
        PICTURE.parent.mkdir(exist_ok=True)
        shutil.copyfile(drawn, PICTURE)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
