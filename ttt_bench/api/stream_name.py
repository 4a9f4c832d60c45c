"""StreamName: the orders of samples that methods of kind `batch` and `stream` can be given."""

from typing import Literal

StreamName = Literal["grouped", "continual", "gradual", "mixed"]
