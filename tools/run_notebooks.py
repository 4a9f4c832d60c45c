"""Run the notebooks of examples/ and write them back with their outputs.

    pip install -c constraints.txt -e '.[dev]' -e plugins/apm
    python tools/run_notebooks.py                    # all of them, in place
    python tools/run_notebooks.py own_method -o DIR  # one of them, into another folder

A notebook runs in an empty folder that holds the other files of examples/, so no output names a
folder of this machine. What differs between two runs of the same code is left out of the file.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

EXAMPLES = Path(__file__).parents[1] / "examples"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
SECONDS = 600


def execute(path: Path) -> NotebookNode:
    """Return a notebook with the outputs of a run in a folder of its own.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raises.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        for file in path.parent.iterdir():
            if file.is_file() and file.suffix != ".ipynb":
                shutil.copy(file, folder)
        client = NotebookClient(
            notebook,
            timeout=SECONDS,
            kernel_name=KERNEL["name"],
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        )
        client.execute()
    notebook.metadata = NotebookNode(kernelspec=KERNEL)
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{number}"
        cell.metadata = NotebookNode()
        for output in cell.get("outputs", ()):
            # A picture comes in two formats.
            output.get("data", {}).pop("image/jpeg", None)
    return notebook


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the notebooks of examples/.")
    parser.add_argument("names", nargs="*", help="notebooks without .ipynb, none for all")
    parser.add_argument("-o", "--output", type=Path, default=EXAMPLES, help="folder to write to")
    arguments = parser.parse_args()
    paths = [EXAMPLES / f"{name}.ipynb" for name in arguments.names]
    for path in paths or sorted(EXAMPLES.glob("*.ipynb")):
        nbformat.write(execute(path), arguments.output / path.name)
        print(path.name)


if __name__ == "__main__":
    main()
