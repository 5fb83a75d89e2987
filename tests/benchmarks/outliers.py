"""Which volumes the check before training reports: real scans as they are, and changed copies of them.

    python tests/benchmarks/outliers.py [DATA [CT]]        (default of DATA: ../shared/data, real scans)

Slices the T1 and T2 scans of whole heads, from four studies, prints their measures and those that are reported, and for
each change how many of the copies are found, each alone among the unchanged scans.
CT: a folder of CT volumes of whole heads in HU, such as OUT/ct after
``medcyclegan synthesize DATA/labels --contrasts ct --patients 14 --seed 3 --out OUT``; they are tried in the same way,
together with the two CTs of DATA. Takes a minute of CPU time.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medcyclegan import read_volume, write_volume
from medcyclegan.io import ReadOptions
from medcyclegan.manifest import SliceRow, load_manifest
from medcyclegan.slicing import slice_volumes
from medcyclegan.slicing.check import find_outliers
from medcyclegan.slicing.key_file import load_names
from medcyclegan.slicing.measures import Measures, measure_stack

#: Row, measures and title of a scan; and a function that yields changed copies of a stack, each with a description.
Scan = tuple[SliceRow, Measures, str]
Changes = Callable[[NDArray[np.float32], np.random.Generator], Iterator[tuple[str, NDArray[np.float32]]]]
ROOT = Path(__file__).parents[2]
HEADS = {
    "t1": ("nifti/openms_patient*/t1*", "nifti/tcga_fg_6692/t1*", "dicom/mr_siemens_prisma*/in", "dicom/*xa30*/in"),
    "t2": ("nifti/openms_patient*/t2*", "nifti/tcga_fg_6692/t2*"),
}
BRAINS = {
    "t1": ("nifti/openms_mni*/t1*", "nifti/cstar*/t1*"),
    "t2": ("nifti/openms_mni*/t2*", "nifti/cstar*/t2*"),
}


def main() -> int:
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared" / "data"
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        heads, brains = (_sliced(_linked(data, which), work / place) for which, place in ((HEADS, "h"), (BRAINS, "b")))
        _report(heads, work / "h" / "s", brains, _changes)
        if len(sys.argv) > 2:
            _report(_sliced({"ct": _cts(data, Path(sys.argv[2]), work)}, work / "c"), work / "c" / "s", [], _ct_changes)
    return 0


def _report(scans: list[Scan], store: Path, brains: list[Scan], changes: Changes) -> None:
    """Print the measures of ``scans``, and for each change how many of the changed copies are reported."""
    print("| scan | noise | area, cm2 | height, mm | reported |\n| --- | ---: | ---: | ---: | --- |")
    counts: dict[str, list[int]] = {}
    for domain in dict.fromkeys(row.domain for row, _, _ in scans):
        own = [scan for scan in scans if scan[0].domain == domain]
        rows, measures = [row for row, _, _ in own], [found for _, found, _ in own]
        reported = {outlier.row.case: "; ".join(outlier.reasons) for outlier in find_outliers(rows, measures)}
        for row, found, title in own:
            said = reported.get(row.case, "no")
            print(f"| {title} | {found.noise:.4f} | {found.area_cm2:.0f} | {found.height_mm:.0f} | {said} |")
        others = [("brain", row, found) for row, found, _ in brains if row.domain == domain]
        for change, row, found in (*_changed(rows, store, changes), *others):
            kept = [pair for pair in zip(rows, measures, strict=True) if pair[0].case != row.case]
            among = find_outliers([*(r for r, _ in kept), row], [*(m for _, m in kept), found])
            tried = counts.setdefault(change, [0, 0])
            tried[0] += any(outlier.row is row for outlier in among)
            tried[1] += 1
    print("\n| change of one volume | reported |\n| --- | ---: |")
    for change, (found_count, count) in counts.items():
        print(f"| {change} | {found_count} of {count} |")
    print()


def _linked(data: Path, patterns: dict[str, tuple[str, ...]]) -> dict[str, list[Path]]:
    return {
        domain: sorted(path for pattern in own for path in data.glob(pattern) if path.suffix != ".json")
        for domain, own in patterns.items()
    }


def _cts(data: Path, folder: Path, work: Path) -> list[Path]:
    """Return the CTs in ``folder`` and the real ones of ``data``: one is a DICOM series, one has HU + 1024."""
    shifted = read_volume(data / "nifti" / "ct_head_vtk_headsq.nii.gz")
    real = work / "ct_head_vtk_headsq.nii.gz"
    write_volume(shifted.replace(array=shifted.array - np.int16(1024), modality="CT"), real)
    return [*sorted(folder.glob("*.nii.gz")), data / "dicom" / "ct_ge_hispeed_tilt" / "in", real]


def _sliced(inputs: dict[str, list[Path]], folder: Path) -> list[Scan]:
    """Slice the scans and return row, measures and title of each."""
    for domain, own in inputs.items():
        (folder / "v" / domain).mkdir(parents=True)
        for path in own:
            (folder / "v" / domain / f"{path.parent.name}_{path.name}").symlink_to(path.resolve())
    allowed = ReadOptions(allow_gap=True, allow_synthetic=True)
    slice_volumes(folder / "v", folder / "s", reading=allowed, allow_synthetic=True)
    names = load_names(folder / "s")
    return [
        (row, measure_stack(folder / "s", row), Path(names[row.domain, row.case].path).name)
        for row in load_manifest(folder / "s")
    ]


def _changed(rows: list[SliceRow], store: Path, changes: Changes) -> Iterator[tuple[str, SliceRow, Measures]]:
    """Yield the row and the measures of changed copies of each volume."""
    random = np.random.default_rng(0)
    for row in rows:
        stack = np.load(store / row.file).astype(np.float32)
        for change, values in changes(stack, random):
            np.save(store / row.file, values.astype(np.float16))
            count = len(values)
            changed = dataclasses.replace(row, slices=row.slices[:count], heights=row.heights[:count])
            yield change, changed, measure_stack(store, changed)
        np.save(store / row.file, stack.astype(np.float16))


def _changes(stack: NDArray[np.float32], random: np.random.Generator) -> Iterator[tuple[str, NDArray[np.float32]]]:
    yield "none", stack
    for sigma in (0.02, 0.05, 0.1, 0.2):
        yield f"noise of {sigma:g}", np.clip(stack + random.normal(0, sigma, stack.shape), -1, 1)
    yield "inverted contrast", np.where(stack > -0.95, -stack, stack)
    yield "three quarters of the values clipped", np.clip(stack, -1, np.quantile(stack[stack > -0.95], 0.25))
    yield "brightness times 1.3", np.clip((stack + 1) * 1.3 - 1, -1, 1)
    yield "the lower third of the slices", stack[: max(1, len(stack) // 3)]
    yield "the lower two thirds", stack[: len(stack) * 2 // 3]
    yield "cut at 0.6 of the width", np.where(np.arange(stack.shape[2]) < stack.shape[2] * 0.6, stack, -1)


def _ct_changes(stack: NDArray[np.float32], random: np.random.Generator) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield changed copies of a CT, whose values are HU in [-1024, 3071], scaled to [-1, 1]."""

    def scaled(hu: float) -> float:
        return (hu + 1024) / 2047.5 - 1

    yield "none", stack
    for sigma in (20, 40, 80, 160):
        yield f"noise of {sigma} HU", np.clip(stack + random.normal(0, sigma / 2047.5, stack.shape), -1, 1)
    yield "cut to the window of 0 to 80 HU", np.clip(stack, scaled(0), scaled(80))
    yield "cut to the window of -160 to 240 HU", np.clip(stack, scaled(-160), scaled(240))
    yield "all values 1000 HU too high", np.clip(stack + 1000 / 2047.5, -1, 1)
    yield "all values halved", np.clip((stack + 1) / 2 - 1, -1, 1)
    yield "without bone (a head of soft tissue)", np.minimum(stack, scaled(60))
    yield "the lower third of the slices", stack[: max(1, len(stack) // 3)]
    yield "the lower two thirds", stack[: len(stack) * 2 // 3]
    yield "cut at 0.6 of the width", np.where(np.arange(stack.shape[2]) < stack.shape[2] * 0.6, stack, -1)


if __name__ == "__main__":
    sys.exit(main())
