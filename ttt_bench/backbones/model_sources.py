"""Models in repositories of the hub and in folders: `hf-hub:ORG/NAME` and `local-dir:FOLDER`.

timm and open_clip spell both in this way, and keep a model's configuration beside its weights.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import hf_hub_download, try_to_load_from_cache

from ttt_bench.api.errors import UserError, first_line
from ttt_bench.api.regular_files import require_regular
from ttt_bench.backbones.published_weights import load_published
from ttt_bench.toolkit.quiet import quiet

HUB, FOLDER = "hf-hub:", "local-dir:"
LARGEST_CONFIG = 1 << 26

BuiltT = TypeVar("BuiltT")


def is_source(argument: str) -> bool:
    """Say whether a model is named by where it is instead of by its architecture."""
    return argument.startswith((HUB, FOLDER))


def load_from_source(
    name: str, argument: str, config_file: str, weights: Path | None, build: Callable[[], BuiltT]
) -> BuiltT:
    """Build a model from a repository or a folder.

    Args:
        name: the backbone's name, for messages.
        argument: `hf-hub:...` or `local-dir:...`.
        config_file: the name of the configuration's file.
        weights: a file of weights that the user gave, which is refused.
        build: builds the model by its library.

    Raises:
        UserError: the model cannot be loaded, or a file of weights was given too.
    """
    if weights is not None:
        raise UserError(f"{name} brings its own weights; leave --weights out")
    config, problem = read_config(argument, config_file)
    if config is None:
        raise UserError(f"{name}: {problem}")
    if argument.startswith(HUB):
        return load_published(name, argument.removeprefix(HUB), None, build)
    try:
        with quiet():
            return build()
    # A damaged folder can fail in any way.
    except Exception as error:
        raise UserError(
            f"{name}: the folder's model cannot be loaded ({first_line(error)}); give a folder "
            f"with {config_file} and the weights that fit it"
        ) from error


def read_config(argument: str, config_file: str) -> tuple[dict[str, Any] | None, str]:
    """Return a model's configuration, or None and what is wrong.

    Args:
        argument: `hf-hub:...` or `local-dir:...`.
        config_file: the name of the configuration's file.
    """
    if argument.startswith(HUB):
        return _hub_config(argument.removeprefix(HUB), config_file)
    folder = Path(argument.removeprefix(FOLDER))
    if not folder.is_dir():
        return None, f"there is no folder {folder}; give the path of one"
    return _read_json(folder / config_file)


# A hub that does not answer is waited for once.
@cache
def _hub_config(model: str, config_file: str) -> tuple[dict[str, Any] | None, str]:
    repository, _, revision = model.partition("@")
    try:
        cached = try_to_load_from_cache(repository, config_file, revision=revision or None)
        if isinstance(cached, str):
            return _read_json(Path(cached))
        path = load_published(
            f"{HUB}{model}",
            repository,
            None,
            lambda: hf_hub_download(repository, config_file, revision=revision or None),
        )
        return _read_json(Path(path))
    except UserError as error:
        # A model without weights of its own cannot take the user's file.
        return None, str(error).replace(", or give a file with --weights", "")
    except Exception as error:
        return None, f"no model of the hub ({first_line(error)}); write {HUB}ORGANIZATION/NAME"


def _read_json(path: Path) -> tuple[dict[str, Any] | None, str]:
    try:
        require_regular(path, LARGEST_CONFIG)
        content = json.loads(path.read_text("utf-8"))
    except UserError as error:
        return None, str(error)
    except (OSError, ValueError, RecursionError) as error:
        return None, f"{path}: not readable as JSON ({first_line(error)}); give another model"
    if not isinstance(content, dict):
        return None, f"{path}: is no model's configuration; give another model"
    return content, ""
