"""Whether the contrasts of synthetic patients cover those of real heads: ratios of tissues, real beside drawn.

    python tests/benchmarks/synthetic_contrasts.py [--patients 52] [--workers 1]

Real heads are segmented coarsely: white and grey matter and fluid by k-means of T1 and T2 (where both exist) inside the
brain, subcutaneous fat as the brightest part of the layer below the skin in T1, bone as the darkest part of the layer
below that, muscle and marrow in boxes that were placed by hand. Drawn heads have their truth, but bone is found in them
as in real ones. Each ratio is that of medians; a real one counts as covered where it lies between the 5th and 95th
percentile of the drawn ones, within 0.01. Reads ``../shared/data``; prints a table and exits with 1 where a ratio is
not covered.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from scipy import ndimage

from medcyclegan.intensity import IntensityScaling, foreground_mask, foreground_threshold
from medcyclegan.io import read_volume
from medcyclegan.synthesis import TISSUES, Variation, build_head, draw_patient, render_patient
from medcyclegan.volume import Volume

ROOT = Path(__file__).parents[2].parent / "shared" / "data"
#: Label maps that may be looked at; 03, 08, 14 and 20 are kept for tests.
MAPS = ("01", "02", "04", "06", "07", "09", "10", "11", "13", "15", "16", "17", "18")

#: Real heads: files, whether brain-extracted, and boxes (x, y, z from and to, RAS+ voxels of the T1) by tissue.
NIFTI, DICOM = ROOT / "nifti", ROOT / "dicom"
REAL = {
    "patient03": (("openms_patient03", "t1", "t2"), {"marrow": (118, 138, 124, 132, 7, 9)}),
    "patient04": (
        ("openms_patient04", "t1", "t2"),
        {"marrow": (114, 128, 138, 150, 7, 9), "muscle": (98, 110, 51, 55, 4, 6)},
    ),
    "patient12": (
        ("openms_patient12", "t1", "t2", "flair"),
        {"marrow": (120, 136, 122, 138, 7, 9), "muscle": (106, 122, 42, 46, 2, 4)},
    ),
    "tcga": (("tcga_fg_6692", "t1"), {}),
    "tcga ": (("tcga_fg_6692", "t2", "flair"), {}),
    "mni07": (("openms_mni07", "t1", "t2"), None),
    "mni19": (("openms_mni19", "t1", "t2"), None),
    "cstar": (("cstar_stroke_coreg", "t1", "t2", "flair"), None),
    "mprage": (("mr_siemens_xa30_enhanced_t1_sag", "t1"), {}),
    "flash 2D": (("mr_siemens_prisma_sag_t1_hfs", "t1"), {}),
}

Masks = dict[str, np.ndarray]


def upright(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Return array and affine in RAS+ order."""
    codes = volume.orientation
    axes = [next(n for n in range(3) if codes[n] in pair) for pair in ("RL", "AP", "SI")]
    array, affine = volume.array.transpose(axes).astype(np.float32), np.array(volume.affine)
    affine[:, :3] = affine[:, axes]
    for n, axis in enumerate(axes):
        if codes[axis] not in "RAS":
            array = np.flip(array, n)
            affine[:, 3] += affine[:, n] * (array.shape[n] - 1)
            affine[:, n] *= -1
    return np.ascontiguousarray(array), affine


def load(names: tuple[str, ...]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the images of one head by contrast, all on the T1's grid, and its spacing."""
    folder = names[0]
    if folder.startswith("mr_"):
        array, affine = upright(read_volume(DICOM / folder / "in"))
        return {"t1": array}, np.linalg.norm(affine[:3, :3], axis=0)
    first, place = upright(read_volume(NIFTI / folder / f"{names[1]}.nii.gz"))
    images = {names[1]: first}
    for name in names[2:]:
        array, affine = upright(read_volume(NIFTI / folder / f"{name}.nii.gz"))
        way = np.linalg.inv(affine) @ place
        images[name] = ndimage.affine_transform(array, way[:3, :3], way[:3, 3], first.shape, order=1)
    return images, np.linalg.norm(place[:3, :3], axis=0)


def find_masks(images: dict[str, np.ndarray], spacing: np.ndarray, boxes: dict | None) -> Masks:
    """Return the coarse regions of a real head."""
    first = next(iter(images.values()))
    if boxes is None:
        level = float(np.median(first[first > first.mean()]))
        return split_brain(images, ndimage.binary_erosion(first > 0.15 * level, iterations=2), spacing)
    upper, depth = find_surface(first, spacing)
    masks = split_brain(images, upper & (depth > 17), spacing)
    layer = upper & (depth > 2) & (depth < 7)
    masks["fat"] = layer & (first > np.percentile(first[layer], 60))
    masks["air"] = ndimage.distance_transform_edt(depth == 0, spacing) > 15
    if spacing[2] < 4:
        masks["bone"] = find_bone(images, upper, depth)
    for name, (x0, x1, y0, y1, z0, z1) in boxes.items():
        masks[name] = np.zeros_like(upper)
        masks[name][x0:x1, y0:y1, z0:z1] = True
    return masks


def find_surface(first: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the slices through the vault, and the depth below the skin in mm."""
    level = float(np.median(first[first > first.mean()]))
    # Slice by slice: the neck and the vertex are no surface, and what a sinus opens is closed.
    rough = np.moveaxis(ndimage.binary_closing(first > 0.15 * level, np.ones((5, 5, 1))), 2, 0)
    head = np.stack([ndimage.binary_fill_holes(part) for part in rough], axis=2)
    depth = np.stack([ndimage.distance_transform_edt(part, spacing[:2]) for part in np.moveaxis(head, 2, 0)], axis=2)
    rows = np.nonzero((depth > 45).any(axis=(0, 1)))[0]
    upper = np.zeros_like(head)
    upper[..., int(np.percentile(rows, 40)) : int(np.percentile(rows, 85))] = True
    return upper, depth


def find_bone(images: dict[str, np.ndarray], upper: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Return the darkest part, in T1 and T2 together, of the layer that the skull is in; not for thick slices."""
    layer = upper & (depth > 6) & (depth < 14)
    darkest = sum(image / np.median(image[layer]) for name, image in images.items() if name in ("t1", "t2"))
    return layer & (darkest < np.percentile(darkest[layer], 15))


def split_brain(images: dict[str, np.ndarray], brain: np.ndarray, spacing: np.ndarray) -> Masks:
    """Return white and grey matter and fluid inside ``brain``: k-means of T2, or of T1 where there is no T2.

    Slow changes are divided out first: the local mean over 25 mm.
    """
    name = "t2" if "t2" in images else "t1"
    for image in images.values():
        brain = brain & (image > 0.05 * np.median(image[brain]))
    sigma = 25 / spacing
    local = ndimage.gaussian_filter(images[name] * brain, sigma) / (ndimage.gaussian_filter(brain * 1.0, sigma) + 1e-6)
    values = np.log(np.clip(images[name][brain] / np.maximum(local[brain], 1e-6), 0.2, 4))
    # White, grey, fluid: T2 rises, T1 falls.
    # From T1 alone what lies between grey matter and fluid, the partial volume of sulci, is a class of its own.
    centres = np.percentile(values, (30, 65, 98) if name == "t2" else (80, 50, 20, 3))
    for _ in range(40):
        nearest = np.abs(values[:, None] - centres).argmin(axis=1)
        centres = np.array([values[nearest == n].mean() for n in range(len(centres))])
    masks = {}
    for n, tissue in enumerate(("white", "grey", "fluid")):
        own = np.abs(values - centres[n])
        masks[tissue] = np.zeros_like(brain)
        # The inner half of each cluster: partial volume lies between them.
        masks[tissue][brain] = (nearest == n) & (own < np.median(own[nearest == n]))
    if name == "t2":
        masks["fluid"][brain] = values > np.percentile(values, 97)
        # Of these, what is neither sulcus nor lesion: dark in the other contrast.
        other = images["t1" if "t1" in images else "flair"]
        masks["fluid"] &= other < np.percentile(other[masks["fluid"]], 50)
    else:
        low, high = np.percentile(values, (2, 6))
        masks["fluid"][brain] = (values > low) & (values < high)
    return masks


def real_ratios() -> tuple[dict, dict]:
    """Return the ratios to white matter, {(contrast, tissue): {head: ratio}}, and the histograms of real heads."""
    ratios, histograms = {}, {}
    for name, (files, boxes) in REAL.items():
        images, spacing = load(files)
        masks = find_masks(images, spacing, boxes)
        for contrast, image in images.items():
            white = np.median(image[masks["white"]])
            for tissue, mask in masks.items():
                if tissue != "white" and mask.any():
                    ratios.setdefault((contrast, tissue), {})[name] = float(np.median(image[mask]) / white)
            kind = "extracted" if boxes is None else "whole"
            histograms.setdefault((contrast, kind), {})[name] = histogram(image)
    return ratios, histograms


def histogram(image: np.ndarray) -> np.ndarray:
    """Return the quartiles and ends of what a network sees of an image: scaled, its foreground alone."""
    threshold = foreground_threshold(image, "MR")
    values = IntensityScaling.fit(image, modality="MR").normalize(image[foreground_mask(image, threshold)])
    return np.percentile(values, QUANTILES)


#: The truth's tissues that stand for a coarse region.
GROUPS = {
    "white": ("white matter",), "grey": ("grey matter",), "fluid": ("cerebrospinal fluid",), "fat": ("fat",),
    "marrow": ("marrow",), "muscle": ("muscle",), "air": ("air",),
}  # fmt: skip
QUANTILES = (5, 25, 50, 75, 95)
CONTRASTS = ("t1", "t2", "flair")


def drawn_ratios(patients: int, extracted: float, workers: int = 1) -> tuple[dict, dict]:
    """Return the same of synthetic patients: lists instead of heads."""
    share = -(-patients // len(MAPS))
    jobs = [(name, range(n * share, (n + 1) * share), extracted) for n, name in enumerate(MAPS)]
    ratios, histograms = {}, {}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for found in pool.map(measure_map, jobs):
            for everything, part in zip((ratios, histograms), found, strict=True):
                for key, values in part.items():
                    everything.setdefault(key, []).extend(values)
    return ratios, histograms


def measure_map(job: tuple[str, range, float]) -> tuple[dict, dict]:
    """Return ratios and histograms of the patients drawn of one label map."""
    name, places, extracted = job
    ratios, histograms = {}, {}
    head = build_head(read_volume(ROOT / "labels" / f"seg_{name}.nii.gz"))
    for n in places:
        patient = draw_patient(10_000 + n, head, CONTRASTS, Variation(lesions=0.3, extracted=extracted))
        images = render_patient(patient, head)
        scans = {contrast: images.scans[contrast].numpy() for contrast in CONTRASTS}
        masks = {} if extracted else drawn_masks(images.truth.numpy(), scans, np.array(patient.grid.spacing_mm))
        for contrast, scan in scans.items():
            for group, mask in masks.items():
                if group != "white" and mask.sum() > 50:
                    # Of fluid in real T1, the darker half is measured.
                    share = 25 if (contrast, group) == ("t1", "fluid") else 50
                    ratio = np.percentile(scan[mask], share) / np.median(scan[masks["white"]])
                    ratios.setdefault((contrast, group), []).append(float(ratio))
            kind = "extracted" if extracted else "whole"
            histograms.setdefault((contrast, kind), []).append(histogram(scan))
    return ratios, histograms


def drawn_masks(truth: np.ndarray, scans: dict[str, np.ndarray], spacing: np.ndarray) -> Masks:
    """Return the regions of a drawn head."""
    numbers = {tissue.name: n for n, tissue in enumerate(TISSUES)}
    masks = {}
    for group, names in GROUPS.items():
        mask = np.isin(truth, [numbers[name] for name in names])
        inner = ndimage.binary_erosion(mask) if group in ("white", "grey", "fluid", "marrow", "muscle") else mask
        masks[group] = inner if inner.sum() > 50 else mask
    if spacing[2] < 4:
        # As in a real head: a skull is partly marrow and partial volume.
        upper, depth = find_surface(scans["t1"], spacing)
        masks["bone"] = find_bone({name: scans[name] for name in ("t1", "t2")}, upper, depth)
    return masks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--patients", type=int, default=52)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    patients, workers = arguments.patients, arguments.workers
    real, real_histograms = real_ratios()
    drawn, drawn_histograms = drawn_ratios(patients, 0.0, workers)
    drawn_histograms |= drawn_ratios(max(13, patients // 2), 1.0, workers)[1]
    outside = 0
    print(f"{'median ratio to white matter':<22}{'drawn 5 %':>10}{'50 %':>8}{'95 %':>8}   real")
    for key in sorted(real):
        low, middle, high = np.percentile(drawn[key], (5, 50, 95))
        said = []
        for name, ratio in real[key].items():
            inside = low - 0.01 <= ratio <= high + 0.01
            outside += not inside
            said.append(f"{name.strip()} {ratio:.2f}{'' if inside else ' (outside)'}")
        print(f"{key[0]:<8}{key[1]:<14}{low:>10.2f}{middle:>8.2f}{high:>8.2f}   {', '.join(said)}")
    print(f"\n{'foreground, scaled':<22}{'drawn 5 %':>10}{'50 %':>8}{'95 %':>8}   real")
    for key in sorted(real_histograms):
        for n, quantile in enumerate(QUANTILES):
            low, middle, high = np.percentile([values[n] for values in drawn_histograms[key]], (5, 50, 95))
            said = []
            for name, values in real_histograms[key].items():
                inside = low - 0.01 <= values[n] <= high + 0.01
                outside += not inside
                said.append(f"{name.strip()} {values[n]:.2f}{'' if inside else ' (outside)'}")
            label = f"{key[0]} {key[1]} {quantile} %"
            print(f"{label:<22}{low:>10.2f}{middle:>8.2f}{high:>8.2f}   {', '.join(said)}")
    print(f"\n{outside} real values outside the drawn range")
    return int(outside > 0)


if __name__ == "__main__":
    sys.exit(main())
