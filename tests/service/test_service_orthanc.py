"""The DICOM node with a real archive: Orthanc sends studies to it and receives the results."""

import json
import time

import numpy as np
import pydicom
import pytest
from support import dicom_phantoms, orthanc_server
from support import dicom_readback as peers
from support.dicom_studies import make_study, send, wait_until
from support.models import tiny_model

pytest.importorskip("pynetdicom", reason="pynetdicom is not installed: pip install 'medcyclegan[pacs]'")

from support.running_services import service_of

pytestmark = [
    pytest.mark.skipif(bool(orthanc_server.MISSING), reason=orthanc_server.MISSING),
    pytest.mark.skipif(bool(peers.MISSING_TOOLS), reason=peers.MISSING_TOOLS),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:pynetdicom"),
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_studies_of_orthanc_come_back_translated_at_the_same_affine(tmp_path):
    tiny_model().save(tmp_path / "model")
    port = orthanc_server.free_port()
    with (
        orthanc_server.running_orthanc({"node": ("MEDCYCLEGAN", "127.0.0.1", port)}) as archive,
        service_of(
            tmp_path,
            f"ORTHANC@127.0.0.1:{archive.dicom_port}",
            listen_port=port,
            accept_from=["ORTHANC"],
        ) as running,
    ):
        for seed, modality in (("ct", "CT"), ("mr", "MR")):
            for path in dicom_phantoms.save(make_study(seed, modality, slices=6), tmp_path / seed):
                archive.post("/instances", path.read_bytes())
        studies = archive.get_json("/studies")
        for _ in range(2):
            archive.post("/modalities/node/store", json.dumps({"Resources": studies, "Synchronous": True}).encode())
            wait_until(lambda: len(archive.get_json("/series")) == 4)
            wait_until(lambda: running.series() >= 2)
        running.wait_idle(4)
        assert len(archive.get_json("/studies")) == 2
        assert len(archive.get_json("/series")) == 4, "sent twice, translated once"
        found = [pydicom.dcmread(pydicom.filebase.DicomBytesIO(each)) for each in archive.instances().values()]
    for seed, made in (("ct", "MR"), ("mr", "CT")):
        source = pydicom.dcmread(tmp_path / seed / "IM0001.dcm")
        derived = [each for each in found if each.StudyInstanceUID == source.StudyInstanceUID]
        derived = [each for each in derived if each.get("SyntheticData") == "YES"]
        assert [each.Modality for each in derived] == [made] * 6
        dicom_phantoms.save(derived, tmp_path / f"{seed}-derived")
        for read in (peers.read_simpleitk, lambda folder: peers.read_dcm2niix(folder, tmp_path / f"{folder.name}-nii")):
            (before, place), (after, same) = read(tmp_path / seed), read(tmp_path / f"{seed}-derived")
            assert before.shape == after.shape
            assert np.allclose(place, same, atol=1e-4)


@pytest.mark.slow
def test_orthanc_is_down_for_a_while_and_gets_the_results_afterwards(tmp_path):
    tiny_model().save(tmp_path / "model")
    ports = orthanc_server.free_port(), orthanc_server.free_port()
    studies = [make_study(f"down {number}", ("CT", "MR")[number % 2], slices=4) for number in range(3)]
    with service_of(tmp_path, f"ORTHANC@127.0.0.1:{ports[1]}") as running:
        for images in studies:
            assert send(running.port, images) == [0, 0, 0, 0]
        wait_until(lambda: running.service.deliverer.unreachable)
        time.sleep(8)  # a minute gave the same
        assert running.service.deliverer.counts["sent"] == 0
        with orthanc_server.running_orthanc(ports=ports) as archive:
            running.wait_idle(3)
            found = [pydicom.dcmread(pydicom.filebase.DicomBytesIO(each)) for each in archive.instances().values()]
    assert len(found) == 12
    assert {each.StudyInstanceUID for each in found} == {images[0].StudyInstanceUID for images in studies}
    assert all(each.SyntheticData == "YES" for each in found)
