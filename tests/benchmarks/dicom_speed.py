"""Time and memory of reading a DICOM series of 216 slices of 512 x 512, against dcm2niix in the same run.

``python tests/benchmarks/dicom_speed.py [ROUNDS]``. dcm2niix writes an uncompressed NIfTI, as ``-z n -b n``. Memory is
the growth of a fresh process over what its imports take, in units of the volume as float32.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from pydicom.dataset import Dataset
from support import dicom_phantoms as made
from support import phantoms

from medcyclegan.io import ReadOptions, find_volumes, read_volume
from medcyclegan.volume import Volume

SHAPE = (512, 512, 216)
_MEMORY = """
import re, sys
from pathlib import Path
from medcyclegan.io import read_volume
import medcyclegan.io.dicom.read.volume

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

before = peak()
volume = read_volume(sys.argv[1])
print((peak() - before) / (volume.array.size * 4))
"""


def write_series(folder: Path, *, slope: float = 1.0) -> None:
    """Write the series; each header has some 110 elements, a common number."""
    values = np.random.default_rng(0).integers(0, 4096, SHAPE, dtype=np.int16)
    volume = Volume(values, phantoms.make_affine("LPS", (0.5, 0.5, 1.0)), modality="CT")
    slices = made.slices_of(volume, intercept=0.0)
    for dataset in slices:
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, -1024
        dataset.BitsStored, dataset.HighBit = 12, 11
        _add_ordinary_elements(dataset)
    made.save(slices, folder)


def _add_ordinary_elements(dataset: Dataset) -> None:
    block = dataset.private_block(0x0019, "MADE", create=True)
    for number in range(70):
        block.add_new(number, "LO", f"an ordinary element {number}")


def timed(call: object) -> float:
    start = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - start


def main(rounds: int) -> int:
    converter = shutil.which("dcm2niix")
    if converter is None:
        print("dcm2niix is not installed: pip install 'medcyclegan[test]'", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as root:
        folder, out = Path(root, "in"), Path(root, "out")
        out.mkdir()
        write_series(folder)
        convert = [converter, "-z", "n", "-b", "n", "-o", str(out), "-f", "x", str(folder)]
        ours, theirs, headers = [], [], []
        for _ in range(rounds):
            ours.append(timed(lambda: read_volume(folder)))
            theirs.append(timed(lambda: subprocess.run(convert, check=True, capture_output=True)))
            headers.append(timed(lambda: find_volumes(folder, ReadOptions())))
            for path in out.iterdir():
                path.unlink()
        for name, times in (("read_volume", ours), ("dcm2niix", theirs), ("find_volumes", headers)):
            print(f"{name:13} best {min(times):.3f} s, median {statistics.median(times):.3f} s")
        ratio = min(ours) / min(theirs)
        print(
            f"ratio of the best: {ratio:.2f}, of the medians: {statistics.median(ours) / statistics.median(theirs):.2f}"
        )
        print(f"headers: {SHAPE[2] / min(headers):.0f} files a second")
        for slope in (1.0, 0.5):
            shutil.rmtree(folder)
            write_series(folder, slope=slope)
            done = subprocess.run(
                [sys.executable, "-c", _MEMORY, str(folder)], check=True, capture_output=True, text=True
            )
            print(f"memory, slope {slope}: {float(done.stdout):.2f} x the volume as float32")
    return int(ratio > 1.5)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10))
