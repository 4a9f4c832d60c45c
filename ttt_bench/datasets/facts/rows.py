"""Rows of facts: a `DatasetSpec` with the figures that a reader checks a folder against."""

from dataclasses import dataclass

from ttt_bench.api.specs import DatasetSpec


@dataclass(frozen=True)
class ExpectedCounts:
    """Numbers of images that a published test list has.

    Attributes:
        images: test images.
        classes: classes, each with at least one test image.
        per_class: test images of each class, in the order of the labels; one number where all
            classes have the same, empty where it is not known.
    """

    images: int
    classes: int
    per_class: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.images} images of {self.classes} classes"


@dataclass(frozen=True, kw_only=True)
class SplitSpec(DatasetSpec):
    """A dataset whose test images are a published list.

    Attributes:
        counts: the published numbers of the list.
        prompt: the single template.
        templates: the templates of the prompt ensemble.
        image_folders: folders that the paths of the list may begin in, in the order tried.
        split_file: name of the list's file, "" for a list of a form of its own.
    """

    counts: ExpectedCounts
    prompt: str
    templates: tuple[str, ...]
    image_folders: tuple[str, ...]
    split_file: str = ""


@dataclass(frozen=True, kw_only=True)
class ClassFoldersSpec(DatasetSpec):
    """A dataset of ImageNet's classes with a folder of images for each class.

    Attributes:
        image_folders: folders that the class folders may be in, in the order tried.
        total: published number of images.
        per_class: published number of images of each class, None where it differs.
        class_list: name of timm's list of the classes, "" for all 1000.
        remedy: what to do about a folder that is not complete.
    """

    image_folders: tuple[str, ...]
    total: int
    per_class: int | None = None
    class_list: str = ""
    remedy: str = "unpack it again"
