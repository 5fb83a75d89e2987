"""Translations of volumes that no scanner makes: of odd shapes, grids and values, with every option.

``python tests/reliability/torture.py odd_volumes``; ``odd_volumes.py COUNT FIRST_SEED`` runs some. Each seed is one
``translate-volume`` by a tiny model, in this process. A run is right if it is done, with an output of the input's shape
and a sidecar with a verdict next to it, or refused in one line before anything was written. ``incomplete`` is an output
whose quality, uncertainty map or preview failed: its volume is safe, but it counts as wrong here.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image
from reliability.sandbox import Row
from support import dicom_phantoms as made
from support.models import GREY, MR, MR_DOMAIN, tiny_model
from support.phantoms import make_affine, write_nifti

from medcyclegan import read_volume
from medcyclegan.cli.main import main
from medcyclegan.model import DomainModel
from medcyclegan.volume import Volume

_LENGTHS = (1, 1, 1, 2, 3, 5, 8, 9, 16, 31, 40)
_SPACINGS = (0.05, 0.4, 1.0, 1.0, 3.7, 25.0)
_AXCODES = ("RAS", "LPS", "PIR", "LSP", "SAL", "ILA")
_OPTIONS: tuple[tuple[str, ...], ...] = (
    ("--preview", "look.png"), ("--uncertainty", "uncertainty.nii.gz"), ("--planes", "three"), ("--tta",), ("--fast",),
    ("--batch-size", "3"), ("--force",),
)  # fmt: skip


def prepare(folder: Path) -> Path:
    """Write the models: CT and MR, two contrasts of MR, and two kinds of pictures."""
    tiny_model().save(folder / "ct-mr")
    tiny_model(MR_DOMAIN, DomainModel("t2", "MR", MR)).save(folder / "mr-t2")
    tiny_model(DomainModel("a", None, GREY), DomainModel("b", None, GREY)).save(folder / "grey")
    return folder


def _values(rng: np.random.Generator, shape: tuple[int, int, int]) -> tuple[str, NDArray[np.floating]]:
    """Return what the values are, and the values."""
    noise = rng.normal(size=shape)
    ramp = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    middle = np.zeros(shape)
    middle[tuple(n // 2 for n in shape)] = 1000
    checks = np.indices(shape).sum(axis=0) % 2 * 1000.0
    block = np.zeros(shape)
    block[tuple(slice(n // 4, max(1, n - n // 4)) for n in shape)] = 700
    found = {
        "constant": np.full(shape, 40.0), "noise": 200 * noise + 500, "ramp": ramp,
        "one voxel": middle, "checks": checks, "block": block, "noisy block": block + 20 * noise,
        "equal slices": np.repeat((300 * noise + 500)[:, :, :1], shape[2], axis=2),
        "equal rows": np.repeat((300 * noise + 500)[:1], shape[0], axis=0),
        "HU": np.where(noise > 0, 40.0, -1000.0) + noise, "HU of equal slices": np.full(shape, -1000.0) + 1040 * (
            np.indices(shape)[0] > shape[0] // 2), "negative": -np.abs(noise) * 100, "tiny": noise * 1e-30,
        "huge": noise * 1e30, "two values far apart": np.where(noise > 1, 1e30, 0.0), "offset": 1e6 + noise,
        "NaN": np.where(noise > 1, np.nan, noise * 100), "all NaN": np.full(shape, np.nan),
        "infinite": np.where(noise > 1, np.inf, noise * 100),
    }  # fmt: skip
    name = str(rng.choice(list(found)))
    return name, found[name]


def _in_hu(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the values as those of a CT, from air to bone."""
    finite = values[np.isfinite(values)]
    lowest, extent = (finite.min(), np.ptp(finite) or 1.0) if finite.size else (0.0, 1.0)
    return -1000 + 2000 * (values - lowest) / extent


def arguments(rng: np.random.Generator, folder: Path) -> tuple[str, list[str], tuple[int, ...]]:
    """Write an input into ``folder``; return what it is, the command, and its shape."""
    chosen = [int(n) for n in rng.choice(_LENGTHS, 3)]
    shape = (chosen[0], chosen[1], chosen[2])
    spacing = [float(mm) for mm in rng.choice(_SPACINGS, 3)]
    name, values = _values(rng, shape)
    model, to = [("ct-mr", "mr"), ("ct-mr", "ct"), ("mr-t2", "t2")][rng.integers(3)]
    if to == "mr" and rng.random() < 0.8:
        name, values = f"{name} in HU", _in_hu(values)
    sort = str(rng.choice(["file", "file", "file", "series", "picture"]))
    kind = {"series": "i2", "picture": "u1"}.get(sort) or str(rng.choice(["f4", "f4", "i2", "u1"]))
    if not np.isfinite(values).all():
        sort, kind = "file", "f4"
    if kind != "f4":
        lowest, highest = (-2048, 4095) if sort == "series" else (np.iinfo(kind).min, np.iinfo(kind).max)
        values = np.rint(values.clip(lowest, highest))
    turned = [float(degrees) for degrees in rng.choice([0.0, 0.0, 17.0], 2)]
    affine = make_affine(
        str(rng.choice(_AXCODES)), (spacing[0], spacing[1], spacing[2]), rotation_degrees=(turned[0], turned[1], 0.0)
    )
    volume = Volume(values.astype(kind), affine, modality="CT" if to == "mr" else "MR")
    if sort == "picture":
        model, to = "grey", "b"
    source, output = _write(volume, folder, sort, str(rng.choice(["nii.gz", "nii", "mha", "nrrd"])))
    options = [word for option in _OPTIONS if rng.random() < (0.2 if "--planes" in option else 0.4) for word in option]
    reading = ["--nan", "fill"] if rng.random() < 0.5 else []
    command = ["translate-volume", source, output, "--model", f"../{model}", "--to", to, *options, *reading]
    label = f"{name}, {'x'.join(map(str, shape))}, {kind}, {'x'.join(f'{mm:g}' for mm in spacing)} mm"
    return f"{label}: {' '.join(command)}", [*command, "--device", "cpu", "-q"], volume.shape


def _write(volume: Volume, folder: Path, sort: str, ending: str) -> tuple[str, str]:
    """Write the input as a file, a DICOM series or a picture (of its first slice); return its name and the output's."""
    if sort == "series":
        made.save(made.slices_of(volume), folder / "in")
        return "in", "out"
    if sort == "picture":
        Image.fromarray(volume.array[:, :, 0]).save(folder / "in.png")
        return "in.png", "out.png"
    write_nifti(volume, folder / "in.nii")
    return "in.nii", f"out.{ending}"


def judge(folder: Path, seed: int) -> tuple[str, str]:
    """Run the command of ``seed`` in a new folder below ``folder``; return its outcome, and what it was."""
    place = folder / "case"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    label, command, shape = arguments(np.random.default_rng(seed), place)
    runner = CliRunner()
    with contextlib.chdir(place):
        result = runner.invoke(main, command)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            lines = "".join(traceback.format_exception(result.exception)[-3:])
            return "traceback", f"{label}: {lines}"
        errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        made = sorted(path.name for path in place.iterdir() if path.name not in ("in.nii", "in.png", "in"))
        if result.exit_code == 0:
            faults = _faults(command, made, shape)
            return ("wrong", f"{label}: {faults}") if errors or faults else ("done", label)
    if len(errors) == 1 and result.exit_code in (1, 2):
        kind = "incomplete" if " is written, but " in errors[0] else "wrong" if made else "refused"
        return kind, f"{label}: {errors[0]} {made}"
    return "wrong", f"{label}: exit {result.exit_code}: {result.stderr[-300:]}"


def _faults(command: list[str], made: list[str], shape: tuple[int, ...]) -> str:
    """Return what is wrong with the outputs of a command that succeeded."""
    wanted = sorted([command[2], "out.json", *(name for name in ("look.png", "uncertainty.nii.gz") if name in command)])
    if made != wanted:
        return f"{made}, not {wanted}"
    if json.loads(Path("out.json").read_text())["quality"]["verdict"] not in ("ok", "check", "doubtful"):
        return "no verdict"
    found = read_volume(command[2])
    # A series is read along its own slices, a picture as the one slice that it holds.
    wanted_voxels = shape[0] * shape[1] if command[2] == "out.png" else int(np.prod(shape))
    right = found.array.size == wanted_voxels and (Path(command[2]).suffix in ("", ".png") or found.shape == shape)
    return "" if right and np.isfinite(found.array).all() else f"an output of {found.shape}"


def measure(count: int = 1000, first: int = 0) -> Row:
    """Return the row of the table for ``count`` seeds."""
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as root:
        folder = prepare(Path(root))
        for seed in range(first, first + count):
            outcome, detail = judge(folder, seed)
            counts[outcome] += 1
            if outcome not in ("done", "refused"):
                wrong.append(f"seed {seed}, {outcome}: {detail}")
    said = ", ".join(f"{counts[kind]} {kind}" for kind in ("done", "refused", "incomplete", "wrong"))
    return Row("odd volumes", f"{count} translations: {said}; {counts['traceback']} tracebacks", wrong)


if __name__ == "__main__":
    sys.exit(measure(*map(int, sys.argv[1:])).show())
