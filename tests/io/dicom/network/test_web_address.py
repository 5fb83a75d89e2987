from pathlib import Path

import pytest

from medcyclegan.errors import ReadError, UsageError
from medcyclegan.io import read_volume
from medcyclegan.io.dicom.network.web_address import WebAddress, is_dicomweb
from medcyclegan.io.links import check_exists


def test_an_address_names_a_service_a_study_or_a_series():
    service = "https://pacs.hospital:8443/orthanc/dicom-web"
    assert WebAddress.parse(f"{service}/") == WebAddress(service)
    assert WebAddress.parse(f"{service}/studies/") == WebAddress(service)
    assert WebAddress.parse(f"{service}/studies/1.2/series").level == "study"
    found = WebAddress.parse(f"{service}/studies/1.2/series/3.4")
    assert (found.service, found.study, found.series, found.level) == (service, "1.2", "3.4", "series")
    assert str(found) == f"{service}/studies/1.2/series/3.4"
    assert (found.host, found.is_local) == ("pacs.hospital:8443", False)


def test_filters_are_never_printed():
    found = WebAddress.parse("https://pacs/dicom-web?PatientID=SECRET&Modality=CT")
    assert found.filters == (("PatientID", "SECRET"), ("Modality", "CT"))
    assert "SECRET" not in f"{found} {found!r}"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("https:///dicom-web", "not the address of a DICOMweb service"),
        ("https://host:99999/dicom-web", "not a valid web address"),
        ("https://[::1]/dicom-web", "not the address of a DICOMweb service"),
        ("https://host/dicom-web#1", "not the address of a DICOMweb service"),
        ("https://host/dicom web", "not the address of a DICOMweb service"),
        ("https://host/dicom-web/studies/1.2/series/3.4/instances/5", "not a service, study or series"),
        ("https://host/dicom-web/studies/../series/3.4", "is not a UID"),
        ("https://host/dicom-web/studies/1.2/series/A", "A is not a UID"),
        ("https://host/dicom-web?limit=3", "write DICOM keywords"),
        ("https://host/dicom-web?PatientID=", "write DICOM keywords"),
        ("http://host/dicom-web", "not encrypted.*insecure=on"),
        ("http://127.evil.example/dicom-web", "not encrypted"),
        ("http://localhost.evil.example/dicom-web", "not encrypted"),
        ("http://host/dicom-web?insecure=yes", "write insecure=on"),
    ],
)
def test_a_wrong_address_is_a_line(address, message):
    with pytest.raises(UsageError, match=message):
        WebAddress.parse(address)


def test_http_is_for_this_machine_unless_it_is_accepted():
    for host in ("127.0.0.1", "localhost", "127.1.2.3"):
        assert WebAddress.parse(f"http://{host}:8042/dicom-web").is_local
    assert WebAddress.parse("http://host/dicom-web?insecure=on") == WebAddress("http://host/dicom-web")


def test_a_password_is_refused_and_not_repeated():
    with pytest.raises(UsageError, match="MEDCYCLEGAN_DICOMWEB_TOKEN") as refusal:
        WebAddress.parse("https://user:secret@host/dicom-web")
    assert "secret" not in str(refusal.value)


def test_paths_are_no_addresses():
    assert is_dicomweb("HTTPS://host/dicom-web")
    assert not is_dicomweb("https/series")
    assert not is_dicomweb(Path("https://host/dicom-web"))
    assert not is_dicomweb(None)


def test_the_message_states_that_only_a_path_is_accepted():
    with pytest.raises(ReadError, match="a web address, which only inspect"):
        check_exists(Path("https://host/dicom-web/studies/1.2/series/3.4"))
    with pytest.raises(UsageError, match="not the address of one series"):
        read_volume("https://host/dicom-web/studies/1.2")
