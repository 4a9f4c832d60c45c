"""Progress of downloads on standard error."""

from ttt_bench.runner.progress import ProgressBar


class TransferProgress(ProgressBar):
    """How far a download is; called with the bytes there and the bytes of the whole file."""

    def __init__(self, title: str) -> None:
        super().__init__(title, _megabytes)

    def __enter__(self) -> "TransferProgress":
        super().__enter__()
        return self

    def __call__(self, have: int, total: int | None) -> None:
        """Move the bar; print a line at the end."""
        self.update(have, total)
        if have == total:
            self.print(_megabytes(self))


def _megabytes(bar: ProgressBar) -> str:
    whole = f" of {bar.total / 1e6:.1f}" if bar.total else ""
    return f"{bar.done / 1e6:.1f}{whole} MB"
