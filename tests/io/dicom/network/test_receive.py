"""Receive objects, and survive connections that break the protocol."""

import contextlib
import resource
import ssl
import time

import pydicom
import pytest
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless
from support.dicom_node_server import make_certificate
from support.dicom_studies import make_study, send, wait_until

pytest.importorskip("pynetdicom", reason="pynetdicom is not installed: pip install 'medcyclegan[pacs]'")

from support import hostile_associations as hostile

from medcyclegan.errors import WriteError
from medcyclegan.io.dicom.network.address import DicomNode
from medcyclegan.io.dicom.network.listener import LargestInput, Listening
from medcyclegan.io.dicom.network.receive import Receiver, Status
from medcyclegan.io.dicom.network.send import check_node

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:pynetdicom"),
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Store:
    """Keeps what a receiver hands over."""

    def __init__(self):
        self.objects, self.peers, self.answer = [], [], Status.SUCCESS

    def __call__(self, received, peer):
        self.objects.append(received)
        self.peers.append(peer)
        return self.answer


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def listen(store):
    opened = []

    def build(**options):
        options = {"title": "MEDCYCLEGAN", "host": "127.0.0.1", "port": 0, "timeout_s": 5.0, **options}
        opened.append(Receiver(Listening(**options), store))
        return opened[-1]

    yield build
    for receiver in opened:
        receiver.close()


def still_works(receiver, store, seed="after"):
    """Check that the receiver takes an image; return whether it does."""
    before = len(store.objects)
    return send(receiver.port, make_study(seed, slices=2)) == [0, 0] and len(store.objects) == before + 2


def test_an_image_arrives_as_it_was_sent(listen, store):
    receiver, images = listen(), make_study("a", slices=3)
    assert send(receiver.port, images) == [0, 0, 0]
    for received, image in zip(store.objects, images, strict=True):
        assert received.is_image
        assert received.pixels == image.Rows * image.Columns
        arrived = pydicom.dcmread(pydicom.filebase.DicomBytesIO(received.content))
        assert arrived == image
        uids = (received.study_uid, received.series_uid, received.instance_uid)
        assert uids == (image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID)
    peer = store.peers[0]
    assert peer.title == "SCANNER"
    wait_until(peer.was_released, 5)
    wait_until(lambda: not peer.is_open(), 5)


def test_echo_is_answered(listen):
    from pynetdicom import AE

    entity = AE()
    entity.add_requested_context("1.2.840.10008.1.1")
    association = entity.associate("127.0.0.1", listen().port, ae_title="MEDCYCLEGAN")
    assert association.send_c_echo().Status == 0
    association.release()


def test_the_status_of_the_store_is_the_answer(listen, store):
    store.answer = Status.OUT_OF_RESOURCES
    assert send(listen().port, make_study("a", slices=2)) == [0xA700, 0xA700]


def test_a_store_slower_than_the_timeout_does_not_end_the_association(listen, store):
    """The sender is not idle while it waits for an answer."""

    def slow(received, peer):
        time.sleep(1.5)
        return store(received, peer)

    store_slowly = listen(timeout_s=1.0)
    store_slowly._store = slow
    assert send(store_slowly.port, make_study("slow", slices=3)) == [0, 0, 0]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_transfer_syntaxes_that_can_be_read_are_accepted(listen, syntax):
    from pynetdicom import AE

    entity = AE()
    entity.add_requested_context("1.2.840.10008.5.1.4.1.1.2", syntax)
    association = entity.associate("127.0.0.1", listen().port, ae_title="MEDCYCLEGAN")
    readable = pydicom.pixels.get_decoder(syntax).is_available if syntax.is_encapsulated else True
    assert bool(association.is_established) == readable
    if readable:
        association.release()


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("value", ["", "../../etc", "1.2.3.4" * 20])
def test_an_object_without_valid_uids_is_refused(listen, store, keyword, value):
    (image,) = make_study("a", slices=1)
    setattr(image, keyword, value)
    assert send(listen().port, [image]) == [Status.CANNOT_UNDERSTAND]
    assert not store.objects


def test_an_object_that_is_not_the_announced_one_is_refused(listen, store):
    from pynetdicom import AE

    (image,) = make_study("a", slices=1)
    entity = AE()
    entity.add_requested_context(image.SOPClassUID)
    association = entity.associate("127.0.0.1", listen().port, ae_title="MEDCYCLEGAN")
    original = association.dimse.send_msg

    def renamed(primitive, context_id):
        if hasattr(primitive, "AffectedSOPInstanceUID"):
            primitive.AffectedSOPInstanceUID = "1.2.3.4"
        original(primitive, context_id)

    association.dimse.send_msg = renamed
    assert association.send_c_store(image).Status == Status.DOES_NOT_MATCH
    association.release()
    assert not store.objects


def test_only_the_right_titles_get_an_association(listen, store):
    receiver = listen(callers=("CT1", "CT2"))
    images = make_study("a", slices=1)
    assert send(receiver.port, images, calling="CT2") == [0]
    assert send(receiver.port, images, calling="CT3") == []
    assert send(receiver.port, images, calling="CT1", called="OTHER") == []
    assert len(store.objects) == 1


def test_more_associations_than_the_limit_are_rejected(listen, store):
    receiver = listen(associations=2)
    request = hostile.association_request(receiver.port)
    held = [hostile.connect(receiver.port, request) for _ in range(2)]
    assert [hostile.first_byte(connection) for connection in held] == [hostile.ACCEPT] * 2
    assert hostile.first_byte(hostile.connect(receiver.port, request)) == hostile.REJECT
    for connection in held:
        connection.close()
    wait_until(lambda: still_works(receiver, store), 15)


def test_many_idle_connections_are_closed_at_once(listen, store):
    receiver = listen(associations=2, timeout_s=3.0)
    held = [hostile.connect(receiver.port) for _ in range(200)]
    closed = sum(hostile.is_closed(connection, 0.05) for connection in held)
    assert closed >= 200 - 8 - 4, "at most four times the limit, and a few that were starting, may be kept waiting"
    for connection in held:
        connection.close()
    wait_until(lambda: still_works(receiver, store), 15)


@pytest.mark.parametrize(
    "parts",
    [
        [b"GET / HTTP/1.1\r\n\r\n"],
        [b"\xff" * 1000],
        [hostile.pdu(4, b"\0" * 100)],
        [hostile.pdu(1, b"\0" * 68)],
        [hostile.pdu(1, b"", length=0)],
        ["request", b"\xff" * 1000],
        ["request", hostile.pdu(4, b"\xff" * 100)],
        ["request", hostile.pdu(4, b"\0\0\0\x06\x01\x03abcd")],
        ["request", "request"],
        ["request", hostile.pdu(2, b"\0" * 100)],
    ],
    ids=lambda parts: " then ".join(part if isinstance(part, str) else repr(part[:8]) for part in parts),
)
def test_garbage_closes_the_connection_only(listen, store, parts):
    receiver = listen(associations=2, timeout_s=1.5)
    request = hostile.association_request(receiver.port)
    for _ in range(3):  # more than there are associations: none may stay occupied
        connection = hostile.connect(receiver.port, *(request if part == "request" else part for part in parts))
        assert hostile.is_closed(connection, 8)
        connection.close()
    wait_until(lambda: still_works(receiver, store), 3)


@pytest.mark.parametrize("prefix", [[], ["request"]], ids=["before", "after"])
@pytest.mark.parametrize("content", [b"\x04\0\0", b"\x04\0\0\0\x10\0" + b"\0" * 100], ids=["header", "body"])
def test_half_a_pdu_is_given_up_after_the_timeout(listen, store, prefix, content):
    receiver = listen(timeout_s=1.0, largest=LargestInput(pdu_s=1.0))
    connection = hostile.connect(receiver.port, *(hostile.association_request(receiver.port) for _ in prefix), content)
    assert still_works(receiver, store)
    assert hostile.is_closed(connection, 10)


def test_a_pdu_that_arrives_too_slowly_is_given_up(listen, store):
    receiver = listen(largest=LargestInput(pdu_s=1.0))
    connection = hostile.connect(receiver.port, b"\x01\0\0\0\x10\0")
    begun = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() < begun + 15:
            connection.sendall(b"\0")
            time.sleep(0.1)
    assert time.monotonic() < begun + 5
    assert still_works(receiver, store)


@pytest.mark.parametrize("prefix", [[], ["request"]], ids=["before", "after"])
def test_a_gigantic_pdu_takes_no_memory(listen, store, prefix):
    receiver = listen()
    requests = [hostile.association_request(receiver.port) for _ in prefix]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    connection = hostile.connect(receiver.port, *requests, hostile.pdu(4 if prefix else 1, b"", length=0xFFFFFFFF))
    sent_mb = 0
    with contextlib.suppress(OSError):
        for sent_mb in range(2000):  # noqa: B007
            connection.sendall(b"\0" * (1 << 20))
    assert sent_mb < 100
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "in kB"
    assert still_works(receiver, store)


def test_an_object_over_the_limit_closes_the_connection(listen, store):
    receiver = listen(largest=LargestInput(object_bytes=100_000))
    (image,) = make_study("a", slices=1, side=256)
    assert send(receiver.port, [image]) in ([None], [])
    assert not store.objects
    # the limit is for each object, not for the association
    many = make_study("b", slices=60, side=32)
    assert send(receiver.port, many) == [0] * 60


def test_a_handler_error_refuses_the_object_and_the_receiver_survives(listen, store, monkeypatch):
    receiver = listen()
    monkeypatch.setattr(receiver, "_store", lambda received, peer: 1 / 0)
    (status,) = send(receiver.port, make_study("a", slices=1))
    assert status is not None
    assert 0xC000 <= status <= 0xCFFF
    monkeypatch.undo()
    assert still_works(receiver, store)


def test_a_port_in_use_is_one_line(listen):
    receiver = listen()
    with pytest.raises(WriteError, match=f"127.0.0.1:{receiver.port} cannot be used .*--port"):
        listen(port=receiver.port)


def test_tls_with_client_certificates(listen, store, tmp_path):
    cert, key = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    context.load_verify_locations(cert)
    context.verify_mode = ssl.CERT_REQUIRED
    receiver = listen(tls=context, timeout_s=2.0)
    images = make_study("a", slices=1)
    client = ssl.create_default_context(cafile=cert)
    assert send(receiver.port, images, tls=(client, "127.0.0.1")) in ([], [None])
    assert send(receiver.port, images) in ([], [None]), "without encryption"
    assert not store.objects
    silent = hostile.connect(receiver.port)  # it never begins its handshake
    client.load_cert_chain(cert, key)
    begun = time.monotonic()
    assert send(receiver.port, images, tls=(client, "127.0.0.1")) == [0]
    assert time.monotonic() - begun < 1.9, "the silent connection held up the other one"
    check_node(DicomNode.parse(f"dicom://MEDCYCLEGAN@127.0.0.1:{receiver.port}?tls=on&ca={cert}&cert={cert}&key={key}"))
    assert hostile.is_closed(silent, 10)
