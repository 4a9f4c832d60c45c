"""The facts of the ten fine-grained datasets that CoOp split and TPT reports on.

Each has the single prompt of TPT (Shu et al. 2022) and, as its ensemble, the templates that CLIP's
authors published for it (Radford et al. 2021). The counts are those of CoOp's test lists (Zhou et
al. 2022).
"""

from typing import Any

from ttt_bench.api.acquisition import Archive, HowToGet
from ttt_bench.datasets.facts.rows import ExpectedCounts, SplitSpec

# The layout of each dataset, with the addresses of the split files, by CoOp's authors.
INSTRUCTIONS = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"
NOT_STATED = "not stated by its authors"
ROBOTS = "https://www.robots.ox.ac.uk/~vgg/data"
# TorchGeo's unchanged copy of the archive that CoOp took from its authors' server, now gone.
EUROSAT_ZIP = (
    "https://huggingface.co/datasets/torchgeo/eurosat/resolve/"
    "c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip"
)


def _row(
    name: str,
    reader: str,
    *,
    title: str,
    classes: str,
    counts: ExpectedCounts,
    gigabytes: float,
    archives: tuple[Archive, ...] = (),
    steps: tuple[str, ...] = (),
    split_file: str = "",
    **facts: Any,
) -> SplitSpec:
    """Return a row whose summary states its counts, and whose last step is the split file."""
    if split_file:
        last = f"Take {split_file} from the link in {INSTRUCTIONS} and put it into the folder."
        steps = (*steps, last)
    return SplitSpec(
        name=name,
        summary=f"{title}: {counts.classes} {classes}, {counts.images} test images",
        code=f"ttt_bench.datasets.fine_grained:{reader}",
        counts=counts,
        split_file=split_file,
        how_to_get=HowToGet(archives=archives, steps=steps, gigabytes=gigabytes),
        **facts,
    )


FLOWERS102 = _row(
    "flowers102",
    "Flowers102",
    title="Oxford Flowers, CoOp's split",
    classes="classes",
    counts=ExpectedCounts(images=2463, classes=102),
    source="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
    licence=NOT_STATED,
    citation="Nilsback and Zisserman 2008, Automated flower classification over a large "
    "number of classes",
    prompt="a photo of a {}, a type of flower.",
    templates=("a photo of a {}, a type of flower.",),
    folders=("oxford_flowers", "Flower102", "flowers-102"),
    image_folders=("jpg",),
    split_file="split_zhou_OxfordFlowers.json",
    archives=(
        Archive(
            url=f"{ROBOTS}/flowers/102/102flowers.tgz",
            hash="md5:52808999861908f626f3c1f4e79d11fa",
            size=344_862_509,
            folder="jpg",
            inner="jpg",
        ),
    ),
    gigabytes=0.35,
)

DTD = _row(
    "dtd",
    "DescribableTextures",
    title="Describable Textures, CoOp's split",
    classes="classes",
    counts=ExpectedCounts(images=1692, classes=47, per_class=(36,)),
    source="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
    licence="for research purposes",
    citation="Cimpoi et al. 2014, Describing textures in the wild",
    prompt="{} texture.",
    templates=tuple(
        f"a photo of {article} {{}} {thing}."
        for article in ("a", "the")
        for thing in ("texture", "pattern", "thing", "object")
    ),
    folders=("dtd", "DTD"),
    image_folders=("images",),
    split_file="split_zhou_DescribableTextures.json",
    archives=(
        Archive(
            url=f"{ROBOTS}/dtd/download/dtd-r1.0.1.tar.gz",
            hash="md5:fff73e5086ae6bdbea199a49dfb8a4c1",
            size=625_239_812,
            folder="images",
            inner="dtd/images",
        ),
    ),
    gigabytes=0.65,
)

OXFORD_PETS = _row(
    "oxford-pets",
    "OxfordPets",
    title="Oxford-IIIT Pet, CoOp's split",
    classes="breeds",
    counts=ExpectedCounts(images=3669, classes=37),
    source="https://www.robots.ox.ac.uk/~vgg/data/pets/",
    licence="CC BY-SA 4.0; the images' copyright remains with their owners",
    citation="Parkhi et al. 2012, Cats and dogs",
    prompt="a photo of a {}, a type of pet.",
    templates=("a photo of a {}, a type of pet.",),
    folders=("oxford_pets", "OxfordPets", "oxford-iiit-pet"),
    image_folders=("images", ""),
    split_file="split_zhou_OxfordPets.json",
    archives=(
        Archive(
            url=f"{ROBOTS}/pets/data/images.tar.gz",
            hash="md5:5c4f3ee8e5d25df40f4fd59a7f44e54c",
            size=791_918_971,
            folder="images",
            inner="images",
        ),
    ),
    gigabytes=0.8,
)

STANFORD_CARS = _row(
    "stanford-cars",
    "StanfordCars",
    title="Stanford Cars, CoOp's split",
    classes="models",
    counts=ExpectedCounts(images=8041, classes=196),
    source="3D object representations workshop, ICCV 2013; the authors' page is gone",
    licence=NOT_STATED,
    citation="Krause et al. 2013, 3D object representations for fine-grained categorization",
    prompt="a photo of a {}.",
    templates=(
        "a photo of a {}.",
        "a photo of the {}.",
        "a photo of my {}.",
        "i love my {}!",
        *(f"a photo of my {state} {{}}." for state in ("dirty", "clean", "new", "old")),
    ),
    folders=("stanford_cars", "StanfordCars"),
    # The paths of the split begin with cars_train or cars_test.
    image_folders=("",),
    split_file="split_zhou_StanfordCars.json",
    steps=(
        "Get cars_train.tgz and cars_test.tgz; their authors' server no longer gives them out, "
        "copies elsewhere do.",
        "Unpack both into the folder stanford_cars, as cars_train and cars_test.",
    ),
    gigabytes=2.0,
)

UCF101 = _row(
    "ucf101",
    "Ucf101",
    title="middle frames of UCF101's videos, CoOp's split",
    classes="actions",
    counts=ExpectedCounts(images=3783, classes=101),
    source="https://www.crcv.ucf.edu/data/UCF101.php; frames by CoOp's authors",
    licence=NOT_STATED,
    citation="Soomro et al. 2012, UCF101: a dataset of 101 human actions classes from "
    "videos in the wild, arXiv 1212.0402",
    prompt="a photo of a person doing {}.",
    templates=tuple(
        f"a {medium} of {article} person {verb}{{}}."
        for verb in ("", "using ", "doing ", "during ", "performing ", "practicing ")
        for article in ("a", "the")
        for medium in ("photo", "video", "example", "demonstration")
    ),
    folders=("ucf101", "UCF101"),
    image_folders=("UCF-101-midframes", ""),
    split_file="split_zhou_UCF101.json",
    steps=(
        f"Take UCF-101-midframes.zip from the link in {INSTRUCTIONS}.",
        "Unpack it into the folder ucf101, as UCF-101-midframes.",
    ),
    gigabytes=0.5,
)

CALTECH101 = _row(
    "caltech101",
    "Caltech101",
    title="Caltech 101, CoOp's split",
    classes="classes",
    counts=ExpectedCounts(images=2465, classes=100),
    source="https://data.caltech.edu/records/mzrjq-6wc02",
    licence="CC BY 4.0",
    citation="Fei-Fei et al. 2004, Learning generative visual models from few training examples",
    prompt="a photo of a {}.",
    templates=tuple(
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
    ),
    folders=("caltech-101", "Caltech101", "caltech101"),
    image_folders=("101_ObjectCategories", ""),
    split_file="split_zhou_Caltech101.json",
    steps=(
        "Fetch https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip "
        "(md5 3138e1922a9193bfa496528edbbc45d0, 0.14 GB).",
        "Unpack the 101_ObjectCategories.tar.gz that it holds into the folder caltech-101.",
    ),
    gigabytes=0.15,
)

FOOD101 = _row(
    "food101",
    "Food101",
    title="Food-101, CoOp's split",
    classes="dishes",
    counts=ExpectedCounts(images=30300, classes=101, per_class=(300,)),
    source="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
    licence="images from Foodspotting, not owned by the authors; scientific fair use",
    citation="Bossard et al. 2014, Food-101: mining discriminative components with random forests",
    prompt="a photo of {}, a type of food.",
    templates=("a photo of {}, a type of food.",),
    folders=("food-101", "Food101"),
    image_folders=("images",),
    split_file="split_zhou_Food101.json",
    archives=(
        Archive(
            url="http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",
            hash="md5:85eeb15f3717b99a5da872d97d918f87",
            size=4_996_278_331,
            folder="images",
            inner="food-101/images",
        ),
    ),
    gigabytes=5.1,
)

SUN397 = _row(
    "sun397",
    "Sun397",
    title="SUN397, CoOp's split",
    classes="scenes",
    counts=ExpectedCounts(images=19850, classes=397, per_class=(50,)),
    source="https://vision.princeton.edu/projects/2010/SUN/",
    licence=NOT_STATED,
    citation="Xiao et al. 2010, SUN database: large-scale scene recognition from abbey to zoo",
    prompt="a photo of a {}.",
    templates=("a photo of a {}.", "a photo of the {}."),
    folders=("sun397", "SUN397"),
    image_folders=("SUN397", ""),
    split_file="split_zhou_SUN397.json",
    archives=(
        Archive(
            url="http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz",
            hash="md5:8ca2778205c41d23104230ba66911c7a",
            size=39_000_000_000,
            folder="SUN397",
            inner="SUN397",
        ),
    ),
    gigabytes=39.0,
)

FGVC_AIRCRAFT = _row(
    "fgvc-aircraft",
    "FgvcAircraft",
    title="FGVC-Aircraft by variant, its own split",
    classes="variants",
    counts=ExpectedCounts(images=3333, classes=100),
    source="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
    licence="for non-commercial research purposes",
    citation="Maji et al. 2013, Fine-grained visual classification of aircraft, arXiv 1306.5151",
    prompt="a photo of a {}, a type of aircraft.",
    templates=("a photo of a {}, a type of aircraft.", "a photo of the {}, a type of aircraft."),
    folders=("fgvc_aircraft", "fgvc-aircraft-2013b"),
    image_folders=("images", "data/images"),
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

EUROSAT = _row(
    "eurosat",
    "EuroSat",
    title="EuroSAT's RGB satellite images, CoOp's split",
    classes="land covers",
    counts=ExpectedCounts(
        images=8100, classes=10, per_class=(900, 900, 900, 750, 750, 600, 750, 900, 750, 900)
    ),
    source="https://github.com/phelber/EuroSAT",
    licence="MIT",
    citation="Helber et al. 2019, EuroSAT: a novel dataset and deep learning benchmark for "
    "land use and land cover classification",
    prompt="a centered satellite photo of {}.",
    templates=(
        "a centered satellite photo of {}.",
        "a centered satellite photo of a {}.",
        "a centered satellite photo of the {}.",
    ),
    folders=("eurosat", "EuroSAT"),
    image_folders=("2750", "EuroSAT_RGB", ""),
    split_file="split_zhou_EuroSAT.json",
    archives=(
        Archive(
            url=EUROSAT_ZIP,
            hash="md5:c8fa014336c82ac7804f0398fcb19387",
            size=94_280_567,
            folder="2750",
            inner="2750",
        ),
    ),
    gigabytes=0.1,
)

# In the order of TPT's table.
ROWS = (FLOWERS102, DTD, OXFORD_PETS, STANFORD_CARS, UCF101)
ROWS += (CALTECH101, FOOD101, SUN397, FGVC_AIRCRAFT, EUROSAT)
