"""Send series to a DICOM node on this machine: pynetdicom's, and Orthanc if it is installed."""

import importlib
import re
import shutil
import socket
import ssl
import sys
import threading
import time

import pydicom
import pytest
from click.testing import CliRunner
from support import dicom_readback as peers
from support import orthanc_server
from support.dicom_node_server import make_certificate, running_node

from medcyclegan.cli.main import main
from medcyclegan.errors import MissingExtraError
from medcyclegan.io import read_volume, write_volume
from medcyclegan.io.dicom.network.address import DicomNode
from medcyclegan.io.dicom.network.send import check_node, send_series

pytest.importorskip("pynetdicom", reason="pynetdicom is not installed: pip install 'medcyclegan[pacs]'")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:pynetdicom"),
    # pynetdicom leaves sockets of ended associations to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SLICES = 4


def translate_to(address, *options):
    return CliRunner().invoke(main, ["translate-volume", "ct", address, "--model", "model", "--to", "mr", *options])


def error_of(result, workspace):
    """Return the error line of a failed command, after checking that it left no file."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert not list((workspace / "temporary").iterdir())
    assert sorted(path.name for path in workspace.iterdir()) == ["ct", "model", "temporary"]
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return line


def test_the_series_arrives_and_nothing_stays(workspace):
    with running_node() as node:
        address = f"dicom://ANY@127.0.0.1:{node.port}?calling=RADIOLOGY"
        for _ in range(2):
            result = translate_to(address)
            assert (result.exit_code, result.stdout) == (0, f"{address}\n"), result.output
        assert set(node.callers) == {"RADIOLOGY"}
    assert sorted(path.name for path in workspace.iterdir()) == ["ct", "model", "temporary"]
    assert not list((workspace / "temporary").iterdir())
    assert CliRunner().invoke(main, ["translate-volume", "ct", "mr", "--model", "model", "--to", "mr"]).exit_code == 0
    written = [pydicom.dcmread(path) for path in sorted((workspace / "mr").iterdir())]
    assert len(written) == SLICES
    assert [image.SOPInstanceUID for image in node.images] == [image.SOPInstanceUID for image in written] * 2
    for arrived, image in zip(node.images, written, strict=False):
        assert arrived.SyntheticData == "YES"
        assert arrived.PixelData == image.PixelData
        assert arrived.PatientID == image.PatientID


def test_a_node_that_takes_implicit_vr_only_gets_it(workspace):
    with running_node(syntaxes=[pydicom.uid.ImplicitVRLittleEndian]) as node:
        assert translate_to(f"dicom://ANY@127.0.0.1:{node.port}").exit_code == 0
    assert {image.file_meta.TransferSyntaxUID for image in node.images} == {pydicom.uid.ImplicitVRLittleEndian}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"called": "OTHER"}, "refused the association .*title.*ask its administrator"),
        ({"classes": [pydicom.uid.SecondaryCaptureImageStorage]}, "takes neither CT nor MR images"),
    ],
)
def test_a_node_that_rejects_the_association_is_reported_before_the_work(workspace, monkeypatch, settings, message):
    module = sys.modules["medcyclegan.inference.translate_file"]
    monkeypatch.setattr(module, "translate", lambda *_, **__: pytest.fail("it went to work"))
    with running_node(**settings) as node:
        line = error_of(translate_to(f"dicom://ANY@127.0.0.1:{node.port}"), workspace)
    assert not node.images
    assert re.search(message, line), line


def test_an_unreachable_node_is_reported_before_the_work(workspace):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        line = error_of(translate_to(f"dicom://PACS@127.0.0.1:{port}"), workspace)
    assert "no connection (Connection refused): check host, port" in line
    line = error_of(translate_to("dicom://PACS@no-such-host.invalid:104"), workspace)
    assert "check the host's name" in line


def test_something_that_is_no_dicom_node_is_named(workspace):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up():
            server.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        line = error_of(translate_to(f"dicom://PACS@127.0.0.1:{server.getsockname()[1]}"), workspace)
        thread.join()
    assert "is this a DICOM port" in line


def test_an_image_that_is_refused_ends_it(workspace):
    with running_node(answer=lambda number, _: 0xA700 if number == 2 else 0) as node:
        line = error_of(translate_to(f"dicom://PACS@127.0.0.1:{node.port}"), workspace)
    assert "status A700H; 2 of 4 images are stored there" in line
    assert "duplicates nothing" in line


def test_a_deidentified_series_that_is_cut_off_is_to_be_removed_there(workspace):
    with running_node(answer=lambda number, _: 0xA700 if number == 2 else 0) as node:
        line = error_of(translate_to(f"dicom://PACS@127.0.0.1:{node.port}", "--deidentify"), workspace)
    assert "2 of 4 images are stored there: check the node and remove these there before you send again" in line


def test_a_connection_that_breaks_is_a_line(workspace):
    def hang_up(number, event):
        if number == 1:
            event.assoc.abort()
        return 0

    with running_node(answer=hang_up) as node:
        line = error_of(translate_to(f"dicom://PACS@127.0.0.1:{node.port}"), workspace)
    assert "the connection broke or no answer came; 1 of 4 images" in line


def test_no_response_is_lost_if_threads_are_scheduled_late(workspace, monkeypatch):
    """pynetdicom's thread passes its pause, and looks for messages before the sender looks for its response."""
    from pynetdicom.association import Association
    from pynetdicom.dimse import DIMSEServiceProvider

    class Late(threading.Event):
        def wait(self, timeout=None):
            passed = super().wait(timeout)
            time.sleep(0.3)
            return passed

    def build(self, *arguments, init=Association.__init__):
        init(self, *arguments)
        if self.is_requestor:
            self._reactor_checkpoint = Late()
            self._reactor_checkpoint.set()

    def receive(self, block=False, get=DIMSEServiceProvider.get_msg):
        if block:
            time.sleep(0.6)
        return get(self, block)

    monkeypatch.setattr(Association, "__init__", build)
    monkeypatch.setattr(DIMSEServiceProvider, "get_msg", receive)
    monkeypatch.setattr("medcyclegan.io.dicom.network.send._ANSWER_SECONDS", 20)
    with running_node() as node:
        assert send_series(workspace / "ct", DicomNode("PACS", "127.0.0.1", node.port)) == SLICES
    assert len(node.images) == SLICES


def test_warnings_of_the_node_are_passed_on(workspace):
    with running_node(answer=lambda *_: 0xB000) as node:
        result = translate_to(f"dicom://PACS@127.0.0.1:{node.port}")
    assert result.exit_code == 0
    assert result.stderr.count("status B000H: elements were coerced") == 1
    assert len(node.images) == SLICES


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed, which makes the certificate")
def test_tls(workspace, tmp_path_factory):
    cert, key = make_certificate(tmp_path_factory.mktemp("tls"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.load_verify_locations(cert)
    context.verify_mode = ssl.CERT_REQUIRED
    with running_node(tls=context) as node:
        address = f"dicom://PACS@127.0.0.1:{node.port}"
        assert translate_to(f"{address}?tls=on&ca={cert}&cert={cert}&key={key}").exit_code == 0
        assert len(node.images) == SLICES
        line = error_of(translate_to(f"{address}?tls=on"), workspace)
        assert "no connection (self-signed certificate): check host, port and TLS" in line
        line = error_of(translate_to(address), workspace)
        assert "does it require TLS (?tls=on)" in line
    assert len(node.images) == SLICES


def test_options_go_with_it(workspace):
    with running_node() as node:
        address = f"dicom://PACS@127.0.0.1:{node.port}"
        result = translate_to(address, "--uncertainty", "uncertainty.nii.gz", "--preview", "p.png")
        assert result.exit_code == 0, result.output
        assert {path.name for path in workspace.iterdir()} == {
            "ct",
            "model",
            "temporary",
            "uncertainty.nii.gz",
            "p.png",
        }
        line = translate_to(address, "--dicom-template", "ct").stderr.splitlines()[-1]
        assert "has its own patient" in line


def test_deidentified_series_contain_no_names(workspace):
    source = pydicom.dcmread(next((workspace / "ct").iterdir()))
    with running_node() as node:
        result = translate_to(f"dicom://PACS@127.0.0.1:{node.port}", "--deidentify")
    assert result.exit_code == 0, result.output
    assert len(node.images) == SLICES
    for image in node.images:
        assert image.PatientIdentityRemoved == "YES"
        assert str(source.PatientName) not in str(image)
        assert str(source.PatientID) not in str(image)


def test_without_pynetdicom_the_extra_is_named(monkeypatch):
    def refuse(name, package=None):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingExtraError, match=r"medcyclegan\[pacs\]"):
        check_node(DicomNode("PACS", "127.0.0.1", 104))


@pytest.mark.skipif(bool(orthanc_server.MISSING), reason=orthanc_server.MISSING or "there")
def test_orthanc_keeps_one_series_of_two_sendings(workspace):
    ct = read_volume(workspace / "ct")
    write_volume(peers.made_from(ct, "MR"), workspace / "mr")
    with orthanc_server.running_orthanc() as server:
        node = DicomNode.parse(f"dicom://ORTHANC@127.0.0.1:{server.dicom_port}")
        for _ in range(2):
            assert send_series(workspace / "mr", node) == SLICES
        assert len(server.get_json("/series")) == 1
        kept = server.instances()
    assert len(kept) == SLICES
    written = {str(pydicom.dcmread(path).SOPInstanceUID) for path in (workspace / "mr").iterdir()}
    assert set(kept) == written
