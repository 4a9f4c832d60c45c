"""The ten fine-grained datasets that CoOp split and TPT reports on.

Each has the single prompt of TPT (Shu et al. 2022) and, as its ensemble, the templates that CLIP's
authors published for it (Radford et al. 2021).
"""

from collections.abc import Mapping
from pathlib import Path

from typing_extensions import override

from ttt_bench.api.errors import UserError
from ttt_bench.api.on_disk import Archive, HowToGet
from ttt_bench.datasets.published_split import (
    INSTRUCTIONS,
    ExpectedCounts,
    PublishedSplit,
    Row,
    Split,
    ZhouSplit,
)

ROBOTS = "https://www.robots.ox.ac.uk/~vgg/data"
# TorchGeo's unchanged copy of the archive that CoOp took from its authors' server, now gone.
EUROSAT = (
    "https://huggingface.co/datasets/torchgeo/eurosat/resolve/"
    "c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip"
)


def _split_step(split_file: str) -> str:
    return f"Take {split_file} from the link in {INSTRUCTIONS} and put it into the folder."


class Flowers102(ZhouSplit):
    """Oxford Flowers (Nilsback and Zisserman 2008)."""

    name = "flowers102"
    prompt = "a photo of a {}, a type of flower."
    templates = (prompt,)
    folders = ("oxford_flowers", "Flower102", "flowers-102")
    image_folders = ("jpg",)
    split_file = "split_zhou_OxfordFlowers.json"
    known = ExpectedCounts(images=2463, classes=102)
    acquisition = HowToGet(
        archives=(
            Archive(
                url=f"{ROBOTS}/flowers/102/102flowers.tgz",
                hash="md5:52808999861908f626f3c1f4e79d11fa",
                size=344_862_509,
                folder="jpg",
                inner="jpg",
            ),
        ),
        steps=(_split_step(split_file),),
        gigabytes=0.35,
    )


class DescribableTextures(ZhouSplit):
    """The Describable Textures Dataset (Cimpoi et al. 2014)."""

    name = "dtd"
    prompt = "{} texture."
    templates = tuple(
        f"a photo of {article} {{}} {thing}."
        for article in ("a", "the")
        for thing in ("texture", "pattern", "thing", "object")
    )
    folders = ("dtd", "DTD")
    image_folders = ("images",)
    split_file = "split_zhou_DescribableTextures.json"
    known = ExpectedCounts(images=1692, classes=47, per_class=(36,))
    acquisition = HowToGet(
        archives=(
            Archive(
                url=f"{ROBOTS}/dtd/download/dtd-r1.0.1.tar.gz",
                hash="md5:fff73e5086ae6bdbea199a49dfb8a4c1",
                size=625_239_812,
                folder="images",
                inner="dtd/images",
            ),
        ),
        steps=(_split_step(split_file),),
        gigabytes=0.65,
    )


class OxfordPets(ZhouSplit):
    """The Oxford-IIIT Pet dataset (Parkhi et al. 2012)."""

    name = "oxford-pets"
    prompt = "a photo of a {}, a type of pet."
    templates = (prompt,)
    folders = ("oxford_pets", "OxfordPets", "oxford-iiit-pet")
    image_folders = ("images", "")
    split_file = "split_zhou_OxfordPets.json"
    known = ExpectedCounts(images=3669, classes=37)
    acquisition = HowToGet(
        archives=(
            Archive(
                url=f"{ROBOTS}/pets/data/images.tar.gz",
                hash="md5:5c4f3ee8e5d25df40f4fd59a7f44e54c",
                size=791_918_971,
                folder="images",
                inner="images",
            ),
        ),
        steps=(_split_step(split_file),),
        gigabytes=0.8,
    )


class StanfordCars(ZhouSplit):
    """Stanford Cars (Krause et al. 2013)."""

    name = "stanford-cars"
    prompt = "a photo of a {}."
    templates = (
        prompt,
        "a photo of the {}.",
        "a photo of my {}.",
        "i love my {}!",
        *(f"a photo of my {state} {{}}." for state in ("dirty", "clean", "new", "old")),
    )
    folders = ("stanford_cars", "StanfordCars")
    # The paths of the split begin with cars_train or cars_test.
    image_folders = ("",)
    split_file = "split_zhou_StanfordCars.json"
    known = ExpectedCounts(images=8041, classes=196)
    acquisition = HowToGet(
        steps=(
            "Get cars_train.tgz and cars_test.tgz; their authors' server no longer gives them out, "
            "copies elsewhere do.",
            "Unpack both into the folder stanford_cars, as cars_train and cars_test.",
            _split_step(split_file),
        ),
        gigabytes=2.0,
    )


class Ucf101(ZhouSplit):
    """The middle frames of UCF101's videos (Soomro et al. 2012), its first test list."""

    name = "ucf101"
    prompt = "a photo of a person doing {}."
    templates = tuple(
        f"a {medium} of {article} person {verb}{{}}."
        for verb in ("", "using ", "doing ", "during ", "performing ", "practicing ")
        for article in ("a", "the")
        for medium in ("photo", "video", "example", "demonstration")
    )
    folders = ("ucf101", "UCF101")
    image_folders = ("UCF-101-midframes", "")
    split_file = "split_zhou_UCF101.json"
    known = ExpectedCounts(images=3783, classes=101)
    acquisition = HowToGet(
        steps=(
            f"Take UCF-101-midframes.zip from the link in {INSTRUCTIONS}.",
            "Unpack it into the folder ucf101, as UCF-101-midframes.",
            _split_step(split_file),
        ),
        gigabytes=0.5,
    )


class Caltech101(ZhouSplit):
    """Caltech 101 (Fei-Fei et al. 2004) without its background and its second faces class."""

    name = "caltech101"
    prompt = "a photo of a {}."
    templates = tuple(
        template
        for article in ("a", "the")
        for template in (
            *(f"a {art} of {article} {{}}." for art in ("photo", "painting")),
            f"{article} plastic {{}}.",
            *(f"a {art} of {article} {{}}." for art in ("sculpture", "sketch", "tattoo")),
            f"{article} toy {{}}.",
            f"a rendition of {article} {{}}.",
            f"{article} embroidered {{}}.",
            f"{article} cartoon {{}}.",
            f"{article} {{}} in a video game.",
            f"{article} plushie {{}}.",
            f"{article} origami {{}}.",
            *(f"{art} of {article} {{}}." for art in ("art", "graffiti", "a drawing", "a doodle")),
        )
    )
    folders = ("caltech-101", "Caltech101", "caltech101")
    image_folders = ("101_ObjectCategories", "")
    split_file = "split_zhou_Caltech101.json"
    known = ExpectedCounts(images=2465, classes=100)
    acquisition = HowToGet(
        steps=(
            "Fetch https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip "
            "(md5 3138e1922a9193bfa496528edbbc45d0, 0.14 GB).",
            "Unpack the 101_ObjectCategories.tar.gz that it holds into the folder caltech-101.",
            _split_step(split_file),
        ),
        gigabytes=0.15,
    )


class Food101(ZhouSplit):
    """Food-101 (Bossard et al. 2014)."""

    name = "food101"
    prompt = "a photo of {}, a type of food."
    templates = (prompt,)
    folders = ("food-101", "Food101")
    image_folders = ("images",)
    split_file = "split_zhou_Food101.json"
    known = ExpectedCounts(images=30300, classes=101, per_class=(300,))
    acquisition = HowToGet(
        archives=(
            Archive(
                url="http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",
                hash="md5:85eeb15f3717b99a5da872d97d918f87",
                size=4_996_278_331,
                folder="images",
                inner="food-101/images",
            ),
        ),
        steps=(_split_step(split_file),),
        gigabytes=5.1,
    )


class Sun397(ZhouSplit):
    """SUN397 (Xiao et al. 2010), the first of its test partitions."""

    name = "sun397"
    prompt = "a photo of a {}."
    templates = (prompt, "a photo of the {}.")
    folders = ("sun397", "SUN397")
    image_folders = ("SUN397", "")
    split_file = "split_zhou_SUN397.json"
    known = ExpectedCounts(images=19850, classes=397, per_class=(50,))
    acquisition = HowToGet(
        archives=(
            Archive(
                url="http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz",
                hash="md5:8ca2778205c41d23104230ba66911c7a",
                size=39_000_000_000,
                folder="SUN397",
                inner="SUN397",
            ),
        ),
        steps=(_split_step(split_file),),
        gigabytes=39.0,
    )


class FgvcAircraft(PublishedSplit):
    """FGVC-Aircraft (Maji et al. 2013) by variant, with its own lists.

    CoOp and TPT have the archive's folder `data` as `fgvc_aircraft`; both places work.
    """

    name = "fgvc-aircraft"
    prompt = "a photo of a {}, a type of aircraft."
    templates = (prompt, "a photo of the {}, a type of aircraft.")
    folders = ("fgvc_aircraft", "fgvc-aircraft-2013b")
    image_folders = ("images", "data/images")
    known = ExpectedCounts(images=3333, classes=100)
    acquisition = HowToGet(
        archives=(
            Archive(
                url=f"{ROBOTS}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
                hash="md5:d4acdd33327262359767eeaa97a4f732",
                size=2_753_340_328,
                folder="data",
                inner="fgvc-aircraft-2013b/data",
            ),
        ),
        gigabytes=2.8,
    )

    @override
    def read(self) -> Split:
        file, variants = self._lines("variants.txt")
        labels = {variant: label for label, variant in enumerate(variants)}
        test, training = (
            self._rows(f"images_variant_{part}.txt", labels) for part in ("test", "train")
        )
        return Split(file, dict(enumerate(variants)), test, training)

    def _rows(self, name: str, labels: Mapping[str, int]) -> list[Row]:
        file, lines = self._lines(name)
        rows = []
        for line in lines:
            image, _, variant = line.partition(" ")
            if variant not in labels:
                raise UserError(f"{file}: {line!r} names no variant of variants.txt")
            rows.append((f"{image}.jpg", labels[variant]))
        return rows

    def _lines(self, name: str) -> tuple[Path, list[str]]:
        """The file of that name and its lines without the empty ones."""
        places = [self.root / name, self.root / "data" / name]
        file = next((place for place in places if place.exists()), None)
        if file is None:
            raise UserError(
                f"{self.root}: no {name} in it or in its folder data; `ttt-bench data status "
                f"{self.name}` says how to get it"
            )
        try:
            lines = file.read_text("utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise UserError(f"{file}: not readable as text ({error})") from error
        return file, [line.strip() for line in lines if line.strip()]


class EuroSat(ZhouSplit):
    """EuroSAT's RGB images (Helber et al. 2019)."""

    name = "eurosat"
    prompt = "a centered satellite photo of {}."
    templates = (
        prompt,
        "a centered satellite photo of a {}.",
        "a centered satellite photo of the {}.",
    )
    folders = ("eurosat", "EuroSAT")
    image_folders = ("2750", "EuroSAT_RGB", "")
    split_file = "split_zhou_EuroSAT.json"
    known = ExpectedCounts(
        images=8100, classes=10, per_class=(900, 900, 900, 750, 750, 600, 750, 900, 750, 900)
    )
    acquisition = HowToGet(
        archives=(
            Archive(
                url=EUROSAT,
                hash="md5:c8fa014336c82ac7804f0398fcb19387",
                size=94_280_567,
                folder="2750",
                inner="2750",
            ),
        ),
        steps=(_split_step(split_file),),
        gigabytes=0.1,
    )
