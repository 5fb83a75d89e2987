"""The data of choices.py: stores of slices of 2 mm, and test patients with their truth, small enough to be sent.

OUT/data/SET/ holds slice stores and ``test/``: per patient ``N_t1.nii`` and ``N_t2.nii``, which are translated,
``N_t1_truth.nii`` and ``N_t2_truth.nii`` where the truth is another image, and ``N_regions.npz``. Values are rounded to
some hundred levels, below the noise, and slices are left out, so that an archive of the folder is small.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from medcyclegan import Volume, read_volume, slice_volumes, write_volume
from medcyclegan.config import Config, load_config
from medcyclegan.manifest import MANIFEST, SliceRow, load_manifest
from medcyclegan.synthesis import Variation, draw_patient, load_head, render_patient, standard_patient
from medcyclegan.synthesis.labels import FREESURFER
from medcyclegan.synthesis.patient import Patient
from medcyclegan.synthesis.patient_files import grid_affine

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

#: Rows and columns of the slices of each set.
SIZES = {"brain": 96, "skull": 128, "synthetic": 128}
CONTRASTS = ("t1", "t2")
#: Label maps of test patients; the others are for training.
TEST_MAPS = ("seg_03", "seg_08", "seg_14", "seg_20")
#: Training patients: the first half is in the store with its T1, the second one with its T2.
PATIENTS = 40
#: The numbers of patients with both contrasts, of the variants of the synthetic store.
PAIRS = (0, 1, 2, 5, 20)
SPACING_MM = 2.0
#: Of synthetic volumes every n-th axial slice is kept, 6 mm apart, and of real test volumes every second.
SYNTHETIC_EVERY, REAL_EVERY = 3, 2
#: The levels of real test scans, and of synthetic scans.
REAL_LEVELS, SYNTHETIC_LEVELS = 250, 100


def settings(name: str) -> Config:
    fixed = ("slicing.pixel_mm=2", "slicing.validation_fraction=0", "slicing.test_fraction=0")
    return load_config("cpu", [*fixed, f"slicing.size={SIZES[name]}"])


def prepare(data: Path, labels: Path, out: Path) -> None:
    """Write the three sets; those that exist are kept."""
    for name in SIZES:
        folder = out / "data" / name
        if folder.is_dir():
            continue
        with tempfile.TemporaryDirectory() as scratch:
            made = Path(scratch) / name
            if name == "synthetic":
                prepare_synthetic(labels, Path(scratch), made)
            else:
                prepare_real(data, name, Path(scratch), made)
            for test in sorted((made / "test").glob("*_t1.nii")):
                write_regions(test)
            folder.parent.mkdir(parents=True, exist_ok=True)
            moving = folder.with_name(f".{name}-{os.getpid()}")
            shutil.copytree(made, moving, copy_function=copy_once())
            moving.rename(folder)
        print(f"{folder}: prepared", flush=True)


def copy_once():
    """Return a function that copies files, and links those whose contents it has copied before."""
    copied: dict[bytes, str] = {}

    def copy(source: str, target: str) -> str:
        content = Path(source).read_bytes()
        if len(content) > 100_000 and content in copied:
            os.link(copied[content], target)
        else:
            shutil.copyfile(source, target)
            copied[content] = target
        return target

    return copy


def prepare_real(data: Path, name: str, scratch: Path, made: Path) -> None:
    """Slice the two subjects, as synthetic_start.py does, and thin, crop and round the subject to be scored."""
    import synthetic_start

    # Its subjects and files, with the slices of the configuration cpu.
    synthetic_start.settings = lambda split, seed, steps, *more: settings(split)
    synthetic_start.prepare(data, name, scratch)
    for kind in ("unpaired", "paired"):
        keep_for_training(scratch / f"slices-{kind}", made / kind)
    scans = {contrast: read_volume(scratch / f"unseen_{contrast}.nii.gz") for contrast in CONTRASTS}
    box = head_box(scans["t1"], 4)
    for contrast, scan in scans.items():
        save(part(scan, box, REAL_EVERY), REAL_LEVELS, made / "test" / f"0_{contrast}.nii")


def prepare_synthetic(labels: Path, scratch: Path, made: Path) -> None:
    maps = sorted(path for path in labels.glob("*.nii.gz") if path.name.split(".")[0] not in TEST_MAPS)
    variation = Variation(spacing_mm=SPACING_MM, metal=0.0)
    # Patients in the order of their maps, since a map takes long to load.
    for path in maps:
        head = load_head(path, FREESURFER)
        for number in range(1, PATIENTS + 1):
            if maps[number % len(maps)] != path:
                continue
            patient = fixed_protocol(draw_patient(1000 + number, head, CONTRASTS, variation))
            images = render_patient(patient, head, truth=False)
            for contrast in CONTRASTS if number <= PATIENTS // 2 else ("t2",):
                scan = thinned(images.scans[contrast].cpu().numpy(), grid_affine(patient), SYNTHETIC_EVERY)
                save(
                    scan, SYNTHETIC_LEVELS, scratch / "volumes" / contrast / f"sub-{number:04d}" / f"{contrast}.nii.gz"
                )
    slice_volumes(scratch / "volumes", scratch / "all", config=settings("synthetic"))
    rows = load_manifest(scratch / "all")
    for pairs in PAIRS:
        keep_for_training(scratch / "all", made / f"pairs{pairs}", with_pairs(rows, pairs))
    for number, name in enumerate(TEST_MAPS):
        head = load_head(labels / f"{name}.nii.gz", FREESURFER)
        patient = fixed_protocol(draw_patient(2000 + number, head, CONTRASTS, variation))
        images = render_patient(patient, head, clean=True, truth=False)
        for contrast in CONTRASTS:
            for kind, image in (("", images.scans[contrast]), ("_truth", images.clean[contrast])):
                volume = thinned(image.cpu().numpy(), grid_affine(patient), SYNTHETIC_EVERY)
                save(volume, SYNTHETIC_LEVELS, made / "test" / f"{number}_{contrast}{kind}.nii")


def fixed_protocol(patient: Patient) -> Patient:
    """Return the patient as scanned with the standard protocols, with its own noise, bias field and lesions."""
    return dataclasses.replace(standard_patient(patient), acquisitions=patient.acquisitions)


def with_pairs(rows: list[SliceRow], pairs: int) -> list[SliceRow]:
    """Return T1 of half of the patients, and as many T2, of which ``pairs`` are of these patients."""
    ordered = sorted(rows, key=lambda row: row.content)
    first = [row for row in ordered if row.domain == "t1"]
    second = {row.patient: row for row in ordered if row.domain == "t2"}
    own = [second.pop(row.patient) for row in first]
    return [*first, *own[:pairs], *list(second.values())[: len(first) - pairs]]


def keep_for_training(store: Path, target: Path, rows: list[SliceRow] | None = None) -> None:
    """Copy what training reads of a store: the stacks of ``rows`` (default: all) and their manifest."""
    kept = {row.file for row in (load_manifest(store) if rows is None else rows)}
    for file in kept:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(store / file, target / file)
    lines = [line for line in (store / MANIFEST).read_text().splitlines() if json.loads(line)["file"] in kept]
    (target / MANIFEST).write_text("".join(f"{line}\n" for line in lines))


def thinned(array: np.ndarray, affine: np.ndarray, every: int) -> Volume:
    """Return every n-th axial slice of an image whose third axis points up."""
    return part(Volume(array, affine, modality="MR"), (slice(None),) * 3, every)


def part(volume: Volume, box: tuple[slice, ...], every: int) -> Volume:
    """Return a box of a volume, of which every n-th slice along the third axis."""
    array = volume.array[box][:, :, ::every]
    affine = np.array(volume.affine)
    affine[:3, 3] += affine[:3, :3] @ [part.start or 0 for part in box]
    affine[:3, 2] *= every
    return Volume(np.ascontiguousarray(array), affine, modality="MR")


def head_box(volume: Volume, margin: int) -> tuple[slice, ...]:
    from medcyclegan.metrics import head_mask

    places = np.argwhere(head_mask(volume))
    low, high = places.min(axis=0), places.max(axis=0) + 1
    return tuple(slice(max(0, int(a) - margin), int(b) + margin) for a, b in zip(low, high, strict=True))


def save(volume: Volume, levels: int, path: Path) -> None:
    """Write the values rounded to ``levels`` levels up to the 99.9th percentile."""
    top = float(np.percentile(volume.array, 99.9))
    rounded = np.clip(np.rint(volume.array * (levels / top)), -32768, 32767).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(Volume(rounded, volume.affine, modality="MR"), path)


def write_regions(test: Path) -> None:
    """Write the masks of the head and of what lies at least 16 mm inside, from the true T1."""
    from real_heads_scores import regions

    truth = test.with_name(test.name.replace("_t1.", "_t1_truth."))
    found = regions({"t1": read_volume(truth if truth.is_file() else test)})
    inside = found["brain"]
    np.savez_compressed(test.with_name(test.name.replace("_t1.nii", "_regions.npz")), head=found["head"], inside=inside)
