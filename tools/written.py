"""Files that a script makes: written where they change, or only told."""

from collections.abc import Mapping
from pathlib import Path


def write_changed(texts: Mapping[Path, str], root: Path, check: bool) -> int:
    """Write each file whose text is another, say so, and return the exit status.

    Args:
        texts: the new text of each file.
        root: the folder that printed paths are relative to.
        check: whether to write nothing, and to return 1 if a file would change.
    """
    changed = {
        path: text
        for path, text in texts.items()
        if not path.is_file() or path.read_text("utf-8") != text
    }
    for path, text in changed.items():
        print(f"{path.relative_to(root)} {'would change' if check else 'is written'}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    return int(check and bool(changed))
