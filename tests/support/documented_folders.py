"""The folders in which the commands of the documentation's pages run: small phantoms under the names that they use."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import torch
from click.testing import CliRunner
from model.test_public_weights import PublicResnet, initialised
from PIL import Image
from support import dicom_phantoms as made
from support.cohorts import make_cohort
from support.dicom_node_server import make_certificate
from support.label_phantoms import write_labels
from support.models import tiny_model
from support.phantoms import head_ct, head_mr, make_affine, write_nifti

from medcyclegan.cli.main import main
from medcyclegan.intensity import IntensityScaling
from medcyclegan.metrics import TissueMeans
from medcyclegan.model import DomainModel
from medcyclegan.model.training_set import TrainingSet

ROOT = Path(__file__).parents[2]
SHAPE, PLACE = (24, 28, 16), make_affine("LPS", (8.0, 8.0, 12.0), rotation_degrees=(4.0, 0.0, 3.0))
MR = IntensityScaling("percentile", 0.0, 900.0, "arbitrary units")


def series(volume, folder, seed):
    made.save(made.slices_of(volume, seed=seed), folder)


def three_commands():
    for n in range(5):
        write_nifti(head_mr(SHAPE, PLACE, seed=n), Path("volumes/t1") / f"p{n}.nii.gz")
        write_nifti(head_mr(SHAPE, PLACE, seed=9 + n, inverted=True), Path("volumes/t2") / f"q{n}.nii.gz")
    write_nifti(head_mr(SHAPE, PLACE, seed=30), Path("in.nii.gz"))


def patients_with_both():
    three_commands()
    for file in Path("volumes/t2").iterdir():
        file.rename(file.with_name(file.name.replace("q", "p")))


def many_scanners():
    three_commands()
    Path("volumes/t1").rename("volumes/scanners")
    Path("volumes/t2").rename("volumes/reference")


def first_screen():
    three_commands()
    for name in ("t1", "brain_t1"):
        write_nifti(head_mr((24, 28, 4), PLACE), Path(f"{name}.nii.gz"))


def label_maps():
    for n in range(2):
        write_labels(Path("labels") / f"head-{n}.nii.gz")
    for name in ("t1", "t2"):
        write_nifti(head_mr(SHAPE, PLACE, inverted=name == "t2"), Path("volumes") / name / "a.nii.gz")
    write_nifti(head_mr(SHAPE, PLACE), Path("in.nii.gz"))
    assert CliRunner().invoke(main, ["slice-volumes"]).exit_code == 0


def pacs_export():
    for n in range(3):
        series(head_ct(SHAPE, PLACE, seed=n), Path("export") / f"A{n}", f"ct{n}")
        series(head_mr(SHAPE, PLACE, seed=n), Path("export") / f"B{n}", f"mr{n}")


def shuffled_export():
    for n in range(3):
        for head, name in ((head_ct, "Head H31s"), (head_mr, "T1 tse")):
            slices = made.slices_of(head(SHAPE, PLACE, seed=n), seed=f"{name}{n}")
            for k, dataset in enumerate(slices):
                dataset.PatientID, dataset.SeriesDescription = f"P{n}", name
                made.save([dataset], Path("export") / f"CD{k % 3}", name=lambda _, i=f"{name[0]}{n}{k:03}": f"IM{i}")


def image_sets():
    random = np.random.default_rng(0)
    for name in ("trainA", "trainB", "testA", "testB"):
        for n in range(1, 4):
            path = Path("ct2mr") / name / f"{'ct' if name.endswith('A') else 'mr'}{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 255, (40, 48), dtype=np.uint8)).save(path)


def bids():
    make_cohort(Path("bids"), 6, SHAPE)
    for n in (0, 1, 2):  # what make_cohort breaks
        for suffix in ("T1w", "T2w"):
            whole = Path(f"bids/sub-05/anat/sub-05_{suffix}.nii.gz").read_bytes()
            Path(f"bids/sub-{n:02d}/anat/sub-{n:02d}_{suffix}.nii.gz").write_bytes(whole)


def public_files():
    Path("checkpoints/ct2mr").mkdir(parents=True)
    for seed, name in enumerate(("A", "B")):
        weights = initialised(PublicResnet(2, 9), seed).state_dict()
        torch.save(weights, f"checkpoints/ct2mr/latest_net_G_{name}.pth")
    write_nifti(head_ct(SHAPE, PLACE), Path("in.nii.gz"))
    for name, head in (("ct", head_ct), ("mr", head_mr)):
        for n in range(2):
            write_nifti(head(SHAPE, PLACE, seed=n), Path("volumes") / name / f"{name}{n}.nii.gz")
    assert CliRunner().invoke(main, ["slice-volumes", "--fit", "stretch"]).exit_code == 0


def to_a_node():
    tiny_model().save("runs/latest/model")
    series(head_ct((20, 24, 4), make_affine("LPS", (9.0, 9.0, 9.0))), Path("series_folder"), "ct")
    series(head_ct(SHAPE, PLACE), Path("original_series"), "original")
    write_nifti(head_mr(SHAPE, PLACE), Path("in.nii.gz"))


def at_a_server():
    tiny_model().save("runs/latest/model")
    images = made.slices_of(head_ct((20, 24, 4), make_affine("LPS", (9.0, 9.0, 9.0))))
    for image in images:
        image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    made.save(images, Path("archive"))


def dicom_node():
    shutil.copy(ROOT / "examples" / "serve_rules.yaml", "rules.yaml")
    make_certificate(Path())


def own_code():
    tiny_model(DomainModel("t1", "MR", MR), DomainModel("t2", "MR", MR)).save("runs/latest/model")
    series(head_mr(SHAPE, PLACE), Path("series_folder"), "mr")
    write_nifti(head_mr(SHAPE, PLACE), Path("in.nii.gz"))


def one_and_many():
    own_code()
    for n in range(2):
        series(head_mr(SHAPE, PLACE, seed=n), Path("export") / f"A{n}", f"mr{n}")
    series(head_ct(SHAPE, PLACE), Path("export") / "B", "ct")
    write_nifti(head_mr(SHAPE, PLACE), Path("export/head.nii.gz"))


def scored():
    means = TissueMeans((-0.8,), (300.0, 40.0), "shares", 5)
    known = TrainingSet(5, (0.0,) * 64, 0.1, (8.0, 8.0), (12.0, 12.0), {"axial": 5}, means)
    dataclasses.replace(tiny_model(), provenance={"training_set": {"ct": known.to_dict()}}).save("runs/latest/model")
    for n in range(3):
        for folder, head in (("true_ct", head_ct), ("mr", head_mr)):
            write_nifti(head(SHAPE, PLACE, seed=n), Path(folder) / f"p{n}.nii.gz")
        for seed, folder in ((10, "synthetic_ct"), (20, "other_ct")):
            write_nifti(head_ct(SHAPE, PLACE, seed=seed + n), Path(folder) / f"p{n}.nii.gz")
    rows = [f"synthetic_ct/p{n}.nii.gz,true_ct/p{n}.nii.gz,{n // 2}" for n in range(3)]
    Path("pairs.csv").write_text("\n".join(["fake,reference,patient", *rows]) + "\n")


def patients_with_truth():
    own_code()
    for n in range(14):
        for name in ("t1", "t2"):
            write_nifti(
                head_mr(SHAPE, PLACE, seed=n, inverted=name == "t2"), Path("patients") / name / f"p{n:02d}.nii.gz"
            )


#: Prepares the folder in which the commands of a page are run.
PREPARED = {
    "README": first_screen,
    "index": three_commands,
    "tutorial": lambda: None,
    "scaling": lambda: None,
    "howto/train": patients_with_both,
    "howto/translate": one_and_many,
    "howto/export": own_code,
    "howto/ct_to_mr_pacs": pacs_export,
    "howto/sort_export": shuffled_export,
    "howto/t1_to_t2_bids": bids,
    "howto/image_folders": image_sets,
    "howto/patients": three_commands,
    "howto/synthetic_heads": label_maps,
    "howto/shipped_models": lambda: write_nifti(head_mr(SHAPE, PLACE), Path("t1.nii.gz")),
    "howto/public_weights": public_files,
    "howto/send_to_pacs": to_a_node,
    "howto/dicomweb": at_a_server,
    "howto/slicer": lambda: None,
    "howto/evaluate": scored,
    "howto/calibrate": patients_with_truth,
    "howto/own_monai_code": own_code,
    "howto/dicom_node": dicom_node,
    "howto/federated": three_commands,
    "howto/harmonise": many_scanners,
}
