"""A real server accepts derived series by REST and DIMSE, returns them unchanged, and recognizes a repeated one."""

from __future__ import annotations

import io
from pathlib import Path

import pydicom
import pytest
from support import dicom_phantoms as made
from support import dicom_readback as peers
from support.orthanc_server import MISSING, Orthanc, running_orthanc
from support.phantoms import TILTED_GRID

from medcyclegan.io import read_volume, write_volume

pynetdicom = pytest.importorskip("pynetdicom", reason="pynetdicom is not installed: pip install 'medcyclegan[pacs]'")
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "there"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:pynetdicom"),
]


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write a synthetic CT and a synthetic MR of one tilted series, each twice."""
    root = tmp_path_factory.mktemp("orthanc")
    made.save(made.slices_of(made.placed_volume(TILTED_GRID.shape, TILTED_GRID.affine), intercept=-8192), root / "in")
    for modality in ("CT", "MR"):
        volume = peers.made_from(read_volume(root / "in"), modality)
        for name in (modality, f"{modality} again"):
            write_volume(volume, root / name)
    return {path.name: path for path in root.iterdir()}


def by_rest(server: Orthanc, folder: Path) -> list[str]:
    """Upload a folder; return the server's status for each file."""
    return [server.post("/instances", path.read_bytes())["Status"] for path in sorted(folder.iterdir())]


def by_dimse(server: Orthanc, folder: Path) -> list[int]:
    """Store a folder by C-STORE; return the status of each image."""
    entity = pynetdicom.AE(ae_title="TEST")
    for uid in (pydicom.uid.CTImageStorage, pydicom.uid.MRImageStorage):
        entity.add_requested_context(uid, pydicom.uid.ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", server.dicom_port, ae_title="ORTHANC")
    assert association.is_established
    try:
        return [association.send_c_store(path).Status for path in sorted(folder.iterdir())]
    finally:
        association.release()


def test_by_rest_it_comes_back_byte_for_byte(sent: dict[str, Path]) -> None:
    with running_orthanc() as server:
        for name in ("CT", "MR"):
            assert set(by_rest(server, sent[name])) == {"Success"}
        kept = server.instances()
        files = [path for name in ("CT", "MR") for path in sent[name].iterdir()]
        assert kept == {str(pydicom.dcmread(path).SOPInstanceUID): path.read_bytes() for path in files}
        for name in ("CT again", "MR again"):
            assert set(by_rest(server, sent[name])) == {"AlreadyStored"}
        assert len(server.get_json("/series")) == 2
        assert len(server.get_json("/studies")) == 1
        assert server.instances() == kept


def test_by_dimse_it_comes_back_the_same(sent: dict[str, Path], tmp_path: Path) -> None:
    with running_orthanc() as server:
        for name in ("CT", "MR"):
            assert set(by_dimse(server, sent[name])) == {0}
        kept = server.instances()
        for name in ("CT", "MR"):
            folder = tmp_path / name
            folder.mkdir()
            for path in sorted(sent[name].iterdir()):
                image = pydicom.dcmread(path)
                back = kept[str(image.SOPInstanceUID)]
                assert pydicom.dcmread(io.BytesIO(back)) == image
                (folder / path.name).write_bytes(back)
            first, again = read_volume(sent[name]), read_volume(folder)
            assert (first.array == again.array).all()
            assert (first.affine == again.affine).all()
        for name in ("CT again", "MR again"):
            assert set(by_dimse(server, sent[name])) == {0}
        assert len(server.get_json("/series")) == 2
        assert len(server.get_json("/instances")) == 2 * TILTED_GRID.shape[2]
