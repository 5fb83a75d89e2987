"""Dose on synthetic heads with truth: a shipped model from T1 to CT, and water in the head.

python tests/benchmarks/dose.py LABELS OUT [--patients N]

LABELS holds seg_03, seg_08, seg_14 and seg_20, which no shipped model was trained on. For each of N patients per map,
a T1 scan by a random protocol is translated by head-t1-ct, and the reference is the true CT of the same patient.
Photon and proton plans for the default target are made on the true CT and calculated again on the translation and on
water in the head. Volumes and scores are kept in OUT, a folder per patient, and used again by the next call. Prints the
table of docs/howto/dose.md.
"""

import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np
from scipy import stats
from shipped_models import MAPS, draw

from medcyclegan import ModelBundle, read_volume, translate_volume, write_volume
from medcyclegan.dose import Structures, recalculate_dose
from medcyclegan.metrics import head_mask, mae
from medcyclegan.model.shipped import model_folder

MODEL = "head-t1-ct"
METHODS = {"fake": MODEL, "water": "water"}
SCORES = {
    "mae": "MAE (HU)",
    "photon_gamma": "photon gamma (%)",
    "proton_gamma": "proton gamma (%)",
    "photon_target_d95_difference": "photon D95 (Gy)",
    "proton_target_d95_difference": "proton D95 (Gy)",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--patients", type=int, default=1, help="patients of each label map")
    arguments = parser.parse_args()
    names = {f"{name}-{n}": (name, 100 * n + k) for n in range(arguments.patients) for k, name in enumerate(MAPS)}
    for folder, (name, seed) in names.items():
        write_case(arguments.labels / f"{name}.nii.gz", seed, arguments.out / folder)
    rows = {name: score_case(arguments.out / name) for name in names}
    print_table(rows)


def write_case(labels: Path, seed: int, folder: Path) -> None:
    """Write the true CT of one patient, and its translation from T1."""
    if (folder / "fake.nii.gz").exists():
        return
    case = draw(labels, seed, False, False)
    write_volume(case.truth["ct"], folder / "ct.nii.gz", overwrite=True)
    bundle = ModelBundle.load(model_folder(MODEL))
    write_volume(translate_volume(case.scans["t1"], bundle, to="ct"), folder / "fake.nii.gz", overwrite=True)


def score_case(folder: Path) -> dict:
    """Return the scores of each method, and the seconds that the dose took, of one patient."""
    file = folder / "dose.json"
    if file.exists():
        return json.loads(file.read_text())
    reference = read_volume(folder / "ct.nii.gz").replace(modality="CT")
    head = head_mask(reference)
    images = {
        "fake": read_volume(folder / "fake.nii.gz").array.astype(np.float32),
        "water": np.zeros(reference.shape, np.float32),
    }
    structures = Structures.from_volumes(reference, head, None, {})
    wall, cpu = time.perf_counter(), time.process_time()
    found = recalculate_dose(reference, images, head, structures)
    row = {
        "scores": {
            key: {"mae": mae(image, reference.array, head), **found.scores[key]} for key, image in images.items()
        },
        "reference": found.reference,
        "plan": found.plan,
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
    }
    file.write_text(json.dumps(row, indent=1) + "\n")
    return row


def print_table(rows: dict[str, dict]) -> None:
    print("| patient | image | " + " | ".join(SCORES.values()) + " |\n| --- | --- |" + " ---: |" * len(SCORES))
    for name, row in rows.items():
        for key, title in METHODS.items():
            print(f"| {name} | {title} | " + " | ".join(f"{row['scores'][key][score]:.1f}" for score in SCORES) + " |")
    for what, pick in (("mean", np.mean), ("lowest", np.min), ("highest", np.max)):
        for key, title in METHODS.items():
            values = [pick([row["scores"][key][score] for row in rows.values()]) for score in SCORES]
            print(f"| {what} | {title} | " + " | ".join(f"{value:.1f}" for value in values) + " |")
    for key, (one, other) in itertools.product(METHODS, (("mae", "photon_gamma"), ("mae", "proton_gamma"))):
        values = [[row["scores"][key][score] for row in rows.values()] for score in (one, other)]
        rank = stats.spearmanr(*values).statistic if len(rows) > 2 else float("nan")
        print(f"rank correlation of {SCORES[one]} and {SCORES[other]}, {METHODS[key]}: {rank:.2f} ({len(rows)} heads)")
    for key in ("cpu_s", "wall_s"):
        print(f"{key} of a patient, {len(METHODS)} images: " + ", ".join(f"{row[key]:.0f}" for row in rows.values()))


if __name__ == "__main__":
    main()
