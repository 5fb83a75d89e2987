"""Time what surrounds the network: start, write, scores; and show where the time of ``translate-volume`` goes.

    python tests/benchmarks/speed.py [start] [write] [scores] [where] [--rounds 5] [--slices 40] [--picture FILE]

``start``: commands in a new process, next to ``import torch`` alone; translate-volume until its first slice. ``write``:
113 MB as .nii.gz, next to the compression by isal alone (no check, no fsync) and to nibabel. ``scores``: SSIM and
MS-SSIM, next to their definitions by filters of scipy, and for 512 x 512 x 300 voxels. ``where``, only by name: the
stages of the whole command translate-volume on a CPU, drawn as bars with ``--picture``. All variants of a part run in
turn, so that a busy machine slows them alike; medians after a round to warm up. ``--clock cpu`` counts the seconds of
processors instead. Reading DICOM is timed by ``dicom_speed.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import nibabel as nib
import numpy as np
from evaluation_figures import plain_ms_ssim
from isal import igzip
from scipy import ndimage
from support import phantoms

from medcyclegan.io import sidecar_path, write_volume
from medcyclegan.metrics import ms_ssim, ssim
from medcyclegan.volume import Volume

HU = (-1024.0, 3071.0)
PARTS = ("start", "write", "scores", "where")
MODEL = ("--model", "head-t1-ct", "--to", "t1")
_COMMAND = "from medcyclegan.cli.main import main; main()"
#: Ends the process when the first slice is about to be translated.
_FIRST_SLICE = """
import os
from medcyclegan.cli.main import main
from medcyclegan.progress import listen_to_progress

def stop(step, done, total):
    if step == "translating":
        os._exit(0)

with listen_to_progress(stop):
    main()
raise SystemExit("no slice was translated")
"""
#: The volumes of ``where``: shape, and spacing in mm.
VOLUMES = {40: ((256, 256, 40), (1.0, 1.0, 4.0)), 300: ((512, 512, 300), (0.5, 0.5, 0.6))}
STAGES = {
    "start": "start, model and input",
    "translate": "translation",
    "write": "write and read back",
    "assess": "quality check",
}


def seconds(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    started = clock()
    call()
    return clock() - started


def cpu_seconds() -> float:
    """Return the seconds that this process and its ended children have used a processor."""
    return sum(os.times()[:4])


def in_turn(calls: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Return the median seconds of each call; one round to warm up is not counted."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(rounds + 1):
        for name, call in calls.items():
            elapsed = seconds(call, clock)
            if round_:
                found[name].append(elapsed)
    return {name: statistics.median(times) for name, times in found.items()}


def run(code: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)


def print_start(rounds: int, clock: Callable[[], float]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shape, spacing = VOLUMES[40]
        head = phantoms.head_ct(shape, phantoms.make_affine("LPS", spacing))
        source = str(phantoms.write_nifti(head, folder / "in.nii.gz"))
        noisy = head.replace(array=head.array + np.random.default_rng(0).integers(0, 50, shape, dtype=np.int16))
        other = str(phantoms.write_nifti(noisy, folder / "fake.nii.gz"))
        made = str(folder / "out.nii.gz")
        run(_COMMAND, "translate-volume", source, made, *MODEL, "-q")
        translate = ["translate-volume", source, str(folder / "new.nii.gz"), *MODEL, "-q", "--overwrite"]
        found = in_turn(
            {
                "import torch": lambda: run("import torch"),
                "--help": lambda: run(_COMMAND, "--help"),
                "inspect": lambda: run(_COMMAND, "inspect", source),
                "translate-volume, first slice": lambda: run(_FIRST_SLICE, *translate),
                "evaluate": lambda: run(_COMMAND, "evaluate", other, source),
                "report": lambda: run(_COMMAND, "report", made, "--overwrite"),
            },
            rounds,
            clock,
        )
    print("start, 40 slices of 256 x 256; seconds, and the ratio to import torch alone")
    for label, median in found.items():
        print(f"  {label:30} {median:6.2f} s {median / found['import torch']:6.2f} x")


def print_write(rounds: int, clock: Callable[[], float]) -> None:
    affine = phantoms.make_affine("LPS", (0.5, 0.5, 1.0))
    head = phantoms.head_ct((512, 512, 216), affine)
    noise = np.random.default_rng(0).normal(0, 20, head.shape).astype(np.float32)
    values = np.asfortranarray(head.array + noise)
    cases = {"int16": (np.rint(values).astype(np.int16, order="F"), "CT"), "float32": (values[:, :, :108], "MR")}
    for name, (array, modality) in cases.items():
        volume, content = Volume(array, affine, modality=modality), array.reshape(-1, order="F").data
        with tempfile.TemporaryDirectory() as folder:

            def compress(content=content, folder=folder) -> None:
                with open(f"{folder}/a.gz", "wb") as file, igzip.IGzipFile("", "wb", 3, file, 0) as packed:
                    packed.write(content)

            def nibabel(array=array, folder=folder) -> None:
                nib.save(nib.Nifti1Image(array, affine), f"{folder}/b.nii.gz")

            def ours(volume=volume, folder=folder) -> None:
                write_volume(volume, f"{folder}/c.nii.gz", overwrite=True)

            found = in_turn({"isal alone": compress, "write_volume": ours, "nibabel": nibabel}, rounds, clock)
            sizes = [Path(folder, each).stat().st_size / 1e6 for each in ("a.gz", "c.nii.gz", "b.nii.gz")]
        print(f"write {array.nbytes / 1e6:.0f} MB of {name} as .nii.gz")
        for (label, median), size in zip(found.items(), sizes, strict=True):
            print(f"  {label:14} {median:6.2f} s {median / found['isal alone']:6.2f} x   {size:.1f} MB")


def plain_ssim(first, second, mask, width):
    """SSIM by the definition, with filters of scipy over whole arrays."""
    c1, c2, unbiased = (0.01 * width) ** 2, (0.03 * width) ** 2, 343 / 342
    m1, m2 = (ndimage.uniform_filter(a, 7) for a in (first, second))
    v1, v2 = (unbiased * (ndimage.uniform_filter(a * a, 7) - m * m) for a, m in ((first, m1), (second, m2)))
    covariance = unbiased * (ndimage.uniform_filter(first * second, 7) - m1 * m2)
    local = (2 * m1 * m2 + c1) * (2 * covariance + c2) / ((m1**2 + m2**2 + c1) * (v1 + v2 + c2))
    inner = (slice(3, -3),) * 3
    return local[inner][mask[inner]].mean()


def scored(shape):
    """Return a translation, a reference and a mask."""
    head = phantoms.head_ct(shape, phantoms.make_affine("LPS", (0.5, 0.5, 1.0)))
    reference = np.asfortranarray(head.array, np.float32)
    fake = reference + np.random.default_rng(0).normal(0, 30, shape).astype(np.float32)
    return fake, reference, reference > -500


def print_scores(rounds: int, clock: Callable[[], float]) -> None:
    fake, reference, mask = scored((256, 256, 150))
    pair = [np.where(mask, np.clip(a.astype(np.float64), *HU), HU[0]) - HU[0] for a in (fake, reference)]
    width = HU[1] - HU[0]
    for name, ours, plain in (("SSIM", ssim, plain_ssim), ("MS-SSIM", ms_ssim, plain_ms_ssim)):
        values: dict[str, float] = {}
        calls = {
            "definition": lambda plain=plain, v=values: v.update(a=plain(*pair, mask, width)),
            "ours": lambda ours=ours, v=values: v.update(b=ours(fake, reference, value_range=HU, mask=mask)),
        }
        found = in_turn(calls, rounds, clock)
        print(
            f"{name}, 256 x 256 x 150: {found['ours']:.2f} s, its definition by scipy {found['definition']:.2f} s "
            f"({found['definition'] / found['ours']:.1f} x), difference {abs(values['a'] - values['b']):.1e}"
        )
    fake, reference, mask = scored((512, 512, 300))
    for name, metric in (("SSIM", ssim), ("MS-SSIM", ms_ssim)):
        begun, wall = cpu_seconds(), seconds(lambda metric=metric: metric(fake, reference, value_range=HU, mask=mask))
        print(f"{name}, 512 x 512 x 300: {wall:.2f} s, {cpu_seconds() - begun:.2f} CPU seconds")


def time_stages(slices: int, rounds: int) -> dict[str, float]:
    """Return the median seconds of each stage of the whole command."""
    shape, spacing = VOLUMES[slices]
    found: dict[str, list[float]] = {name: [] for name in STAGES}
    with tempfile.TemporaryDirectory() as folder:
        head = phantoms.head_ct(shape, phantoms.make_affine("LPS", spacing))
        source, out = phantoms.write_nifti(head, Path(folder, "in.nii.gz")), Path(folder, "out.nii.gz")
        for _ in range(rounds):
            arguments = ("translate-volume", str(source), str(out), *MODEL, "-q", "--overwrite", "--device", "cpu")
            whole = seconds(lambda arguments=arguments: run(_COMMAND, *arguments))
            stages = json.loads(sidecar_path(out).read_text())["seconds"]
            for name in ("translate", "write", "assess"):
                found[name].append(stages[name])
            found["start"].append(whole - sum(found[name][-1] for name in ("translate", "write", "assess")))
    return {name: statistics.median(times) for name, times in found.items()}


def print_where(rounds: int, chosen: list[int], picture: Path | None) -> None:
    stages = {slices: time_stages(slices, rounds) for slices in chosen}
    for slices, times in stages.items():
        whole, shape = sum(times.values()), VOLUMES[slices][0]
        print(f"translate-volume {' '.join(MODEL)}, {' x '.join(map(str, shape))} voxels, CPU: {whole:.1f} s")
        for name, label in STAGES.items():
            print(f"  {label:24} {times[name]:7.2f} s {times[name] / whole:7.1%}")
    if picture is not None:
        draw(stages, picture)


def draw(stages: dict[int, dict[str, float]], path: Path) -> None:
    """Draw a bar of each volume's stages, as shares of the whole, with the seconds next to it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.2 + 0.7 * len(stages)), layout="constrained")
    axes = figure.add_subplot()
    colours = ("#8a7a2c", "#2f83d0", "#3c9a5f", "#d9742b")
    for row, (slices, times) in enumerate(stages.items()):
        left, whole = 0.0, sum(times.values())
        for colour, (name, label) in zip(colours, STAGES.items(), strict=True):
            share = 100 * times[name] / whole
            axes.barh(row, share, left=left, color=colour, label=None if row else label)
            if share > 6:
                axes.text(left + share / 2, row, f"{times[name]:.1f} s", ha="center", va="center", color="white")
            left += share
        rows, columns, _ = VOLUMES[slices][0]
        axes.text(101, row, f"{whole:.0f} s", va="center")
        axes.text(-1, row, f"{slices} slices of\n{rows} x {columns}", ha="right", va="center")
    axes.set_yticks([])
    axes.set_xlim(0, 110)
    axes.set_xticks(range(0, 101, 20), [f"{n} %" for n in range(0, 101, 20)])
    axes.invert_yaxis()
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(STAGES), frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all but where)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="which seconds are counted")
    parser.add_argument(
        "--slices", type=int, action="append", choices=VOLUMES, help="volumes of `where` (default: all)"
    )
    parser.add_argument("--picture", type=Path, help="write the bars of `where` to this .svg or .png")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {', '.join(sorted(unknown))}: one of {', '.join(PARTS)}")
    clock = time.perf_counter if arguments.clock == "wall" else cpu_seconds
    for part in arguments.parts or PARTS[:3]:
        if part == "where":
            print_where(arguments.rounds, arguments.slices or list(VOLUMES), arguments.picture)
        else:
            {"start": print_start, "write": print_write, "scores": print_scores}[part](arguments.rounds, clock)


if __name__ == "__main__":
    main()
