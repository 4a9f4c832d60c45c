"""PromptConfig: the prompts of the classes, as a field that methods share."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES
from pydantic import Field, model_validator
from torch import Tensor

from ttt_bench import AdapterConfig, ClassSet, DualEncoder, Task, UserError, file_hash

Prompts = Literal["protocol", "dataset-templates", "single", "seven", "eighty"]
SINGLE = ("a photo of a {}.",)
# Tip-Adapter's seven (Zhang et al. 2022, arXiv 2207.09519) are the last line of CLIP's notebook.
SEVEN = tuple(template("{}") for template in SIMPLE_IMAGENET_TEMPLATES)
EIGHTY = tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)


class PromptConfig(AdapterConfig):
    """The fields of a method that classifies by text features.

    The default is the protocol's prompt, so that rows of a table differ by the method alone.
    """

    prompts: Prompts = Field(
        default="protocol",
        description="prompts of a class: the protocol's single one, the dataset's own templates, "
        "'a photo of a {}.', the seven ImageNet templates of Tip-Adapter, or CLIP's eighty",
    )
    descriptions: str = Field(
        default="",
        description="JSON file of descriptions by class name, such as CuPL's, to average with the "
        "prompts",
    )
    descriptions_sha256: str = Field(
        default="", description="SHA-256 of the descriptions, filled in from the file"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_hash(cls, values: Any) -> Any:
        path = values.get("descriptions") if isinstance(values, dict) else None
        if isinstance(path, str) and path:
            return {**values, "descriptions_sha256": file_hash(Path(path))}
        return values


def templates(prompts: Prompts, classes: ClassSet) -> tuple[str, ...]:
    """Return the templates that a value of `PromptConfig.prompts` stands for."""
    named = {
        "protocol": (classes.prompt,),
        "dataset-templates": classes.templates,
        "single": SINGLE,
        "seven": SEVEN,
        "eighty": EIGHTY,
    }
    return named[prompts]


@torch.no_grad()
def class_texts(task: Task, config: PromptConfig) -> Float[Tensor, "classes dim"]:
    """Return the unit text feature of each class under the configured prompts.

    It is the mean of the unit features of a class's prompts and descriptions, normalized again.

    Raises:
        UserError: the backbone is no dual encoder, or a class has no descriptions in the file.
    """
    backbone, classes = task.require(DualEncoder), task.classes
    named = templates(config.prompts, classes)
    with task.forward_pass():
        if not config.descriptions:
            return backbone.class_features(classes.names, named)
        described = read_descriptions(Path(config.descriptions), classes.names)
        means: list[Tensor] = []
        for name in classes.names:
            texts = [*(template.format(name) for template in named), *described[name]]
            features = backbone.encode_text(texts).float()
            means.append(F.normalize(features, dim=1).mean(dim=0))
        return F.normalize(torch.stack(means), dim=1)  # (classes, dim)


def read_descriptions(path: Path, names: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Read descriptions of classes by their names.

    Args:
        path: a JSON file with an object of lists of sentences, as CuPL publishes them (Pratt et al.
            2023, arXiv 2209.03320).
        names: the classes, each of which needs descriptions.

    Raises:
        UserError: the file is no such object, or a class is missing in it.
    """
    try:
        described = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(described, dict):
        raise UserError(f"{path}: holds no object; give lists of sentences by class name")
    for name in names:
        sentences = described.get(name)
        if not (
            isinstance(sentences, list) and sentences and all(isinstance(s, str) for s in sentences)
        ):
            raise UserError(f"{path}: no list of sentences for the class {name!r}; add one")
    return described
