"""The facts of datasets in containers of the user's: the `datasets` library's, and tar shards."""

from ttt_bench.api.specs import DatasetSpec

HUGGING_FACE = DatasetSpec(
    name="hf",
    argument="NAME_OR_PATH[,KEY=VALUE,...]",
    summary="a dataset of the Hugging Face hub or a folder of the datasets library, with split=, "
    "image=, label=, classes=FILE, config=, revision=",
    code="ttt_bench.datasets.hugging_face:HuggingFaceImages",
    source="the Hugging Face hub, or the user's own folder",
    licence="as the dataset's card on the hub has it",
)
WEBDATASET = DatasetSpec(
    name="webdataset",
    argument="PATTERN[,classes=FILE]",
    summary="tar shards of images with .cls or .json, as webdataset:photos/{000..003}.tar",
    code="ttt_bench.datasets.webdataset:WebDataset",
    source="the user's own shards",
    licence="as the user's images have it",
)
ROWS = (HUGGING_FACE, WEBDATASET)
