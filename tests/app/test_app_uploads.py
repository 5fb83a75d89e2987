"""Hostile uploads are refused with a reason, and leave no file behind."""

import gzip
import io
import re
import struct
import tempfile
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from support import dicom_phantoms as made
from support.app_server import running_app
from support.phantoms import head_ct, make_affine

from medcyclegan.app.upload import UploadLimits, unpack_upload
from medcyclegan.errors import ReadError

pytest.importorskip("starlette", reason="starlette is not installed: pip install 'medcyclegan[app]'")
pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'medcyclegan[app]'")

#: Between an entry of the list at the end of a ZIP file and the fields in it (APPNOTE.TXT 4.3.12).
ENTRY, FLAGS, SIZE = b"PK\x01\x02", 8, 24


def zipped(files, *, change=None):
    """Return a ZIP file of names and contents; ``change`` edits the information on each."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            if change:
                change(entry)
            archive.writestr(entry, content)
    return memory.getvalue()


def patched(content, offset, value, size=4):
    """Change a number in the first entry of the list of a ZIP file."""
    place = content.index(ENTRY) + offset
    return content[:place] + value.to_bytes(size, "little") + content[place + size :]


def end_patched(content, offset, value, size):
    """Change a number in the record at the end of a ZIP file."""
    place = content.rindex(b"PK\x05\x06") + offset
    return content[:place] + value.to_bytes(size, "little") + content[place + size :]


def link(entry):
    entry.create_system, entry.external_attr = 3, 0o120777 << 16


def nifti(**fields):
    """Return a NIfTI file whose header has these values."""
    image = nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.diag([-2.0, -2, 2, 1]))
    content = bytearray(image.to_bytes())
    for offset, kind, values in fields.values():
        struct.pack_into(f"<{len(values)}{kind}", content, offset, *values)
    return bytes(content)


def dicom_file(**values):
    """Return one DICOM image with these attributes."""
    (image, *_) = made.slices_of(head_ct((20, 24, 4), make_affine("LPS", (9.0, 9.0, 9.0))))
    for name, value in values.items():
        setattr(image, name, value)
    with tempfile.TemporaryDirectory() as folder:
        made.save([image], Path(folder, "series"))
        (file,) = Path(folder, "series").iterdir()
        return file.read_bytes()


def large_list():
    """Return a ZIP file whose second record claims a list of 4 GB, which zipfile would believe."""
    whole = zipped({"a.dcm": b"a"})
    end = whole.rindex(b"PK\x05\x06")
    record = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 2**32, 2**32, 2**32, 0)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    return whole[:end] + record + locator + whole[end:]


HOSTILE = {
    "nothing": (lambda: b"", "neither a NIfTI file nor a ZIP file"),
    "text": (lambda: b"hello " * 100, "neither a NIfTI file nor a ZIP file"),
    "web page": (lambda: b"<html><script>alert(1)</script></html>" * 20, "neither a NIfTI file nor a ZIP file"),
    "PNG": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(600), "neither a NIfTI file nor a ZIP file"),
    "program": (lambda: b"\x7fELF" + bytes(600), "neither a NIfTI file nor a ZIP file"),
    "PDF": (lambda: b"%PDF-1.7" + bytes(600), "neither a NIfTI file nor a ZIP file"),
    "one DICOM file": (dicom_file, "neither a NIfTI file nor a ZIP file"),
    "packed text": (lambda: gzip.compress(b"hello " * 100), "the upload"),
    "packed bomb": (lambda: gzip.compress(bytes(200_000_000)), "the upload"),
    "NIfTI cut short": (lambda: gzip.compress(nifti())[:60], "the upload"),
    "NIfTI of 27 million million voxels": (lambda: nifti(dim=(40, "h", [3] + [30000] * 3)), "voxels"),
    "NIfTI of negative size": (lambda: nifti(dim=(40, "h", [3, -4, 4, 4])), "the upload"),
    "NIfTI without axes": (lambda: nifti(codes=(252, "h", [0, 0])), "--assume-axes"),
    "NIfTI with complex numbers": (lambda: nifti(kind=(70, "h", [32])), "the upload"),
    "path to above": (lambda: zipped({"../../x.dcm": b"x"}), "leads out of its folder"),
    "path from the root": (lambda: zipped({"/etc/x.dcm": b"x"}), "leads out of its folder"),
    "path of a drive": (lambda: zipped({"C:/x.dcm": b"x"}), "leads out of its folder"),
    "path with backslashes": (lambda: zipped({"a\\..\\..\\x.dcm": b"x"}), "leads out of its folder"),
    "link": (lambda: zipped({"a.dcm": b"/etc/passwd"}, change=link), "a link or a device"),
    "encrypted": (lambda: patched(zipped({"a.dcm": b"a"}), FLAGS, 1, 2), "encrypted"),
    "bomb that declares it": (lambda: patched(zipped({"a.dcm": b"a"}), SIZE, 0xFFFFFFF0), "unpacks to 4295 MB"),
    "bomb that denies it": (lambda: patched(zipped({"a.dcm": bytes(10**6)}), SIZE, 10), "cannot be read"),
    "too many files": (lambda: end_patched(zipped({"a.dcm": b"a"}), 10, 0xFFFF, 2), "lists too many files"),
    "list of 4 GB": (lambda: end_patched(zipped({"a.dcm": b"a"}), 12, 0xFFFFFFF0, 4), "lists too many files"),
    "list of 4 GB in the second record": (large_list, "lists too many files"),
    "ZIP cut short": (lambda: zipped({"a.dcm": bytes(1000)})[:60], "cut short"),
    "empty ZIP": (lambda: zipped({}), "is empty"),
    "ZIP without images": (lambda: zipped({"readme.txt": b"hello"}), "there is no volume"),
    "ZIP in a ZIP": (lambda: zipped({"a.zip": zipped({"a.dcm": b"a"})}), "there is no volume"),
    "DICOM of 4 thousand million pixels": (
        lambda: zipped({f"{n}.dcm": dicom_file(Rows=65535, Columns=65535) for n in range(2)}),
        "the upload|series|over the limit",
    ),
    "DICOM cut short": (lambda: zipped({"a.dcm": dicom_file()[:700]}), "the upload|series|cut|incomplete|damaged"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_app(tmp_path_factory.mktemp("app"), "--max-upload-mb", "5") as app:
        yield app


@pytest.fixture(scope="module")
def page(server):
    with server.open_page() as opened:
        yield opened


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_upload_is_refused(server, page, name):
    content, message = HOSTILE[name]
    status, answer = page.upload(content())
    assert status == 415, answer
    assert re.search(message, answer["error"]), answer
    assert "/tmp" not in answer["error"]
    assert "\n" not in answer["error"]
    assert server.files() == []
    assert page.translate(choice="t1 to t2 (head-t1-t2)")[0] == 404
    assert server.ask("GET", server.path)[0] == 200  # it is alive


def test_an_upload_is_limited_by_its_declared_size(server, page):
    assert page.upload(b"", Content_Length="5000001")[0] == 413
    assert server.ask("PUT", f"{server.path}pages/{page.id}/upload", b"", Content_Length="-1")[0] == 400
    assert page.upload(b"5\r\nhello\r\n0\r\n\r\n", Content_Length=None, Transfer_Encoding="chunked")[0] == 411
    assert server.files() == []


def test_what_operating_systems_add_is_left_out(tmp_path):
    (tmp_path / "upload").write_bytes(zipped({"s/": b"", "s/a": b"DICM", "__MACOSX/s/._a": b"", "s/.DS_Store": b""}))
    (tmp_path / "page").mkdir()
    series = unpack_upload(tmp_path / "upload", tmp_path / "page", UploadLimits())
    assert [file.name for file in series.iterdir()] == ["000001.dcm"]
    assert not (tmp_path / "upload").exists()


def test_the_number_of_files_is_limited(tmp_path):
    (tmp_path / "upload").write_bytes(zipped({f"{n}": b"" for n in range(4)}))
    (tmp_path / "page").mkdir()
    with pytest.raises(ReadError, match="4 files in the ZIP file: at most 3"):
        unpack_upload(tmp_path / "upload", tmp_path / "page", UploadLimits(most_files=3))
