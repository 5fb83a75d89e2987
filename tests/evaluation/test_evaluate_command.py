"""The command ``evaluate``: reads files and folders, writes tables, and gives one line for what cannot be scored."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner

from medcyclegan.cli import main
from medcyclegan.io import read_volume, write_volume
from medcyclegan.metrics import head_mask, mae, psnr
from medcyclegan.phantom import ct_volume, make_head, t1_volume
from medcyclegan.volume import Volume

SCORES = {"mae", "psnr", "ms_ssim", "mae_2023", "psnr_2023", "ssim_2023"}


@pytest.fixture(scope="module")
def heads():
    return [make_head(seed, shape=(40, 50, 30), spacing_mm=(5.0, 5.0, 5.0)) for seed in (3, 4, 5)]


@pytest.fixture
def files(tmp_path, heads):
    """Folders with slightly wrong fakes, references, inputs and masks of three cases."""
    for n, head in enumerate(heads):
        reference = ct_volume(head)
        write_volume(reference, tmp_path / f"ref/c{n}.nii.gz")
        write_volume(reference.replace(array=reference.array + np.int16(10 * n + 10)), tmp_path / f"fake/c{n}.nii.gz")
        write_volume(reference.replace(array=reference.array + np.int16(50)), tmp_path / f"worse/c{n}.nii.gz")
        write_volume(t1_volume(head), tmp_path / f"in/c{n}.nii.gz")
        mask = head_mask(reference).astype(np.float32)
        write_volume(Volume(mask, reference.affine), tmp_path / f"mask/c{n}.nii.gz")
    return tmp_path


def run(*arguments, fails=0):
    result = CliRunner().invoke(main, ["evaluate", *map(str, arguments)])
    assert result.exit_code == fails, result.output
    if fails:
        assert "Traceback" not in result.stderr
    return result


def test_json_is_an_object_a_case(files):
    result = run(files / "fake/c1.nii.gz", files / "ref/c1.nii.gz", "--mask", files / "mask/c1.nii.gz", "--json")
    scores = json.loads(result.stdout)
    fake, reference, mask = (read_volume(files / f"{name}/c1.nii.gz").array for name in ("fake", "ref", "mask"))
    assert scores["case"] == "c1"
    assert scores.keys() >= SCORES | {"mae_air", "mae_soft_tissue", "mae_bone", "mean_error", "ncc", "patient"}
    assert scores["baselines"].keys() == {"flat", "water"}
    assert all(baseline.keys() >= SCORES for baseline in scores["baselines"].values())
    assert scores["mae"] == mae(fake, reference, mask > 0) == 20
    assert scores["psnr"] == psnr(fake, reference, value_range=(-1024, 3071), mask=mask > 0)


def test_folders_are_scored_case_by_case(files):
    result = run(
        files / "fake", files / "ref", "--mask", files / "mask", "--input", files / "in", "--json",
        "--out", files / "t.json",
    )  # fmt: skip
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["case"], line["mae"]) for line in lines] == [("c0", 10), ("c1", 20), ("c2", 30)]
    assert all(line["baselines"].keys() == {"flat", "water"} for line in lines)
    table = json.loads((files / "t.json").read_text())
    assert table["summary"]["fake"]["mae"]["mean"] == 20
    assert [(files / row["picture"]).read_bytes()[:4] for row in table["cases"]] == [b"\x89PNG"] * 3


def test_a_text_and_a_csv_table(files):
    result = run(files / "fake", files / "ref", "--out", files / "t.csv")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [line[:3] for line in lines if "fake" in line][:4] == [
        ["c0", "fake", "10"], ["c1", "fake", "20"], ["c2", "fake", "30"], ["mean", "fake", "20"],
    ]  # fmt: skip
    assert [line[0] for line in lines[2:4]] == ["flat", "water"]
    rows = list(csv.DictReader((files / "t.csv").read_text().splitlines()))
    assert [row["mae"] for row in rows] == ["10.0", "20.0", "30.0"]


def test_two_models_are_compared_from_volumes_or_from_a_table(files):
    from_volumes = run(files / "fake", files / "ref", "--compare", files / "worse", "--out", files / "t.json")
    assert "Wilcoxon" in from_volumes.stdout
    compared = json.loads((files / "t.json").read_text())["comparison"]["metrics"]["mae"]
    assert (compared["patients"], compared["mean_difference"], compared["p"]) == (3, -30, 0.25)
    run(files / "worse", files / "ref", "--out", files / "worse.csv")
    from_table = run(files / "fake", files / "ref", "--compare", files / "worse.csv")
    assert from_table.stdout == from_volumes.stdout


def test_two_models_are_compared_by_pairs_from_files(files):
    lines = {name: [f"p{n},{name}/c{n}.nii.gz,ref/c{n}.nii.gz,in/c{n}.nii.gz" for n in range(3)]
             for name in ("fake", "worse")}  # fmt: skip
    for name, rows in lines.items():
        (files / f"{name}-pairs.csv").write_text("\n".join(["case,fake,reference,input", *rows]) + "\n")
    pairs = ("--pairs", files / "fake-pairs.csv")
    by_csv = run(*pairs, "--compare", files / "worse-pairs.csv", "--out", files / "p.json")
    compared = json.loads((files / "p.json").read_text())
    assert [row["case"] for row in compared["cases"]] == ["p0", "p1", "p2"]
    assert compared["comparison"]["metrics"]["mae"]["mean_difference"] == -30
    assert run(*pairs, "--compare", files / "worse").stdout == by_csv.stdout, "a folder of the other model's volumes"
    run("--pairs", files / "worse-pairs.csv", "--out", files / "p.csv")
    assert run(*pairs, "--compare", files / "p.csv").stdout == by_csv.stdout, "a table of its scores"
    (files / "worse/c1.nii.gz").unlink()
    assert "c1: no fake in" in run(*pairs, "--compare", files / "worse", fails=1).stderr


def test_a_comparison_without_common_cases_is_refused_before_any_work(files, monkeypatch):
    run(files / "fake", files / "ref", "--out", files / "other.csv")
    lines = (files / "other.csv").read_text().replace("c0,", "d0,").replace("c1,", "d1,")
    (files / "other.csv").write_text(lines)
    monkeypatch.setattr("medcyclegan.evaluation.runs.evaluate_pairs", None)  # which is not got to
    refused = run(files / "fake", files / "ref", "--compare", files / "other.csv", fails=2)
    assert "1 case in common" in refused.stderr


def test_pairs_from_a_csv(files):
    (files / "pairs.csv").write_text("case,fake,reference,mask\none,fake/c2.nii.gz,ref/c2.nii.gz,mask/c2.nii.gz\n")
    assert json.loads(run("--pairs", files / "pairs.csv", "--json").stdout)["mae"] == 30


def test_sessions_of_a_patient_count_as_one(files, monkeypatch):
    """Three sessions of one patient, by the column patient or by name, allow no paired test."""
    rows = [f"c{n},fake/c{n}.nii.gz,ref/c{n}.nii.gz,{'a' if n else 'b'}" for n in range(3)]
    (files / "pairs.csv").write_text("\n".join(["case,fake,reference,patient", *rows]) + "\n")
    result = run("--pairs", files / "pairs.csv", "--compare", files / "worse", "--out", files / "t.json")
    table = json.loads((files / "t.json").read_text())
    assert (table["summary"]["fake"]["mae"]["mean"], table["summary"]["fake"]["mae"]["patients"]) == (17.5, 2)
    assert (table["comparison"]["patients"], table["comparison"]["smallest_possible_p"]) == (2, 0.5)
    assert "3 cases of 2 patients" in result.stdout
    assert "3 cases count as 2 patients" in result.stderr
    for folder in ("fake", "ref", "worse"):
        for n in range(3):
            (files / folder / f"c{n}.nii.gz").rename(files / folder / f"P01_visit{n}.nii.gz")
    monkeypatch.setattr("medcyclegan.evaluation.runs.evaluate_pairs", None)  # which is not reached
    refused = run(files / "fake", files / "ref", "--compare", files / "worse", fails=2)
    assert "3 cases of one patient" in refused.stderr


def test_the_computed_mask_is_saved(files):
    run(files / "fake/c0.nii.gz", files / "ref/c0.nii.gz", "--save-mask", files / "made.nii.gz")
    made, given = read_volume(files / "made.nii.gz"), read_volume(files / "mask/c0.nii.gz")
    assert np.array_equal(made.array, given.array)
    assert np.array_equal(made.affine, given.affine)
    run(files / "fake", files / "ref", "--save-mask", files / "masks")
    assert sorted(path.name for path in (files / "masks").iterdir()) == ["0001.nii.gz", "0002.nii.gz", "0003.nii.gz"]


def test_shards_share_out_the_cases(files):
    parts = [run(files / "fake", files / "ref", "--json", "--num-shards", 2, "--shard-id", n).stdout for n in (0, 1)]
    assert [[json.loads(line)["case"] for line in part.splitlines()] for part in parts] == [["c0", "c2"], ["c1"]]
    for more in (["--compare", files / "worse"], ["--unpaired"]):
        assert (
            "leave out one of the two"
            in run(files / "fake", files / "ref", "--num-shards", 2, "--shard-id", 0, *more, fails=2).stderr
        )
    assert (
        "fewer cases than shards"
        in run(files / "fake", files / "ref", "--num-shards", 9, "--shard-id", 8, fails=2).stderr
    )


def test_a_bad_case_costs_one_case(files):
    reference = read_volume(files / "ref/c1.nii.gz")
    write_volume(reference.replace(array=np.zeros_like(reference.array)), files / "fake/c1.nii.gz", overwrite=True)
    result = run(files / "fake", files / "ref", "--json", "--out", files / "t.json", fails=1)
    assert [json.loads(line)["case"] for line in result.stdout.splitlines()] == ["c0", "c2"]
    assert "case 2, c1: fake: all voxels in the mask are 0" in result.stderr
    assert "1 cases were refused" in result.stderr
    refused = json.loads((files / "t.json").read_text())["refused"]
    assert [refusal["case"] for refusal in refused] == ["c1"]


def test_sets_without_pairs(files):
    for name in ("a.npy", "b.npy"):
        np.save(files / name, np.random.default_rng(0).normal(size=(20, 4)))
    result = run(files / "fake", files / "ref", "--unpaired", "--features", files / "a.npy", files / "b.npy", "--json")
    distances = json.loads(result.stdout)
    assert distances["unit"] == "HU"
    assert 10 < distances["histogram"] < 30
    assert distances["frechet"] == pytest.approx(0, abs=1e-9)
    assert distances["floor"].keys() == {"histogram", "sliced_wasserstein", "mmd"}


def test_swapped_arguments_are_noticed(files):
    (files / "fake/c0.json").write_text(json.dumps({"made_by": "medcyclegan translate-volume", "synthetic": True}))
    result = run(files / "ref/c0.nii.gz", files / "fake/c0.nii.gz", fails=2)
    assert result.stderr.count("\n") == 1
    assert "the order is FAKE REFERENCE" in result.stderr
    run(files / "fake/c0.nii.gz", files / "ref/c0.nii.gz")


def test_the_sidecar_of_the_fake_states_the_modality(files):
    """A reference cut down to soft tissue does not look like HU, but the fake is known to be a CT."""
    reference = read_volume(files / "ref/c0.nii.gz")
    write_volume(reference.replace(array=np.clip(reference.array, -200, 3000)), files / "ref/c0.nii.gz", overwrite=True)
    pair = (files / "fake/c0.nii.gz", files / "ref/c0.nii.gz", "--json", "--mask", files / "mask/c0.nii.gz")
    assert json.loads(run(*pair).stdout)["unit"] != "HU"
    assert json.loads(run(*pair, "--modality", "CT").stdout)["unit"] == "HU"
    (files / "fake/c0.json").write_text(
        json.dumps({"made_by": "medcyclegan translate-volume", "to": {"modality": "CT"}})
    )
    assert json.loads(run(*pair).stdout)["unit"] == "HU"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "give two volumes or folders"),
        (["fake"], 2, "give two volumes or folders"),
        (["fake", "nowhere"], 1, "no such file or folder"),
        (["fake", "ref", "--pairs", "pairs.csv"], 2, "give one or the other"),
        (["fake/c0.nii.gz", "ref/c0.nii.gz", "--compare", "worse/c0.nii.gz"], 2, "two or more cases"),
        (["fake", "ref", "--compare", "mask/c0.nii.gz/none.json"], 1, "no such file or folder"),
        (["fake", "ref", "--out", "t.txt"], 2, "a .csv or a .json file"),
        (["fake", "ref", "--features", "a.npy", "b.npy"], 2, "add --unpaired"),
        (["fake", "ref", "--unpaired", "--mask", "mask"], 2, "--mask"),
        (["fake", "ref", "--unpaired", "--out", "t.csv"], 2, "choose a name that ends in .json"),
        (["fake/c0.nii.gz", "ref/c0.nii.gz", "--save-mask", "mask.png"], 2, "choose a name that ends in .nii.gz"),
        (["fake/c0.nii.gz", "ref/c0.nii.gz", "--save-mask", "mask/c0.nii.gz"], 1, "--overwrite"),
        (["fake/c0.nii.gz", "ref/c0.nii.gz", "--mask", "empty.nii.gz"], 1, "the mask is empty"),
        (["far.nii.gz", "ref/c0.nii.gz"], 1, "do not overlap"),
        (["holes.nii.gz", "ref/c0.nii.gz"], 1, "--nan fill"),
        (["fake/c0.nii.gz", "ref/c0.nii.gz", "--series", "1.2.3"], 1, "1.2.3"),
    ],
)
def test_a_line_for_what_cannot_be_scored(files, monkeypatch, arguments, code, said):
    monkeypatch.chdir(files)
    reference = read_volume("ref/c0.nii.gz")
    write_volume(Volume(np.zeros(reference.shape, np.float32), reference.affine), "empty.nii.gz")
    far = reference.affine.copy()
    far[2, 3] += 5000
    write_volume(Volume(reference.array, far), "far.nii.gz")
    holes = reference.array.astype(np.float32)
    holes[20, 25, 15] = np.nan
    _write_raw(holes, reference.affine, "holes.nii.gz")
    result = run(*arguments, fails=code)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert said in last
    assert result.stdout == ""


def _write_raw(array, affine, name):
    """Write NaN, which the package itself refuses to write."""
    import nibabel as nib

    nib.save(nib.Nifti1Image(array, affine), name)
