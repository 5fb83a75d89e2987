"""Fetch, find and store series with a DICOMweb service: answers chosen here, and Orthanc if it is installed."""

import importlib
import itertools
import json
import logging
import re
import ssl
import time

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from support import orthanc_server
from support.dicom_node_server import make_certificate
from support.dicomweb_commands import error_of, honest, images_of, series_at, translate, uids_of
from support.dicomweb_server import as_json, row_of, running_service

from medcyclegan.cli.main import main
from medcyclegan.errors import MedCycleGANError, MissingExtraError
from medcyclegan.io import read_volume, write_volume
from medcyclegan.io.dicom.network import remote

pytest.importorskip("dicomweb_client", reason="dicomweb-client is not installed: pip install 'medcyclegan[dicomweb]'")
SLICES = 4


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch):
    for name in ("TOKEN", "CERT", "KEY", "CA", "MAX_MB"):
        monkeypatch.delenv(f"MEDCYCLEGAN_DICOMWEB_{name}", raising=False)


def test_a_series_is_fetched_translated_and_stored(workspace):
    with running_service(honest(workspace)) as (service, received):
        result = translate(series_at(service, workspace), service)
        assert (result.exit_code, result.stdout) == (0, f"{service}\n"), result.output
    posted = [request for request in received if request.method == "POST"]
    assert [request.path for request in posted] == ["/dicom-web/studies"]
    assert not list((workspace / "temporary").iterdir())
    assert b"SYNTHETIC MR" in posted[0].body
    assert posted[0].body.count(b"DICM") == SLICES


def test_the_folder_of_a_fetched_series_is_private(workspace, monkeypatch):
    with running_service(honest(workspace)) as (service, _), remote.fetched(series_at(service, workspace)) as folder:
        assert folder.parent.stat().st_mode & 0o777 == 0o700
        assert [f.read_bytes()[128:132] for f in folder.iterdir()] == [b"DICM"] * SLICES
    assert not folder.exists()


def test_an_address_is_read_like_the_folder(workspace):
    with running_service(honest(workspace)) as (service, _):
        found = read_volume(series_at(service, workspace))
    expected = read_volume(workspace / "ct")
    np.testing.assert_array_equal(found.array, expected.array)
    np.testing.assert_array_equal(found.affine, expected.affine)
    write_volume(found, workspace / "again")  # the headers outlive the folder
    assert len(list((workspace / "again").iterdir())) == SLICES


def test_the_token_is_sent_and_never_printed(workspace, monkeypatch):
    monkeypatch.setenv("MEDCYCLEGAN_DICOMWEB_TOKEN", "s3cr3t")

    def answer(request):
        if request.headers.get("Authorization") != "Bearer s3cr3t":
            return 401, {"Content-Length": "0"}, []
        return honest(workspace)(request)

    with running_service(answer) as (service, received):
        result = translate(series_at(service, workspace), service, "--debug")
        assert result.exit_code == 0, result.output
        assert "s3cr3t" not in result.output
        assert all(request.headers["Authorization"] == "Bearer s3cr3t" for request in received)
        monkeypatch.delenv("MEDCYCLEGAN_DICOMWEB_TOKEN")
        refusal = error_of(translate(series_at(service, workspace), "a.nii.gz"), workspace)
        assert "access refused (status 401): set MEDCYCLEGAN_DICOMWEB_TOKEN" in refusal
        assert "access refused" in error_of(translate("ct", service), workspace)
    monkeypatch.setenv("MEDCYCLEGAN_DICOMWEB_TOKEN", "s3cr3t\r\nHost: evil")
    refusal = error_of(translate(series_at(service, workspace), "a.nii.gz"), workspace)
    assert "TOKEN contains spaces" in refusal
    assert "s3cr3t" not in refusal


def test_credentials_go_to_one_server_only(workspace, monkeypatch):
    monkeypatch.setenv("MEDCYCLEGAN_DICOMWEB_TOKEN", "s3cr3t")
    with running_service(honest(workspace)) as (first, received), running_service(honest(workspace)) as (second, other):
        refusal = error_of(translate(series_at(first, workspace), second), workspace)
        assert "credentials in the environment are for one server" in refusal
        assert "for one server" in error_of(
            translate("ct", first, "--dicom-template", series_at(second, workspace)), workspace
        )
        assert not received
        assert not other
        monkeypatch.delenv("MEDCYCLEGAN_DICOMWEB_TOKEN")
        assert translate(series_at(first, workspace), second).exit_code == 0


def test_a_redirection_is_not_followed(workspace, monkeypatch):
    monkeypatch.setenv("MEDCYCLEGAN_DICOMWEB_TOKEN", "s3cr3t")
    with running_service(honest(workspace)) as (target, received):

        def answer(request):
            return 302, {"Location": series_at(target, workspace), "Content-Length": "0"}, []

        with running_service(answer) as (service, _):
            refusal = error_of(translate(series_at(service, workspace), "a.nii.gz"), workspace)
    assert "redirects to another address" in refusal
    assert not received


def test_tls_needs_the_authority_and_the_certificate(workspace, monkeypatch):
    cert, key = make_certificate(workspace)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.load_verify_locations(cert)
    context.verify_mode = ssl.CERT_REQUIRED
    with running_service(honest(workspace), tls=context) as (service, received):
        address = series_at(service, workspace)
        assert "no encrypted connection" in error_of(translate(address, "a.nii.gz"), workspace)
        monkeypatch.setenv("MEDCYCLEGAN_DICOMWEB_CA", str(cert))
        assert "no connection" in error_of(translate(address, "a.nii.gz"), workspace).replace("encrypted ", "")
        assert not received
        monkeypatch.setenv("MEDCYCLEGAN_DICOMWEB_KEY", str(key))
        assert "a key without its certificate" in error_of(translate(address, "a.nii.gz"), workspace)
        monkeypatch.setenv("MEDCYCLEGAN_DICOMWEB_CERT", str(workspace / "model" / "model.json"))
        assert "name a certificate and its key" in error_of(translate(address, "a.nii.gz"), workspace)
        monkeypatch.setenv("MEDCYCLEGAN_DICOMWEB_CERT", str(cert))
        result = translate(address, service)
        assert result.exit_code == 0, result.output


def other_series(workspace):
    image = pydicom.dcmread(images_of(workspace)[0])
    image.SeriesInstanceUID = "1.2.3"
    image.save_as(workspace / "other.dcm")
    return workspace / "other.dcm"


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (lambda w: images_of(w)[:-1], "the server has 4 images of this series and sent 3"),
        (lambda w: [], "the server has 4 images of this series and sent 0"),
        (lambda w: [*images_of(w)[:-1], other_series(w)], "sent an image of another series"),
        (lambda w: [b"no DICOM"], "its answer cannot be understood"),
        (
            lambda w: [*images_of(w)[:-1], images_of(w)[-1].read_bytes()[:-500]],
            "460 bytes of pixel data where 1 frames",
        ),
    ],
)
def test_a_series_that_is_not_whole_is_refused(workspace, images, message):
    with running_service(honest(workspace, images=images(workspace))) as (service, _):
        address = series_at(service, workspace)
        refusal = error_of(translate(address, "a.nii.gz"), workspace)
    assert re.search(message, refusal), refusal
    assert str(workspace) not in refusal


def test_a_refusal_names_the_address_not_the_temporary_folder(workspace):
    with running_service(honest(workspace)) as (service, _):
        address = series_at(service, workspace)
        with pytest.raises(MedCycleGANError) as refusal:
            read_volume(address, series="1.2.3")
    assert address in str(refusal.value)
    assert str(workspace) not in str(refusal.value)


def test_a_server_that_does_not_state_its_images_is_a_warning(workspace):
    with running_service(honest(workspace, stated="")) as (service, _):
        result = translate(series_at(service, workspace), "a.nii.gz")
    assert result.exit_code == 0, result.output
    assert "does not state the number of its images" in result.stderr


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((500, {"Content-Length": "0"}, []), "status 500"),
        ((404, {"Content-Length": "0"}, []), "not found"),
        ((200, {"Content-Type": "text/html", "Content-Length": "6"}, [b"<html>"]), "cannot be understood"),
        ((200, {"Content-Type": "application/dicom+json", "Content-Length": "3"}, [b"[1]"]), "cannot be understood"),
        ((200, {"Content-Type": "application/dicom+json", "Content-Length": "9"}, [b"[{"]), "connection"),
        ((200, {"Content-Type": "application/dicom+json"}, itertools.repeat(b" " * 100_000, 20)), "more than 1 MB"),
    ],
)
def test_a_useless_answer_is_a_line(workspace, monkeypatch, answer, message):
    monkeypatch.setenv("MEDCYCLEGAN_DICOMWEB_MAX_MB", "1")
    with running_service(lambda request: answer) as (service, _):
        result = CliRunner().invoke(main, ["inspect", f"{service}?PatientID=SECRET"])
    line = error_of(result, workspace)
    assert re.search(message, line), line
    assert "SECRET" not in result.output


def test_a_compressed_answer_is_counted_unpacked(workspace, monkeypatch):
    import gzip

    monkeypatch.setenv("MEDCYCLEGAN_DICOMWEB_MAX_MB", "1")
    bomb = gzip.compress(b" " * 50_000_000)
    headers = {"Content-Type": "application/dicom+json", "Content-Encoding": "gzip", "Content-Length": str(len(bomb))}
    with running_service(lambda request: (200, headers, [bomb])) as (service, _):
        assert "more than 1 MB" in error_of(CliRunner().invoke(main, ["inspect", service]), workspace)


def test_a_server_that_drips_is_left(workspace, monkeypatch):
    from medcyclegan.io.dicom.network import web_client

    monkeypatch.setattr(web_client, "_MOST_SECONDS", 0.5)

    def slow():
        for _ in range(200):
            time.sleep(0.05)
            yield b" "

    headers = {"Content-Type": "application/dicom+json"}
    with running_service(lambda request: (200, headers, slow())) as (service, _):
        assert "still sending" in error_of(CliRunner().invoke(main, ["inspect", service]), workspace)


def test_an_image_that_is_not_confirmed_is_a_failure(workspace):
    def failing(request):
        if request.method != "POST":
            return honest(workspace)(request)
        return as_json({"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0xA700]}}]}})

    def silent(request):
        return as_json({}) if request.method == "POST" else honest(workspace)(request)

    for answer, message in ((failing, "status A700H"), (silent, "does not confirm them")):
        with running_service(answer) as (service, _):
            line = error_of(translate("ct", service), workspace)
        assert message in line
        assert "0 of 4 images are stored there: store it again" in line


def test_an_output_is_a_service_or_the_studys_own_address(workspace):
    study, _ = uids_of(workspace)
    with running_service(honest(workspace)) as (service, received):
        assert "a UID of its own" in error_of(translate("ct", series_at(service, workspace)), workspace)
        assert f"belongs to study {study}" in error_of(translate("ct", f"{service}/studies/1.2.3"), workspace)
        assert not [request for request in received if request.method == "POST"]
        assert translate("ct", f"{service}/studies/{study}").exit_code == 0
        assert received[-1].path == f"/dicom-web/studies/{study}"


def test_existing_outputs_are_noticed_before_anything_is_fetched(workspace):
    (workspace / "a.nii.gz").write_bytes(b"")
    with running_service(honest(workspace)) as (service, received):
        assert "a.nii.gz exists" in error_of(translate(series_at(service, workspace), "a.nii.gz"), workspace)
    assert not received


def test_the_destination_is_contacted_before_anything_is_fetched(workspace):
    with running_service(honest(workspace)) as (service, received):
        line = error_of(translate(series_at(service, workspace), "http://127.0.0.1:9/dicom-web"), workspace)
    assert "http://127.0.0.1:9/dicom-web: no connection" in line
    assert not received


def test_uids_in_a_list_are_checked(workspace):
    rows = [row_of("1.2", "3.4\n/../evil", 4)]
    with running_service(lambda request: as_json(rows)) as (service, _):
        assert "cannot be understood" in error_of(CliRunner().invoke(main, ["inspect", service]), workspace)


def test_nothing_at_the_address_is_a_line(workspace):
    line = error_of(CliRunner().invoke(main, ["inspect", "http://127.0.0.1:9/dicom-web"]), workspace)
    assert "no connection (Connection refused): check host and port" in line


def test_a_search_lists_addresses(workspace):
    with running_service(honest(workspace)) as (service, received):
        result = CliRunner().invoke(main, ["inspect", "--json", f"{service}?Modality=CT&PatientID=A%20B"])
        (row,) = json.loads(result.stdout)
        assert row["path"] == series_at(service, workspace)
        assert (row["modality"], row["files"], row["verdict"]) == ("CT", SLICES, "listed")
        assert "Modality=CT" in received[0].path
        assert "PatientID=A%20B" in received[0].path or "PatientID=A+B" in received[0].path
        printed = CliRunner().invoke(main, ["inspect", service])
        assert printed.stdout == f"CT, {SLICES} images\n  {series_at(service, workspace)}\n"
        (row,) = json.loads(CliRunner().invoke(main, ["inspect", "--json", row["path"]]).stdout)
        assert (row["path"], row["verdict"], row["slices"]) == (series_at(service, workspace), "ok", SLICES)


def test_debug_messages_hold_no_query(workspace):
    with running_service(honest(workspace)) as (service, _):
        result = CliRunner().invoke(main, ["inspect", "--debug", f"{service}?PatientID=SECRET"])
    logging.getLogger().handlers.clear()
    assert result.exit_code == 0
    assert "SECRET" not in result.output


def test_without_dicomweb_client_the_extra_is_named(monkeypatch):
    def refuse(name, package=None):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingExtraError, match=r"medcyclegan\[dicomweb\]"):
        read_volume("https://host/dicom-web/studies/1.2/series/3.4")


@pytest.mark.skipif(bool(orthanc_server.DICOMWEB_MISSING), reason=orthanc_server.DICOMWEB_MISSING or "there")
def test_orthanc_finds_sends_and_keeps_one_series_of_two_storings(workspace):
    study, series = uids_of(workspace)
    with orthanc_server.running_orthanc(dicomweb=True) as server:
        for file in images_of(workspace):
            server.post("/instances", file.read_bytes())
        listed = CliRunner().invoke(main, ["inspect", "--json", f"{server.dicomweb}?StudyInstanceUID={study}"])
        (row,) = json.loads(listed.stdout)
        assert (row["path"], row["files"]) == (f"{server.dicomweb}/studies/{study}/series/{series}", SLICES)
        for _ in range(2):
            result = translate(row["path"], f"{server.dicomweb}/studies/{study}")
            assert result.exit_code == 0, result.output
        assert len(server.get_json("/studies")) == 1
        found = json.loads(CliRunner().invoke(main, ["inspect", "--json", f"{server.dicomweb}?Modality=MR"]).stdout)
        assert [each["files"] for each in found] == [SLICES]
        derived = read_volume(found[0]["path"])
        assert derived.synthetic
        np.testing.assert_allclose(derived.affine, read_volume(workspace / "ct").affine, atol=1e-4)
        result = translate(f"{server.dicomweb}/studies/1.2/series/3.4", "a.nii.gz")
        assert result.exit_code == 1
        assert "not found (status 404): check the address" in result.stderr
