"""The machine: versions, cores, memory and devices."""

import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ttt_bench.api.errors import UserError, described
from ttt_bench.toolkit.cores import container_limit, usable_cores

PACKAGES = ("torch", "torchvision", "timm", "open_clip_torch", "numpy", "pillow", "pyarrow")


@dataclass(frozen=True)
class Machine:
    """A machine, as far as this process may use it.

    Attributes:
        system: the operating system.
        processor: the processor.
        cores: the machine's cores.
        usable_cores: the cores that this process may use.
        memory_gb: the memory that this process may use.
        available_gb: the part of it that is free, None where the system does not say.
    """

    system: str
    processor: str
    cores: int
    usable_cores: int
    memory_gb: float
    available_gb: float | None


@dataclass(frozen=True)
class Device:
    """A device that PyTorch computes on.

    Attributes:
        name: the name for `--device`.
        product: the product's name.
        memory_gb: its memory.
        free_gb: the part of it that is free, None where PyTorch does not say.
        capability: CUDA's compute capability, such as "9.0", "" for other devices.
    """

    name: str
    product: str
    memory_gb: float
    free_gb: float | None = None
    capability: str = ""


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that compute, "" for a missing one."""
    found = {"python": platform.python_version(), "ttt-bench": metadata.version("ttt-bench")}
    for package in PACKAGES:
        found[package] = ""
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def machine() -> Machine:
    """Return this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = container_limit("memory.max")
    return Machine(
        system=platform.platform(),
        processor=_processor(),
        cores=os.cpu_count() or 1,
        usable_cores=usable_cores(),
        memory_gb=min(memory, limit or memory) / 1e9,
        available_gb=_available_gb(),
    )


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _available_gb() -> float | None:
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024 / 1e9
    return None


def devices() -> list[Device]:
    """Return the devices of this machine, the CPU first.

    Raises:
        UserError: PyTorch does not import.
    """
    try:
        import torch
    except Exception as error:
        raise UserError(f"torch does not import ({described(error)}); install it again") from error
    here = machine()
    found = [Device("cpu", here.processor, here.memory_gb, here.available_gb)]
    for number in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        capability = f"{facts.major}.{facts.minor}"
        found.append(Device(f"cuda:{number}", facts.name, total / 1e9, free / 1e9, capability))
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Apple GPU", torch.mps.recommended_max_memory() / 1e9))
    return found


def device_named(name: str, known: list[Device]) -> Device:
    """Return the device of a name; `cuda` is the first GPU.

    Raises:
        UserError: this machine has none of that name.
    """
    wanted = "cuda:0" if name == "cuda" else name
    for device in known:
        if device.name == wanted:
            return device
    names = ", ".join(device.name for device in known)
    raise UserError(f"--device {name}: PyTorch finds no such device here; choose from {names}")
