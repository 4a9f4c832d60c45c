"""CheckFailed and Finding: how a check ends."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["passed", "skipped", "known failure"]

# A leak shows between two samples, and a third one tells a leak from a cache.
FEWEST_SAMPLES = 3


class CheckFailed(AssertionError):  # noqa: N818
    """A fault that a check has found; the message is one line that says what, and where."""


@dataclass(frozen=True)
class Finding:
    """The result of a check that did not fail.

    Attributes:
        text: one line.
        status: "skipped" for a check that does not apply to the method, with the reason in the
            text; "known failure" for one that failed as `AdapterSpec.known_failures` declares.
    """

    text: str
    status: Status = "passed"

    @property
    def skipped(self) -> bool:
        """Whether the check does not apply to the method."""
        return self.status == "skipped"
