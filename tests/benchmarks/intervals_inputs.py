"""Unusual inputs, and lesions that no training contained, for intervals.py."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage

from medcyclegan import Volume, read_volume
from medcyclegan.synthesis import FREESURFER, Variation, draw_patient, load_head, render_patient
from medcyclegan.synthesis.lesions import Lesion
from medcyclegan.synthesis.patient_files import scan_volume
from medcyclegan.synthesis.tissues import BRAIN, tissue_indices

#: What takes up contrast agent.
ENHANCED = ("artery", "vein", "mucosa", "choroid plexus", "dura", "tumour")
#: A lesion's name, the tissue of which it consists, its place from the brain's center in mm and its radius.
UNKNOWN = (
    ("fat", "fat", (-28.0, -20.0, 25.0), 8.0),
    ("bone", "cortical bone", (28.0, -30.0, 22.0), 7.0),
    ("fleshy", "muscle", (-26.0, 22.0, 22.0), 9.0),
    ("fluid", "eyeball", (27.0, 18.0, 25.0), 8.0),
)

Change = Callable[[Path, dict[str, str], str], Volume | None]


def draw_unknown_lesions(labels: Path, seed: int, contrast: str):
    """Return a scan of a head of which the brain contains four lesions, the mask of each, and the healthy brain."""
    head = load_head(labels, FREESURFER)
    patient = draw_patient(9000 + seed, head, (contrast,), Variation(spacing_mm=2.0, lesions=0.0, metal=0.0))
    healthy = render_patient(patient, head).truth.cpu().numpy()
    masks, lesions = {}, []
    for number, (name, tissue, centre, radius) in enumerate(UNKNOWN):
        lesion = Lesion(tissue, centre, (radius,) * 3, 0.1, 1.2, BRAIN, 77 + number)
        lesions.append(lesion)
        truth = render_patient(dataclasses.replace(patient, lesions=(lesion,)), head).truth.cpu().numpy()
        masks[name] = (truth != healthy) & (truth == tissue_indices(tissue)[0])
    images = render_patient(dataclasses.replace(patient, lesions=tuple(lesions)), head)
    brain = np.isin(images.truth.cpu().numpy(), tissue_indices(*BRAIN))
    return scan_volume(images, patient, contrast), {n: m for n, m in masks.items() if m.sum() > 20}, brain


def changed(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Change:
    """Return a change of the case's scan by a function of its array and the true tissues."""

    def change(folder: Path, row: dict[str, str], source: str) -> Volume | None:
        volume = read_volume(folder / row["input"])
        tissues = np.rint(read_volume(folder / "tissues" / f"{row['case']}.nii.gz").array).astype(np.uint8)
        return volume.replace(array=function(volume.array.astype(np.float32), tissues))

    return change


def other_contrast(folder: Path, row: dict[str, str], source: str) -> Volume | None:
    other = {"t1": "t2", "t2": "t1"}.get(source)
    return None if other is None else read_volume(folder / "scans" / other / f"{row['case']}.nii.gz")


def contrast_agent(array: np.ndarray, tissues: np.ndarray) -> np.ndarray:
    bright = np.percentile(array[tissues > 0], 99)
    taken = ndimage.gaussian_filter(np.isin(tissues, tissue_indices(*ENHANCED)).astype(np.float32), 0.5)
    return array + taken * 1.2 * bright


def strong_motion(array: np.ndarray, tissues: np.ndarray) -> np.ndarray:
    """Shift the patient by up to 10 mm or pixels during a third of the phase-encoding lines, along rows."""
    random = np.random.default_rng(0)
    lines = np.fft.fft(array, axis=1)
    frequencies = np.fft.fftfreq(array.shape[1])
    shifts = np.where(random.random(array.shape[1]) < 0.35, random.uniform(-10, 10, array.shape[1]), 0.0)
    return np.abs(np.fft.ifft(lines * np.exp(-2j * np.pi * frequencies * shifts)[None, :, None], axis=1)).astype(
        np.float32
    )


def metal(array: np.ndarray, tissues: np.ndarray) -> np.ndarray:
    """Remove the signal of a third of the head in front, with a bright rim."""
    inside = np.argwhere(tissues > 0)
    low, high = inside.min(axis=0), inside.max(axis=0)
    centre = [(low[0] + high[0]) / 2, high[1] - 0.15 * (high[1] - low[1]), low[2] + 0.35 * (high[2] - low[2])]
    radius = 0.4 * (high - low)
    away = np.sqrt(sum(((n - c) / r) ** 2 for n, c, r in zip(np.indices(array.shape), centre, radius, strict=True)))
    rim = (away >= 1) & (away < 1.12) & (tissues > 0)
    return np.where(away < 1, array.min(), np.where(rim, 2 * np.percentile(array, 99.5), array)).astype(np.float32)


def phantom(array: np.ndarray, tissues: np.ndarray) -> np.ndarray:
    """Return a bottle with rods."""
    i, j, _ = np.indices(array.shape)
    shape = array.shape
    place = [(n - s / 2) / (0.38 * s) for n, s in zip((i, j), shape, strict=False)]
    inside = place[0] ** 2 + place[1] ** 2 < 1
    rods = (np.sin(7 * place[0]) * np.sin(7 * place[1]) > 0.8) & inside
    noise = np.random.default_rng(0).normal(0, 8, shape)
    return (np.abs(noise) + 600 * inside - 450 * rods).astype(np.float32)


def abdomen(array: np.ndarray, tissues: np.ndarray) -> np.ndarray:
    """Return a trunk with fat, muscle, liver, spine and kidneys."""
    i, j, k = np.indices(array.shape)
    x, y = (2 * n / s - 1 for n, s in zip((i, j), array.shape[:2], strict=True))
    parts = (((0, 0), (0.95, 0.7), 900), ((0, 0), (0.85, 0.6), 350), ((0.35, 0.1), (0.4, 0.4), 520),
             ((0, -0.35), (0.14, 0.16), 450), ((0.4, -0.3), (0.13, 0.17), 280), ((-0.4, -0.3), (0.13, 0.17), 280),
             ((-0.25, 0.2), (0.25, 0.2), 120))  # fmt: skip
    out = np.zeros(array.shape, np.float32)
    for (a, b), (c, d), value in parts:
        wave = 1 + 0.05 * np.sin(6 * k / array.shape[2] + a)
        out[((x - a) / (c * wave)) ** 2 + ((y - b) / (d * wave)) ** 2 < 1] = value
    return np.abs(ndimage.gaussian_filter(out, 0.7) + np.random.default_rng(0).normal(0, 12, out.shape)).astype(
        np.float32
    )


#: Kind -> the changed scan of a case. CT-only and MR-only kinds are the same function on other values.
ODD_INPUTS: dict[str, Change] = {
    "another contrast": other_contrast,
    "another body part": changed(abdomen),
    "contrast agent": changed(contrast_agent),
    "strong motion": changed(strong_motion),
    "metal": changed(metal),
    "phantom": changed(phantom),
    "upside down": changed(lambda array, tissues: np.ascontiguousarray(array[:, :, ::-1])),
    "left and right swapped": changed(lambda array, tissues: np.ascontiguousarray(array[::-1])),
    "brain extracted": changed(
        lambda a, t: np.where(ndimage.binary_closing(np.isin(t, tissue_indices(*BRAIN)), iterations=3), a, 0)
    ),
}
