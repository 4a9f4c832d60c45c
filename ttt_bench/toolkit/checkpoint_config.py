"""CheckpointConfig: the configuration of a method with a learned checkpoint."""

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from ttt_bench.api.adapter import AdapterConfig
from ttt_bench.toolkit.checkpoints import file_hash


class CheckpointConfig(AdapterConfig):
    """A configuration with a checkpoint, whose hash goes onto the protocol card with it."""

    checkpoint: str = Field("", description="path of the checkpoint to use")
    checkpoint_sha256: str = Field(
        "", description="SHA-256 of the checkpoint, filled in from the file"
    )

    @classmethod
    def locate(cls, checkpoint: str) -> Path:
        """Return the file that a value of `checkpoint` stands for: the path itself.

        A plugin that brings checkpoints of its own overrides it.
        """
        return Path(checkpoint)

    @model_validator(mode="before")
    @classmethod
    def _fill_in_hash(cls, values: Any) -> Any:
        checkpoint = values.get("checkpoint") if isinstance(values, dict) else None
        if isinstance(checkpoint, str) and checkpoint:
            return {**values, "checkpoint_sha256": file_hash(cls.locate(checkpoint))}
        return values
