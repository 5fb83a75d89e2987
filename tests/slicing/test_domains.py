"""Modality of a domain: by its files, the configuration and its name, checked against its values."""

import numpy as np
import pytest
from support.phantoms import head_ct, head_mr, write_nifti

from medcyclegan.config import Domain, load_config
from medcyclegan.errors import IntensityError
from medcyclegan.manifest import load_manifest
from medcyclegan.slicing import slice_volumes
from medcyclegan.slicing.domains import choose_modality, modality_of_name

SHAPE = (24, 28, 8)
SMALL = ["slicing.size=32", "slicing.pixel_mm=8"]


@pytest.mark.parametrize(
    "name",
    [
        "ct",
        "CT",
        "cbct",
        "head_ct",
        "ct_head",
        "CT2",
        "ct-2",
        "ct.head",
        "headCT",
        "CTHead2",
        "planCT",
        "cta",
        "NCCT_1",
    ],
)
def test_names_of_ct(name):
    assert modality_of_name(name) == "CT"


@pytest.mark.parametrize("name", ["t1", "mr", "head", "intact", "sector", "act", "mr_ct", "CT_MRI", "contrast", "B"])
def test_names_that_are_not_of_ct(name):
    assert modality_of_name(name) == "MR"


def unknown(volume):
    return volume.replace(modality=None)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_values_in_hu_need_a_domain_of_ct(dtype):
    ct = unknown(head_ct())
    ct = ct.replace(array=ct.array.astype(dtype))
    assert choose_modality(ct, "head_ct", Domain()) == "CT"
    assert choose_modality(ct, "head", Domain(), "CT") == "CT"
    assert choose_modality(ct, "head", Domain(modality="CT")) == "CT"
    assert choose_modality(ct, "head", Domain(modality="MR")) == "MR"
    for domain, headers in (("head", None), ("mr", None), ("t1", "MR")):
        with pytest.raises(IntensityError, match=rf"--set domains\.{domain}\.modality=CT, or =MR if it is not CT"):
            choose_modality(ct, domain, Domain(), headers)


def test_other_values_are_mr_by_default():
    for volume in (head_mr(), head_ct().replace(array=head_ct().array + 1024)):
        assert choose_modality(unknown(volume), "head", Domain()) == "MR"


def test_a_header_counts_more_than_name_and_values():
    assert choose_modality(head_ct(), "mr", Domain()) == "CT"
    assert choose_modality(head_ct().replace(modality="MR"), "ct", Domain()) == "MR"
    with pytest.raises(IntensityError, match=r"its header says CT, but domains\.mr\.modality is MR"):
        choose_modality(head_ct(), "mr", Domain(modality="MR"))
    with pytest.raises(IntensityError, match="its header says CT, but other volumes of head are MR"):
        choose_modality(head_ct(), "head", Domain(), "MR")
    picture = head_ct().replace(modality=None, value_range=(0, 255))
    assert choose_modality(picture, "ct", Domain()) is None


def test_a_ct_by_any_name_keeps_its_unit(tmp_path, caplog):
    for domain in ("head_ct", "CT2", "head"):
        write_nifti(head_ct(SHAPE), tmp_path / "volumes" / domain / "a.nii")
    result = slice_volumes(tmp_path / "volumes", tmp_path / "s", config=load_config("default", SMALL))
    rows = load_manifest(tmp_path / "s")
    assert {(row.domain, row.modality, row.scaling["unit"]) for row in rows} == {
        ("head_ct", "CT", "HU"), ("CT2", "CT", "HU"),
    }  # fmt: skip
    assert [refusal.domain for refusal in result.refused] == ["head"]
    assert "--set domains.head.modality=CT" in caplog.text
    config = load_config("default", [*SMALL, "domains.head.modality=CT"])
    assert not slice_volumes(tmp_path / "volumes", tmp_path / "s", config=config).refused
    assert {row.scaling["unit"] for row in load_manifest(tmp_path / "s")} == {"HU"}
