import json

import pytest

from medcyclegan.errors import ReadError
from medcyclegan.io import read_translation_record, sidecar_path
from medcyclegan.io.sidecar import MADE_BY


@pytest.mark.parametrize(
    ("name", "sidecar"),
    [
        ("a.nii.gz", "a.json"),
        ("A.NII.GZ", "A.json"),
        ("a.nii", "a.json"),
        ("a.b.png", "a.b.json"),
        ("v1.2.mha", "v1.2.json"),
        ("folder", "folder.json"),
    ],
)
def test_the_sidecar_has_the_stem(name, sidecar, tmp_path):
    assert sidecar_path(tmp_path / name) == tmp_path / sidecar


def test_only_a_translation_s_own_record_is_believed(tmp_path):
    volume, sidecar = tmp_path / "a.nii.gz", tmp_path / "a.json"
    assert read_translation_record(volume) == {}
    for content, found in (
        ({"made_by": MADE_BY, "synthetic": True}, {"made_by": MADE_BY, "synthetic": True}),
        ({"Modality": "MR"}, {}),
        ([1, 2], {}),
    ):
        sidecar.write_text(json.dumps(content))
        assert read_translation_record(volume) == found
    for broken in (b"{", b"\xff\xfe", b"[" * 100_000):
        sidecar.write_bytes(broken)
        with pytest.raises(ReadError, match=r"a\.json cannot be read"):
            read_translation_record(volume)
