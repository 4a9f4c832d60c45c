"""Readers of the ten fine-grained datasets that CoOp split and TPT reports on."""

from collections.abc import Mapping
from pathlib import Path

from typing_extensions import override

from ttt_bench.api.errors import UserError
from ttt_bench.api.regular_files import require_regular
from ttt_bench.datasets.facts import fine_grained as facts
from ttt_bench.datasets.image_files import LARGEST_LIST
from ttt_bench.datasets.published_split import PublishedSplit, Row, Split, ZhouSplit


class Flowers102(ZhouSplit):
    """Oxford Flowers (Nilsback and Zisserman 2008)."""

    spec = facts.FLOWERS102


class DescribableTextures(ZhouSplit):
    """The Describable Textures Dataset (Cimpoi et al. 2014)."""

    spec = facts.DTD


class OxfordPets(ZhouSplit):
    """The Oxford-IIIT Pet dataset (Parkhi et al. 2012)."""

    spec = facts.OXFORD_PETS


class StanfordCars(ZhouSplit):
    """Stanford Cars (Krause et al. 2013)."""

    spec = facts.STANFORD_CARS


class Ucf101(ZhouSplit):
    """The middle frames of UCF101's videos (Soomro et al. 2012), its first test list."""

    spec = facts.UCF101


class Caltech101(ZhouSplit):
    """Caltech 101 (Fei-Fei et al. 2004) without its background and its second faces class."""

    spec = facts.CALTECH101


class Food101(ZhouSplit):
    """Food-101 (Bossard et al. 2014)."""

    spec = facts.FOOD101


class Sun397(ZhouSplit):
    """SUN397 (Xiao et al. 2010), the first of its test partitions."""

    spec = facts.SUN397


class EuroSat(ZhouSplit):
    """EuroSAT's RGB images (Helber et al. 2019)."""

    spec = facts.EUROSAT


class FgvcAircraft(PublishedSplit):
    """FGVC-Aircraft (Maji et al. 2013) by variant, with its own lists.

    The lists are in the dataset's folder or in its folder `data`: CoOp and TPT have the archive's
    `data` as `fgvc_aircraft`.
    """

    spec = facts.FGVC_AIRCRAFT

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
        """Return the file of that name and its lines without the empty ones."""
        candidates = [self.root / name, self.root / "data" / name]
        file = next((path for path in candidates if path.exists()), None)
        if file is None:
            raise UserError(
                f"{self.root}: no {name} in it or in its folder data; `ttt-bench data status "
                f"{self.name}` says how to get it"
            )
        require_regular(file, LARGEST_LIST)
        try:
            lines = file.read_text("utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise UserError(f"{file}: not readable as text ({error})") from error
        return file, [line.strip() for line in lines if line.strip()]
