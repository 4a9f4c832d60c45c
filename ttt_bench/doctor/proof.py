"""The proof that a device computes what it should: goldens, checks and speeds on it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from math import isnan
from typing import Any

import torch

from ttt_bench.api.errors import described
from ttt_bench.api.precision import Precision
from ttt_bench.doctor.drawn import DrawnClip, DrawnPhotographs
from ttt_bench.doctor.machine import Device
from ttt_bench.doctor.speed import SpeedTest, matmul_rate, method_speed
from ttt_bench.registry import registry
from ttt_bench.testing import CheckFailed, adapter_checks
from ttt_bench.testing.goldens import compare

Report = Callable[[str], None]

# A check finds a leak after one step as well as after twenty.
CHECKED = {"apm": {"steps": 3}, "tpt": {"views": 10}, "ttt-mae": {"steps": 2, "copies": 4}}
# A GPU needs many samples at once, and a sample takes a CPU seconds.
ON_A_CPU = (SpeedTest("clip-zero-shot", 4), SpeedTest("tpt", 1), SpeedTest("apm", 1))
ON_A_GPU = (SpeedTest("clip-zero-shot", 128), SpeedTest("tpt", 8), SpeedTest("apm", 8))
CUDA_PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16")
ON_CUDA = tuple(replace(test, precision=name) for name in CUDA_PRECISIONS for test in ON_A_GPU)
DEFAULT_TESTS = {"cpu": ON_A_CPU, "cuda": ON_CUDA}


@dataclass(frozen=True)
class Effort:
    """How much is tried on a device.

    Attributes:
        goldens: names of goldens; None for all that are installed.
        checked: the methods that the conformance kit checks, with fields of their configuration.
        architecture: the open_clip model on which speeds are measured.
        classes: the number of classes that it chooses from.
        speeds: the methods whose speed is measured; None for those that suit the device.
    """

    goldens: Sequence[str] | None = None
    checked: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: CHECKED)
    architecture: str = "ViT-B-16"
    classes: int = 200
    speeds: Sequence[SpeedTest] | None = None


def prove(device: Device, effort: Effort, report: Report) -> dict[str, Any]:
    """Try goldens, checks and speeds on a device; what fails stops nothing else.

    Args:
        device: the device.
        effort: how much is tried.
        report: called with a line before each part.

    Returns:
        `device`, `threads`, `goldens`, `checks` and `speeds`, a list of plain dicts each, with an
        `error` that is "" where all is well, and `matmul_gflops_per_second` by precision.
    """
    known = registry().goldens
    names = known if effort.goldens is None else effort.goldens
    with one_thread() if device.name == "cpu" else nullcontext():
        return {
            "device": device.name,
            "threads": torch.get_num_threads(),
            "goldens": [_golden(name, device.name, report) for name in names],
            "checks": [
                _checks(method, settings, device.name, report)
                for method, settings in effort.checked.items()
                if method in registry().adapters
            ],
            **_speeds(device.name, effort, report),
        }


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one CPU thread inside a `with` block, as the engine does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _golden(name: str, device: str, report: Report) -> dict[str, Any]:
    report(f"golden {name} on {device}")
    row: dict[str, Any] = {"name": name, "worst": "", "difference": None, "tolerance": None}
    try:
        result = compare(registry().goldens[name].spec, device=device)
    except Exception as error:
        return {**row, "error": described(error)}
    worst, difference = result.worst, result.max_rel_diff[result.worst]
    row |= {"worst": worst, "tolerance": result.tolerance(worst)}
    if isnan(difference):
        return {**row, "error": f"{worst} is not a number"}
    error = "" if result.passed else f"{worst} differs from the release by {difference:.1e}"
    return {**row, "difference": difference, "error": error}


def _checks(
    method: str, settings: Mapping[str, Any], device: str, report: Report
) -> dict[str, Any]:
    report(f"checks of {method} on {device}")
    counts = {"passed": 0, "skipped": 0, "known failure": 0, "failed": 0}
    errors: list[str] = []
    try:
        for check in adapter_checks(method, settings=settings, device=device, samples=3):
            try:
                counts[check().status] += 1
            except CheckFailed as failure:
                counts["failed"] += 1
                errors.append(f"{check.name}: {failure}")
    except Exception as error:
        errors.append(described(error))
    return {"name": method, "counts": counts, "error": "; ".join(errors)}


def _speeds(device: str, effort: Effort, report: Report) -> dict[str, Any]:
    tests = effort.speeds
    if tests is None:
        tests = DEFAULT_TESTS.get(torch.device(device).type, ON_A_GPU)
    tests = [test for test in tests if test.method in registry().adapters]
    precisions: set[Precision] = {"fp32", *(test.precision for test in tests)}
    report(f"matmul on {device}")
    try:
        rates = {name: matmul_rate(torch.device(device), name) for name in sorted(precisions)}
        backbone = DrawnClip(effort.architecture, torch.device(device))
    except Exception as error:
        failed = {"name": "matmul", "error": described(error)}
        return {"matmul_gflops_per_second": {}, "speeds": [failed]}
    most = max((test.samples for test in tests), default=0)
    dataset = DrawnPhotographs(f"{most},{effort.classes}", None)
    rows = []
    for test in tests:
        report(f"speed of {test.method} on {device} in {test.precision}")
        row: dict[str, Any] = {"name": test.method, "precision": test.precision, "error": ""}
        try:
            row |= asdict(method_speed(test, backbone, dataset, rates[test.precision]))
        except Exception as error:
            row["error"] = described(error)
        rows.append(row)
    gflops = {precision: rate / 1e9 for precision, rate in rates.items()}
    return {"matmul_gflops_per_second": gflops, "speeds": rows}
