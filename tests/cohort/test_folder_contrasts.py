"""Which volumes of a folder are skipped because their name or their values show another contrast."""

from support.exports import GRID, outputs, run
from support.models import MR, tiny_model
from support.phantoms import head_ct, head_mr, write_nifti

from medcyclegan import read_volume
from medcyclegan.model import DomainModel


def test_a_name_of_the_target_s_contrast_is_skipped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_model(DomainModel("t1", "MR", MR), DomainModel("t2", "MR", MR)).save(tmp_path / "model")
    for name in ("s1_T1w", "s1_T2w", "s2"):
        write_nifti(head_mr(*GRID), tmp_path / "in" / f"{name}.nii.gz")
    result = run("in", "out", "--to", "t2")
    assert outputs(tmp_path / "out") == ["s1_T1w", "s2"]
    assert "it is t2 by the name" in result.stdout
    assert len(outputs(tmp_path / "out")) == 2
    assert run("in", "forced", "--to", "t2", "--force").exit_code == 0
    assert len(outputs(tmp_path / "forced")) == 3


def test_a_volume_in_hu_without_a_modality_is_skipped_as_mr(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_model().save(tmp_path / "model")
    write_nifti(head_ct(*GRID).replace(modality=None), tmp_path / "in" / "a.nii.gz")
    write_nifti(head_mr(*GRID), tmp_path / "in" / "b.nii.gz")
    result = run("in", "out", "--to", "ct")
    assert result.exit_code == 0, result.output
    assert "1 translated, 0 unchanged, 1 skipped" in result.stdout
    assert read_volume(tmp_path / "out/b.nii.gz").synthetic


def test_the_innermost_name_with_a_contrast_decides_what_a_volume_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("t1/a", "t2/b", "study_t2/t1", "study_t1/sub_T2w", "t1_and_t2/c")):
        write_nifti(head_mr(*GRID, seed=number), tmp_path / "in" / f"{name}.nii.gz")
    tiny_model(DomainModel("t1", "MR", MR), DomainModel("t2", "MR", MR)).save(tmp_path / "model")
    result = run("in", "out", "--to", "t2")
    assert outputs(tmp_path / "out") == ["study_t2/t1", "t1/a", "t1_and_t2/c"], result.output
    assert result.stdout.count("it is t2 by the name of its file or folder") + result.stderr.count("is skipped") >= 2
    alone = run("in/t2", "alone", "--to", "t2")
    assert alone.exit_code == 1
    assert "it is t2 by the name of its file or folder" in alone.stderr
    assert outputs(tmp_path / "forced") == []
    run("in/t2", "forced", "--to", "t2", "--force")
    assert outputs(tmp_path / "forced") == ["b"]
