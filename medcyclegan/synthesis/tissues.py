"""The tissues of a head: literature values of their MR relaxation and CT numbers, and their spread between patients.

MR. The times at 1.5 and 3 T are rounded means over the sources; the spread covers both the differences between sources
and those between patients: Stanisz et al. 2005, Magn Reson Med 54:507 (white and grey matter, optic nerve, cord,
muscle, blood); Wansapura et al. 1999, J Magn Reson Imaging 9:531 (brain at 3 T); Bojorquez et al. 2017, Magn Reson
Imaging 35:69 (review, 3 T); de Bazelaire et al. 2004, Radiology 230:652 (fat, marrow); Rooney et al. 2007, Magn Reson
Med 57:308 (fluid). Proton densities: Tofts 2003, Quantitative MRI of the Brain, chapter 4; Kwan et al. 1999, IEEE Trans
Med Imaging 18:1085. Our estimates: deep grey matter (between white and grey matter, by its brightness in T1 and T2
scans), mucosa, skin, dura, and lesions (longer times with more water, shorter times with blood and calcium).

CT. Numbers of the ICRU Report 46 tissues by the formula of Schneider et al. 2000, Phys Med Biol 45:459 (cortical bone
1524, mandible 1113, cranium 999, spongiosa 287, skin 74, blood 56, muscle 43, grey matter 40, white matter 34, fluid
13, adipose tissue -77 HU), shifted within their spread to the values of clinical scanners at 120 kV (white matter 29,
fat -95); diploe is between spongiosa and cranium. Lesions: the usual ranges of radiology textbooks (oedema 20, fresh
blood 60 to 80, calcium over 130 HU).
"""

from __future__ import annotations

import dataclasses

__all__ = ["BRAIN", "COMPOSITES", "LESIONS", "TISSUES", "TissuePrior", "tissue_index", "tissue_indices"]


@dataclasses.dataclass(frozen=True)
class TissuePrior:
    """The distribution of a tissue's properties over patients.

    ``density``: proton density relative to water. ``t1_ms``, ``t2_ms``: at 1.5 and at 3 T. ``spread``: relative
    standard deviation of both times between patients. ``signal_spread``: relative standard deviation of the MR signal
    in one contrast that the times do not explain. ``hu``, ``hu_spread``: CT number and its standard deviation between
    patients. ``texture``: relative standard deviation of the water content within the tissue; ``hu_texture``: that of
    the CT number, in HU.
    """

    name: str
    density: float
    t1_ms: tuple[float, float]
    t2_ms: tuple[float, float]
    spread: float
    signal_spread: float
    hu: float
    hu_spread: float
    texture: float
    hu_texture: float


_Prior = TissuePrior
#: The order determines the numbers in the files of true tissues, so new tissues must be added at the end.
TISSUES: tuple[TissuePrior, ...] = (
    _Prior("air", 0.0, (1, 1), (1, 1), 0.0, 0.0, -1000, 0, 0.0, 0),
    _Prior("white matter", 0.70, (690, 880), (75, 70), 0.02, 0.015, 29, 2, 0.025, 1.0),
    _Prior("grey matter", 0.80, (1070, 1480), (87, 82), 0.02, 0.015, 38, 2, 0.03, 1.0),
    _Prior("cerebellar white matter", 0.71, (690, 890), (76, 71), 0.02, 0.015, 30, 2, 0.025, 1.0),
    _Prior("cerebellar grey matter", 0.80, (1030, 1420), (86, 81), 0.02, 0.015, 38, 2, 0.04, 1.0),
    _Prior("thalamus", 0.77, (850, 1150), (76, 70), 0.02, 0.015, 36, 2, 0.04, 1.0),
    _Prior("caudate", 0.80, (1000, 1350), (80, 74), 0.02, 0.015, 39, 2, 0.03, 1.0),
    _Prior("putamen", 0.79, (920, 1240), (73, 66), 0.02, 0.015, 39, 2, 0.03, 1.0),
    _Prior("pallidum", 0.74, (770, 1010), (58, 48), 0.08, 0.05, 38, 4, 0.04, 2.0),
    _Prior("hippocampus", 0.81, (1060, 1440), (92, 87), 0.02, 0.015, 38, 2, 0.03, 1.0),
    _Prior("amygdala", 0.81, (1050, 1410), (90, 85), 0.02, 0.015, 38, 2, 0.03, 1.0),
    _Prior("accumbens", 0.80, (970, 1300), (82, 76), 0.02, 0.015, 38, 2, 0.03, 1.0),
    _Prior("ventral diencephalon", 0.76, (810, 1080), (72, 65), 0.02, 0.015, 34, 2, 0.05, 1.0),
    _Prior("brain stem", 0.73, (790, 1050), (77, 71), 0.02, 0.015, 32, 2, 0.04, 1.0),
    _Prior("spinal cord", 0.74, (760, 1000), (75, 76), 0.07, 0.06, 35, 3, 0.03, 1.0),
    _Prior("optic nerve", 0.74, (815, 1083), (77, 78), 0.08, 0.06, 32, 3, 0.03, 1.0),
    _Prior("cerebrospinal fluid", 1.0, (4100, 4200), (1800, 1600), 0.07, 0.06, 9, 3, 0.02, 1.5),
    _Prior("choroid plexus", 0.93, (1800, 2200), (210, 190), 0.12, 0.10, 35, 8, 0.08, 4.0),
    _Prior("white matter lesion", 0.81, (1150, 1550), (150, 140), 0.10, 0.04, 23, 3, 0.08, 2.0),
    _Prior("artery", 0.90, (1441, 1932), (250, 170), 0.10, 0.15, 45, 6, 0.05, 2.0),
    _Prior("vein", 0.90, (1441, 1932), (180, 60), 0.12, 0.15, 52, 6, 0.05, 2.0),
    _Prior("dura", 0.65, (900, 1050), (35, 30), 0.20, 0.15, 55, 8, 0.10, 4.0),
    _Prior("eyeball", 0.99, (3900, 4200), (1000, 850), 0.08, 0.08, 12, 4, 0.02, 1.0),
    _Prior("muscle", 0.80, (1008, 1412), (42, 37), 0.12, 0.15, 52, 6, 0.08, 4.0),
    _Prior("mucosa", 0.86, (1150, 1500), (95, 82), 0.20, 0.15, 45, 8, 0.12, 8.0),
    _Prior("fat", 0.90, (343, 382), (62, 68), 0.10, 0.12, -95, 10, 0.06, 6.0),
    _Prior("skin", 0.75, (850, 1050), (38, 32), 0.20, 0.20, 60, 15, 0.10, 8.0),
    _Prior("marrow", 0.72, (430, 520), (50, 48), 0.20, 0.20, 400, 110, 0.15, 90.0),
    _Prior("cortical bone", 0.20, (250, 280), (0.5, 0.5), 0.20, 0.20, 1400, 180, 0.10, 120.0),
    _Prior("soft tissue", 0.80, (1008, 1412), (42, 37), 0.10, 0.10, 52, 6, 0.08, 4.0),
    _Prior("scalp", 0.90, (343, 382), (62, 68), 0.10, 0.12, -95, 10, 0.06, 6.0),
    _Prior("plaque", 0.81, (1200, 1580), (150, 140), 0.10, 0.04, 24, 3, 0.05, 1.5),
    _Prior("oedema", 0.82, (1180, 1570), (140, 130), 0.10, 0.04, 21, 3, 0.05, 1.5),
    _Prior("tumour", 0.86, (1350, 1750), (135, 125), 0.20, 0.08, 36, 7, 0.12, 4.0),
    _Prior("necrosis", 0.96, (2300, 2700), (350, 320), 0.20, 0.08, 14, 5, 0.05, 2.0),
    _Prior("infarct", 0.83, (1250, 1620), (150, 140), 0.10, 0.04, 21, 4, 0.06, 1.5),
    _Prior("cavity", 0.98, (3400, 3700), (900, 800), 0.15, 0.06, 9, 4, 0.04, 1.5),
    _Prior("acute haemorrhage", 0.80, (1000, 1300), (38, 30), 0.12, 0.10, 68, 7, 0.08, 4.0),
    _Prior("subacute haemorrhage", 0.88, (380, 430), (115, 100), 0.20, 0.10, 48, 7, 0.10, 4.0),
    _Prior("haemosiderin", 0.70, (950, 1250), (24, 18), 0.20, 0.10, 30, 6, 0.10, 3.0),
    _Prior("calcification", 0.40, (650, 800), (25, 20), 0.20, 0.15, 350, 150, 0.15, 60.0),
)

_INDEX = {tissue.name: index for index, tissue in enumerate(TISSUES)}

#: Grey and white matter and the structures between them: a head must have them, and brain extraction keeps them.
BRAIN = (
    "white matter", "grey matter", "cerebellar white matter", "cerebellar grey matter", "thalamus", "caudate",
    "putamen", "pallidum", "hippocampus", "amygdala", "accumbens", "ventral diencephalon", "brain stem",
    "white matter lesion",
)  # fmt: skip

#: Labels that combine several tissues; a patient's anatomy divides them into skin, fat and muscle.
COMPOSITES = ("soft tissue", "scalp")

#: Tissues that occur only in lesions.
LESIONS = (
    "plaque", "oedema", "tumour", "necrosis", "infarct", "cavity", "acute haemorrhage", "subacute haemorrhage",
    "haemosiderin", "calcification",
)  # fmt: skip


def tissue_index(name: str) -> int:
    """Return the index of the tissue ``name`` in :data:`TISSUES`; raise KeyError for an unknown tissue."""
    return _INDEX[name]


def tissue_indices(*names: str) -> tuple[int, ...]:
    """Return the indices of several tissues in :data:`TISSUES`."""
    return tuple(_INDEX[name] for name in names)
