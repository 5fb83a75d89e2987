from pathlib import Path

import pytest

from medcyclegan.errors import UsageError
from medcyclegan.io.dicom.network.address import DicomNode, is_dicom_node, tls_context


def test_an_address_contains_all_settings():
    assert DicomNode.parse("dicom://PACS@pacs.hospital:104") == DicomNode("PACS", "pacs.hospital", 104)
    address = "dicom://My%20PACS@[::1]:2762?calling=US&tls=on&ca=a.pem&cert=b.pem&key=c.pem"
    found = DicomNode.parse(address)
    assert found == DicomNode("My PACS", "::1", 2762, "US", True, Path("a.pem"), Path("b.pem"), Path("c.pem"))
    assert str(found) == "dicom://My PACS@[::1]:2762"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("dicom://host:104", "write dicom://AET@host:port"),
        ("dicom://PACS@host", "write dicom://AET@host:port"),
        ("dicom://PACS@host:104/folder", "write dicom://AET@host:port"),
        ("dicom://PACS@host:99999", "range"),
        ("dicom://PACS@host:104?tsl=on", "unknown 'tsl'"),
        ("dicom://PACS@host:104?tls=yes", "tls=on or tls=off"),
        ("dicom://PACS@host:104?ca=a.pem", "add tls=on"),
        ("dicom://PACS@host:104?tls=on&key=a.pem", "add cert=FILE"),
        ("dicom://SEVENTEEN_LETTERS@host:104", "1 to 16 characters"),
        ("dicom://A%5CB@host:104", "without backslash"),
        ("dicom://PACS@host:104?calling=%20", "1 to 16 characters"),
        ("dicom://PACS@host:104?tls=on&tls=off", "tls is given twice .'on' and 'off'.: give it once"),
        ("dicom://PACS@host:104?tls=on&tls=on", "tls is given twice"),
        ("dicom://PACS@host:104?calling=A&calling=B", "calling is given twice"),
        ("dicom://PACS@host:104?tls=on&ca=a.pem&cert=b.pem&ca=c.pem", "ca is given twice"),
        ("dicom://A@B@host:104", "a second @, or a #"),
        ("dicom://PACS@host:104?tls=on&ca=a#b.pem", "a second @, or a #.*%23"),
        ("dicom://PACS@host:104?tls=on&ca=", "ca has no value"),
        ("dicom://PACS@host:104?tls", "tls has no value"),
    ],
)
def test_a_wrong_address_is_a_line(address, message):
    with pytest.raises(UsageError, match=message):
        DicomNode.parse(address)


def test_a_password_is_refused_and_not_repeated():
    with pytest.raises(UsageError, match="takes no password") as refusal:
        DicomNode.parse("dicom://PACS:secret@host:104")
    assert "secret" not in str(refusal.value)


def test_paths_are_no_nodes():
    assert is_dicom_node("dicom://PACS@host:104")
    assert not is_dicom_node("dicom/PACS")
    assert not is_dicom_node(Path("dicom:/PACS@host:104"))


def test_files_that_are_no_certificates_are_refused(tmp_path):
    (tmp_path / "text.pem").write_text("no certificate")
    for query, name in (("ca", "nothing.pem"), ("ca", "text.pem"), ("cert", "nothing.pem"), ("cert", "text.pem")):
        node = DicomNode.parse(f"dicom://PACS@host:104?tls=on&{query}={tmp_path / name}")
        with pytest.raises(UsageError, match=rf"{query}=.*{name}.*PEM file"):
            tls_context(node)
    assert tls_context(DicomNode.parse("dicom://PACS@host:104")) is None
