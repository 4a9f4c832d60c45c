"""Archive and HowToGet: how the data of a dataset is obtained."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A file with a stable public address.

    Attributes:
        url: the address.
        hash: as `md5:HEX` or `sha256:HEX`, as its publisher states it; "" where none is stated.
        size: approximate number of bytes, for the check of the free disk and for the user.
        folder: where in the dataset's folder it is unpacked, "" for the folder itself. A named
            folder that exists and is not empty counts as this archive unpacked, so no two archives
            share one.
        inner: the folder within the archive that is taken, "" for the whole archive.
    """

    url: str
    hash: str
    size: int
    folder: str = ""
    inner: str = ""

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, kw_only=True)
class HowToGet:
    """How to obtain a dataset.

    Attributes:
        archives: the files that `data download` fetches and unpacks.
        steps: sentences that tell a person how to get the rest.
        gigabytes: approximate size on disk.
    """

    archives: tuple[Archive, ...] = ()
    steps: tuple[str, ...] = ()
    gigabytes: float

    def __str__(self) -> str:
        return "; ".join([f"{self.gigabytes:g} GB", *map(str, self.archives), *self.steps])
