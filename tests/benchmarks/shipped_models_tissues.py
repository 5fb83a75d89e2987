"""Errors by tissue and the contrast of lesions, for shipped_models.py."""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage

from medcyclegan.synthesis import TISSUES
from medcyclegan.synthesis.tissues import LESIONS, tissue_indices

#: What is scored together; "air" is that inside the head.
GROUPS = {
    "air": ("air",),
    "bone": ("cortical bone", "marrow"),
    "soft tissue": ("muscle", "fat", "skin", "mucosa", "dura", "eyeball"),
    "grey matter": ("grey matter", "cerebellar grey matter", "caudate", "putamen", "thalamus", "hippocampus"),
    "white matter": ("white matter", "cerebellar white matter", "brain stem"),
    "fluid": ("cerebrospinal fluid",),
}
#: Lesions smaller than a sphere of this diameter are not scored, in mm.
SMALLEST_MM = 6.0
#: What surrounds a lesion: voxels at a distance from 2 to 5 mm.
RING_MM = (2.0, 5.0)


def tissue_errors(fake: np.ndarray, truth: np.ndarray, tissues: np.ndarray, head: np.ndarray) -> dict[str, float]:
    """Return the mean absolute error in each group; NaN for a group that is not there. All arrays ``(I, J, K)``."""
    error = np.abs(fake.astype(np.float32) - truth.astype(np.float32))
    found = {}
    for group, names in GROUPS.items():
        inside = np.isin(tissues, tissue_indices(*names)) & head
        found[group] = float(error[inside].mean()) if inside.any() else float("nan")
    return found


def lesion_contrasts(
    images: Sequence[np.ndarray], tissues: np.ndarray, spacing_mm: float
) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Yield the kind of each lesion and its contrast in each of ``images``: its mean less that of its ring."""
    any_lesion = np.isin(tissues, tissue_indices(*LESIONS))
    smallest = np.pi / 6 * (SMALLEST_MM / spacing_mm) ** 3
    for kind in LESIONS:
        parts, count = ndimage.label(tissues == tissue_indices(kind)[0])
        for number, box in enumerate(ndimage.find_objects(parts), start=1):
            if (parts[box] == number).sum() < smallest or count == 0:
                continue
            margin = int(np.ceil(RING_MM[1] / spacing_mm)) + 1
            wide = tuple(slice(max(0, side.start - margin), side.stop + margin) for side in box)
            inside = parts[wide] == number
            away = ndimage.distance_transform_edt(~inside, sampling=spacing_mm)
            ring = (away >= RING_MM[0]) & (away <= RING_MM[1]) & ~any_lesion[wide] & (tissues[wide] > 0)
            if ring.any():
                yield kind, tuple(float(v[wide][inside].mean() - v[wide][ring].mean()) for v in images)


def painted_with_means(truths: list[np.ndarray], tissues: list[np.ndarray]) -> list[np.ndarray]:
    """Return, for each patient, an image whose voxels have the mean of their true tissue in the other patients.

    It shows what the differences between patients leave unknown even if every tissue is recognized. A tissue that no
    other patient has gets its mean in the patient.
    """
    means = [
        {int(t): float(truth[kinds == t].mean()) for t in np.unique(kinds)}
        for truth, kinds in zip(truths, tissues, strict=True)
    ]
    painted = []
    for n, kinds in enumerate(tissues):
        table = np.zeros(256, np.float32)
        for t, own in means[n].items():
            others = [other[t] for m, other in enumerate(means) if m != n and t in other]
            table[t] = np.mean(others) if others else own
        painted.append(table[kinds])
    return painted


assert {name for names in GROUPS.values() for name in names} <= {tissue.name for tissue in TISSUES}
