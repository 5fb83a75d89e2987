"""Generate synthetic patients with the truth of their translations: the cases on which shipped models are calibrated.

    python pipelines/calibration_cases.py LABELS... --out CASES [--patients 80] [--seed 0] [--contrasts t1 t2 ct]
    medcyclegan calibrate head-t1-ct --cases CASES/t1-to-ct.csv --to ct

LABELS are label maps that the models were not trained on. Inputs are scans by random protocols, with noise and bias
field; the truth of a translation is the standard image of the same patient, as in pretraining. A third of the patients
has voxels of 2 mm; the others have axial slices of 3 or 4 mm with pixels of 1 mm. CASES receives ``scans/`` and
``standard/``, ``tissues/`` (indices into ``medcyclegan.synthesis.TISSUES``) and one table for each pair of contrasts.
Finished patients are skipped.
"""

import argparse
import csv
import dataclasses
import io
import sys
from itertools import permutations
from pathlib import Path

from medcyclegan.errors import MedCycleGANError
from medcyclegan.io import write_volume
from medcyclegan.storage import atomic_write
from medcyclegan.synthesis import (
    CONTRASTS,
    FREESURFER,
    Cohort,
    Patient,
    Variation,
    draw_of,
    draw_patient,
    find_label_maps,
    load_head,
    render_patient,
    standard_patient,
)
from medcyclegan.synthesis.patient_files import grid_affine, scan_volume
from medcyclegan.volume import Volume

#: The voxels of patients 0, 1, 2, 3 ..., in turn, in mm.
SPACINGS_MM = ((2.0, 2.0, 2.0), (1.0, 1.0, 4.0), (1.0, 1.0, 3.0))


def main() -> int:
    """Generate the patients that are missing, then the tables."""
    arguments = parse_arguments()
    maps = find_label_maps([Path(path) for path in arguments.labels])
    variation = Variation(spacing_mm=2.0, lesions=arguments.lesions, extracted=float(arguments.extracted))
    cohort = Cohort(tuple(arguments.contrasts), arguments.patients, arguments.seed, variation)
    numbers = sorted(range(cohort.patients), key=lambda number: draw_of(cohort, number, len(maps))[0])
    for number in numbers:
        chosen, seed = draw_of(cohort, number, len(maps))
        name = f"sub-{cohort.seed:02d}{number:04d}"
        if not (arguments.out / "tissues" / f"{name}.nii.gz").exists():
            make_case(maps[chosen], seed, cohort, SPACINGS_MM[number % len(SPACINGS_MM)], arguments.out, name)
    names = [f"sub-{cohort.seed:02d}{number:04d}" for number in range(cohort.patients)]
    for source, target in permutations(cohort.contrasts, 2):
        write_table(arguments.out / f"{source}-to-{target}.csv", names, source, target)
    return 0


def make_case(
    labels: Path, seed: int, cohort: Cohort, spacing_mm: tuple[float, float, float], out: Path, name: str
) -> None:
    """Write one patient's scans and standard images; the tissues last, as the sign that the patient is finished."""
    head = load_head(labels, FREESURFER)
    patient = with_voxels(draw_patient(seed, head, cohort.contrasts, cohort.variation), spacing_mm)
    images = render_patient(patient, head)
    standard = render_patient(standard_patient(patient), head, clean=True, truth=False)
    affine = grid_affine(patient)
    for contrast in cohort.contrasts:
        write_volume(scan_volume(images, patient, contrast), out / "scans" / contrast / f"{name}.nii.gz")
        truth = standard.clean[contrast].cpu().numpy()
        modality = "CT" if contrast == "ct" else "MR"
        write_volume(Volume(truth, affine, modality=modality), out / "standard" / contrast / f"{name}.nii.gz")
    assert images.truth is not None  # noqa: S101 (rendered by default)
    write_volume(Volume(images.truth.cpu().numpy(), affine), out / "tissues" / f"{name}.nii.gz")


def with_voxels(patient: Patient, spacing_mm: tuple[float, float, float]) -> Patient:
    """Return the patient with other voxels in the same field of view."""
    grid = patient.grid
    i, j, k = (max(8, round(n * mm / new)) for n, mm, new in zip(grid.shape, grid.spacing_mm, spacing_mm, strict=True))
    return dataclasses.replace(patient, grid=dataclasses.replace(grid, shape=(i, j, k), spacing_mm=spacing_mm))


def write_table(path: Path, names: list[str], source: str, target: str) -> None:
    """Write the table of the cases of one direction, with paths relative to its folder."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("case", "patient", "input", "reference"))
    for name in names:
        writer.writerow((name, name, f"scans/{source}/{name}.nii.gz", f"standard/{target}/{name}.nii.gz"))
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", nargs="+", help="label maps, or folders that contain them")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--patients", type=int, default=80, help="number of patients")
    parser.add_argument("--seed", type=int, default=0, help="each seed gives different patients")
    parser.add_argument("--contrasts", nargs="+", choices=CONTRASTS, default=["t1", "t2", "ct"])
    parser.add_argument("--lesions", type=float, default=0.6, help="fraction of patients with lesions")
    parser.add_argument("--extracted", action="store_true", help="extract the brains")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MedCycleGANError as error:
        sys.exit(f"Error: {error}")
