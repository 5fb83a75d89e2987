"""The DICOM node from end to end, on the loopback interface."""

import json
import os
import signal
import stat
import urllib.error
import urllib.request

import pytest
from pydicom.uid import SecondaryCaptureImageStorage
from support.dicom_node_server import CLASSES, make_certificate, running_node
from support.dicom_studies import is_empty, make_study, send, wait_until
from support.models import tiny_model
from support.orthanc_server import free_port

pytest.importorskip("pynetdicom", reason="pynetdicom is not installed: pip install 'medcyclegan[pacs]'")

from support.running_services import log_lines, service_of

from medcyclegan.errors import ConfigError, ModelError, UsageError, WriteError
from medcyclegan.io.dicom.network.send import _NOTES

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:pynetdicom"),
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def folder(tmp_path):
    tiny_model().save(tmp_path / "model")
    return tmp_path


@pytest.fixture(autouse=True)
def log():
    """The messages of the package during the test."""
    with log_lines() as lines:
        yield lines


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A node that receives results, and a service, for tests that need no other settings."""
    folder = tmp_path_factory.mktemp("service")
    tiny_model().save(folder / "model")
    rules = {
        "rules": [{"description": "*skipme*", "skip": True}, {"modality": "CT", "to": "mr"}, {"modality": "MR"}],
        "note_refusals": True,
    }
    with (
        running_node(classes=(*CLASSES, *_NOTES)) as node,
        service_of(folder, f"NODE@127.0.0.1:{node.port}", rules, health_port=0) as running,
    ):
        yield node, running


def results(node, images):
    """Return the images that arrived at ``node`` for the study of ``images``."""
    return [image for image in node.images if image.StudyInstanceUID == images[0].StudyInstanceUID]


@pytest.mark.parametrize(("modality", "other"), [("CT", "MR"), ("MR", "CT")])
def test_a_derived_series_arrives_in_the_same_study(shared, modality, other):
    node, running = shared
    images, done = make_study(f"arrives {modality}", modality), running.series()
    assert send(running.port, images) == [0] * 4
    running.wait_idle(done + 1)
    found = results(node, images)
    assert [image.Modality for image in found] == [other] * 4
    assert {image.SyntheticData for image in found} == {"YES"}
    assert {image.PatientID for image in found} == {images[0].PatientID}
    places = [[float(value) for value in image.ImagePositionPatient] for image in images]
    assert [[float(value) for value in image.ImagePositionPatient] for image in found] == places
    assert {image.FrameOfReferenceUID for image in found} == {images[0].FrameOfReferenceUID}


def test_a_study_that_is_sent_twice_is_translated_once(shared):
    node, running = shared
    images, done = make_study("twice"), running.series()
    for again in (1, 2):
        assert send(running.port, images) == [0] * 4
        running.wait_idle(done + again)
    assert send(running.port, images) == [0] * 4
    assert send(running.port, images) == [0] * 4
    wait_until(lambda: is_empty(running.queue) and running.series() > done + 2)
    assert len(results(node, images)) == 4


def test_what_no_rule_matches_is_ignored_with_a_line(shared, log):
    node, running = shared
    images, done = make_study("ignored"), running.series()
    for image in images:
        image.SeriesDescription = "x SkipMe x"
    assert send(running.port, images) == [0] * 4
    running.wait_idle(done + 1)
    assert results(node, images) == []
    assert "(CT, 4 images) ignored: a rule says skip" in "\n".join(log)


def test_a_result_that_comes_back_is_ignored(shared, log):
    node, running = shared
    images, done = make_study("loop"), running.series()
    send(running.port, images)
    running.wait_idle(done + 1)
    found = results(node, images)
    assert send(running.port, found) == [0] * 4
    running.wait_idle(done + 2)
    assert len(results(node, images)) == 4
    assert "ignored: it is synthetic" in "\n".join(log)


def test_an_object_that_is_no_ct_or_mr_image_is_ignored(shared, log):
    _, running = shared
    (image,) = make_study("other class", slices=1)
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    assert send(running.port, [image]) == [0]
    assert is_empty(running.queue)
    assert "ignored an object that is not a CT or MR image" in "\n".join(log)


def test_a_refused_series_is_a_line_and_a_note_in_its_study(shared, log):
    node, running = shared
    images, done = make_study("refused", slices=6), running.series()
    del images[3]  # a slice is missing
    assert send(running.port, images) == [0] * 5
    running.wait_idle(done + 1)
    (line,) = [line for line in log if "refused: " in line and "(CT, 5 images)" in line]
    assert "slice spacing varies from 9.0 to 18.0 mm" in line
    assert "--" not in line, "an option of another command"
    (note,) = results(node, images)
    assert (note.SOPClassUID, note.Modality, note.PatientID) == (_NOTES[0], "SR", images[0].PatientID)
    content = note.ContentSequence[0].TextValue
    assert "was not translated" in content
    assert images[0].SeriesInstanceUID in content
    assert str(running.queue) not in content


def test_the_log_and_the_names_of_files_name_no_patient(shared, log):
    _, running = shared
    images, done = make_study("private", slices=6), running.series()
    refused = make_study("private refused", slices=6)
    del refused[3]
    for study in (images, refused):
        send(running.port, study)
    running.wait_idle(done + 2)
    written = "\n".join([*log, *map(str, running.queue.rglob("*")), json.dumps(running.service.state())])
    for study in (images, refused):
        for keyword in ("PatientID", "PatientName", "SeriesDescription", "StudyInstanceUID", "SeriesInstanceUID"):
            assert str(study[0][keyword].value) not in written, keyword
    assert "refused: " in written
    assert "translated in" in written
    assert "1.2.826" not in written
    assert "Secret" not in written


def test_everything_in_the_queue_is_private_and_deleted_when_sent(folder):
    with (
        running_node(answer=lambda number, event: 0xA700) as node,
        service_of(folder, f"NODE@127.0.0.1:{node.port}") as running,
    ):
        send(running.port, make_study("private"))
        wait_until(lambda: list((running.queue / "sending").glob("*/out/*/0004.dcm")))
        paths = [running.queue, *running.queue.rglob("*")]
        assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir()} == {0o700}
        assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_file()} == {0o600}
        wait_until(lambda: not list(running.queue.glob("sending/*/in")))
    with (
        running_node() as node,
        service_of(folder, f"OTHER@127.0.0.1:{node.port}") as running,
    ):
        (job,) = (running.queue / "sending").iterdir()
        assert (job / "deliveries.json").exists()
    assert not node.images, "a study keeps the address for which it was translated"


def test_a_node_that_is_down_gets_everything_later_in_order(folder, log):
    port = free_port()
    uids = []
    with service_of(folder, f"NODE@127.0.0.1:{port}") as running:
        for number in range(3):
            images = make_study(f"down {number}")
            uids.append(images[0].StudyInstanceUID)
            assert send(running.port, images) == [0] * 4
        wait_until(lambda: len(list((running.queue / "sending").iterdir())) == 3)
        assert running.service.state()["problems"]
    # the service stops and starts with the node still down
    with service_of(folder, f"NODE@127.0.0.1:{port}") as running:
        wait_until(lambda: any("not sent, next attempt in" in line for line in log))
        with running_node(port=port) as node:
            wait_until(lambda: is_empty(running.queue))
            assert running.service.state()["problems"] == []
            assert [image.StudyInstanceUID for image in node.images] == [uid for uid in uids for _ in range(4)]


def test_a_study_that_the_node_refuses_is_given_up_and_the_next_one_is_sent(folder):
    bad, good = make_study("bad"), make_study("good")

    def answer(_number, event):
        return 0xC000 if event.dataset.StudyInstanceUID == bad[0].StudyInstanceUID else 0

    with (
        running_node(answer=answer) as node,
        service_of(folder, f"NODE@127.0.0.1:{node.port}", {"limits": {"sending_attempts": 2}}) as running,
    ):
        for images in (bad, good):
            send(running.port, images)
        wait_until(lambda: len(results(node, good)) == 4)
        wait_until(lambda: not list((running.queue / "sending").iterdir()))
        (failed,) = (running.queue / "failed").iterdir()
        assert len(list(failed.glob("out/*/*.dcm"))) == 4
        assert "1 studies failed: see the log" in running.service.state()["problems"]


def test_a_crash_of_the_translation_does_not_end_the_service(folder, log):
    first, second = make_study("first"), make_study("second")
    with running_node() as node, service_of(folder, f"NODE@127.0.0.1:{node.port}") as running:
        translator = running.service.translator

        def kill(_number):
            wait_until(lambda: translator._process is not None)
            os.kill(translator._process._process.pid, signal.SIGKILL)

        send(running.port, first)
        kill(0)
        send(running.port, second)
        wait_until(lambda: len(results(node, first)) == len(results(node, second)) == 4)
    assert sum("crashed; trying again" in line for line in log) == 1


def test_a_study_that_always_crashes_is_given_up(folder, monkeypatch, log):
    bad, good = make_study("bad", slices=5), make_study("good")
    with (
        running_node() as node,
        service_of(folder, f"NODE@127.0.0.1:{node.port}", {"limits": {"translation_s": 30}}) as running,
    ):
        translator = running.service.translator
        run = translator._receive

        def killed(stop):
            first = running.service.queue.names("waiting")[0]
            if len(list((running.queue / "waiting" / first / "in").iterdir())) == 5:
                translator._process.kill()
            return run(stop)

        monkeypatch.setattr(translator, "_receive", killed)
        send(running.port, bad)
        send(running.port, good)
        wait_until(lambda: len(results(node, good)) == 4)
        assert results(node, bad) == []
        assert len(list((running.queue / "failed").iterdir())) == 1
    assert any("crashed; given up, see failed/" in line for line in log)


def test_a_translation_that_takes_too_long_is_given_up(folder, log):
    limits = {"translation_s": 0.3, "translation_attempts": 1}  # less than the start of the process
    with service_of(folder, f"NODE@127.0.0.1:{free_port()}", {"limits": limits}) as running:
        send(running.port, make_study("long"))
        wait_until(lambda: list((running.queue / "failed").iterdir()))
    assert any("took more than 0.3 s; given up" in line for line in log)


def test_the_health_page_is_for_this_machine_and_shows_the_state(shared):
    _, running = shared
    url = f"http://127.0.0.1:{running.service.health.port}"

    def get(path, **headers):
        request = urllib.request.Request(url + path, headers=headers)  # noqa: S310 - on the loopback
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return answer.status, answer.read().decode()

    status, text = get("/health")
    assert status == 200
    assert json.loads(text)["problems"] == []
    assert json.loads(text)["series_translated"] == running.service.translator.counts["translated"] > 0
    status, text = get("/")
    assert status == 200
    assert "series translated" in text
    for path, headers, expected in (("/", {"Host": "evil.example"}, 403), ("/other", {}, 404)):
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(path, **headers)
        assert caught.value.code == expected
        caught.value.close()
    running.service.deliverer.unreachable["x"] = "dicom://X@h:1: <no>"
    try:
        with pytest.raises(urllib.error.HTTPError) as caught:
            get("/health")
        assert caught.value.code == 503
        caught.value.close()
        assert "&lt;no&gt;" in get("/")[1]
    finally:
        running.service.deliverer.unreachable.clear()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"host": "0.0.0.0"}, UsageError, "--host 0.0.0.0 can be reached by other machines.*--accept-from"),  # noqa: S104
        ({"title": "A" * 17}, UsageError, "not an application entity title"),
        ({"send_to": "PACS"}, UsageError, "not the address of a DICOM node"),
        ({"to": "pet"}, ModelError, "pet"),
        ({"models": ["none"]}, ModelError, "none"),
        ({"rules": "none.yaml"}, ConfigError, "no such rules file"),
        ({"tls_key": "key.pem"}, UsageError, "--tls-key and --tls-ca need --tls-cert"),
        ({"tls_cert": "none.pem"}, UsageError, "none.pem: No such file"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_starts(folder, options, error, message):
    from medcyclegan.service.node import ServiceOptions, running_service

    chosen = {"models": [str(folder / "model")], "send_to": "PACS@127.0.0.1:104", "queue": folder / "queue", "port": 0}
    with pytest.raises(error, match=message), running_service(ServiceOptions(**{**chosen, **options})):
        pass
    assert not (folder / "queue").exists()


def test_a_port_in_use_stops_what_was_started(folder, shared):
    from medcyclegan.service.node import ServiceOptions, running_service

    chosen = ServiceOptions([str(folder / "model")], "PACS@127.0.0.1:104", folder / "queue", port=shared[1].port)
    with pytest.raises(WriteError, match="cannot be used"), running_service(chosen):
        pass


def test_tls_and_callers_of_the_service(folder):
    import ssl

    cert, key = make_certificate(folder)
    options = {"tls_cert": cert, "tls_key": key, "tls_ca": cert, "accept_from": ["CT1"]}
    client = ssl.create_default_context(cafile=cert)
    client.load_cert_chain(cert, key)
    images = make_study("tls")
    with running_node() as node, service_of(folder, f"NODE@127.0.0.1:{node.port}", **options) as running:
        assert send(running.port, images, calling="CT1") in ([], [None])
        assert send(running.port, images, calling="CT2", tls=(client, "127.0.0.1")) == []
        assert send(running.port, images, calling="CT1", tls=(client, "127.0.0.1")) == [0] * 4
        running.wait_idle(1)
        assert len(node.images) == 4
