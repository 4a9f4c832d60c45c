"""What the ten fine-grained datasets declare."""

from ttt_bench.api.specs import DatasetSpec

BACKBONES = {"clip": "open_clip:ViT-B-16/openai", "mae": "mae:vit-large"}
NOT_STATED = "not stated by its authors"


def _spec(
    name: str, code: str, what: str, counts: str, *, source: str, licence: str, citation: str
) -> DatasetSpec:
    return DatasetSpec(
        name=name,
        summary=f"{what}: {counts}",
        code=f"ttt_bench.datasets.fine_grained:{code}",
        backbones=BACKBONES,
        source=source,
        licence=licence,
        citation=citation,
    )


def specs() -> list[DatasetSpec]:
    """The fine-grained datasets, in the order of TPT's table."""
    return [
        _spec(
            "flowers102",
            "Flowers102",
            "Oxford Flowers, CoOp's split",
            "102 classes, 2463 test images",
            source="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
            licence=NOT_STATED,
            citation="Nilsback and Zisserman 2008, Automated flower classification over a large "
            "number of classes",
        ),
        _spec(
            "dtd",
            "DescribableTextures",
            "Describable Textures, CoOp's split",
            "47 classes, 1692 test images",
            source="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
            licence="for research purposes",
            citation="Cimpoi et al. 2014, Describing textures in the wild",
        ),
        _spec(
            "oxford-pets",
            "OxfordPets",
            "Oxford-IIIT Pet, CoOp's split",
            "37 breeds, 3669 test images",
            source="https://www.robots.ox.ac.uk/~vgg/data/pets/",
            licence="CC BY-SA 4.0; the images' copyright remains with their owners",
            citation="Parkhi et al. 2012, Cats and dogs",
        ),
        _spec(
            "stanford-cars",
            "StanfordCars",
            "Stanford Cars, CoOp's split",
            "196 models, 8041 test images",
            source="3D object representations workshop, ICCV 2013; the authors' page is gone",
            licence=NOT_STATED,
            citation="Krause et al. 2013, 3D object representations for fine-grained "
            "categorization",
        ),
        _spec(
            "ucf101",
            "Ucf101",
            "middle frames of UCF101's videos, CoOp's split",
            "101 actions, 3783 test images",
            source="https://www.crcv.ucf.edu/data/UCF101.php; frames by CoOp's authors",
            licence=NOT_STATED,
            citation="Soomro et al. 2012, UCF101: a dataset of 101 human actions classes from "
            "videos in the wild, arXiv 1212.0402",
        ),
        _spec(
            "caltech101",
            "Caltech101",
            "Caltech 101, CoOp's split",
            "100 classes, 2465 test images",
            source="https://data.caltech.edu/records/mzrjq-6wc02",
            licence="CC BY 4.0",
            citation="Fei-Fei et al. 2004, Learning generative visual models from few training "
            "examples",
        ),
        _spec(
            "food101",
            "Food101",
            "Food-101, CoOp's split",
            "101 dishes, 30300 test images",
            source="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
            licence="images from Foodspotting, not owned by the authors; scientific fair use",
            citation="Bossard et al. 2014, Food-101: mining discriminative components with random "
            "forests",
        ),
        _spec(
            "sun397",
            "Sun397",
            "SUN397, CoOp's split",
            "397 scenes, 19850 test images",
            source="https://vision.princeton.edu/projects/2010/SUN/",
            licence=NOT_STATED,
            citation="Xiao et al. 2010, SUN database: large-scale scene recognition from abbey to "
            "zoo",
        ),
        _spec(
            "fgvc-aircraft",
            "FgvcAircraft",
            "FGVC-Aircraft by variant, its own split",
            "100 variants, 3333 test images",
            source="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
            licence="for non-commercial research purposes",
            citation="Maji et al. 2013, Fine-grained visual classification of aircraft, arXiv "
            "1306.5151",
        ),
        _spec(
            "eurosat",
            "EuroSat",
            "EuroSAT's RGB satellite images, CoOp's split",
            "10 land covers, 8100 test images",
            source="https://github.com/phelber/EuroSAT",
            licence="MIT",
            citation="Helber et al. 2019, EuroSAT: a novel dataset and deep learning benchmark for "
            "land use and land cover classification",
        ),
    ]
