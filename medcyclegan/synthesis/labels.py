"""The tissue of each number in a label map: the built-in table, and tables supplied by the user."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from medcyclegan.errors import ConfigError, nearest
from medcyclegan.synthesis.tissues import TISSUES

__all__ = ["FREESURFER", "read_labels_table"]


def _table(**groups: tuple[int, ...]) -> dict[int, str]:
    return {label: name.replace("_", " ") for name, labels in groups.items() for label in labels}


#: FreeSurfer's brain labels (FreeSurferColorLUT), and outside the brain those of the label maps of SynthSeg (Billot et
#: al. 2023, Med Image Anal 86:102789), whose source gives no names: they were identified by position, shape and
#: brightness in the maps. The cortical parcellations (1000 to 1035, 2000 to 2035) are grey matter.
FREESURFER: Mapping[int, str] = _table(
    air=(0, 130),
    white_matter=(2, 41, 251, 252, 253, 254, 255),
    grey_matter=(3, 42, *range(1000, 1036), *range(2000, 2036)),
    cerebellar_white_matter=(7, 46),
    cerebellar_grey_matter=(8, 47),
    thalamus=(9, 10, 48, 49),
    caudate=(11, 50),
    putamen=(12, 51),
    pallidum=(13, 52),
    hippocampus=(17, 53),
    amygdala=(18, 54),
    accumbens=(26, 58),
    ventral_diencephalon=(27, 28, 59, 60),
    brain_stem=(16,),
    spinal_cord=(512,),
    optic_nerve=(85, 530),
    cerebrospinal_fluid=(4, 5, 14, 15, 24, 43, 44, 72, 122),
    choroid_plexus=(31, 63, 136, 137, 163, 164),
    white_matter_lesion=(25, 57, 77, 78, 79),
    artery=(30, 62, 502),
    vein=(514,),
    eyeball=(259, 506),
    muscle=(123, 508),
    mucosa=(509,),
    skin=(118,),
    soft_tissue=(120, 258, 507),
    scalp=(511,),
    cortical_bone=(121, 165, 515),
    marrow=(516,),
)


def read_labels_table(path: Path) -> dict[int, str]:
    """Read a CSV file with the columns ``label`` and ``tissue`` and one row for each number in the user's label maps.

    The names of tissues are those in :data:`~medcyclegan.synthesis.TISSUES`. Raises
    :class:`~medcyclegan.errors.ConfigError` for a missing file or column, a label that is not a whole number or has two
    tissues, and an unknown tissue.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the table of labels cannot be read: {error}") from None
    reader = csv.DictReader(lines)
    missing = {"label", "tissue"} - set(reader.fieldnames or ())
    if missing:
        raise ConfigError(f"{path}: no column {', '.join(sorted(missing))}: its first line must be label,tissue")
    names = [tissue.name for tissue in TISSUES]
    table: dict[int, str] = {}
    try:
        for row in reader:
            label, tissue = (row["label"] or "").strip(), " ".join((row["tissue"] or "").lower().split())
            where = f"{path}, line {reader.line_num}"
            if not label.isdecimal():
                raise ConfigError(f"{where}: the label {label!r} is not a whole number of at least 0")
            if tissue not in names:
                near = nearest(tissue, names)
                known = f"did you mean {near!r}?" if near else f"the tissues are {', '.join(names)}"
                raise ConfigError(f"{where}: unknown tissue {tissue!r}: {known}")
            if table.setdefault(int(label), tissue) != tissue:
                raise ConfigError(f"{where}: label {label} is {table[int(label)]} and {tissue}: keep one of the rows")
    except csv.Error as error:
        raise ConfigError(f"{path}, line {reader.line_num}: not a line of a CSV file ({error}): repair it") from None
    if not table:
        raise ConfigError(f"{path} contains no label: write one row for each number in the label maps")
    return table
