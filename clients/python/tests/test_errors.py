"""What a failed call raises."""

import datetime
import threading

import grpc
import pytest
from conftest import connected
from scripted import Script, details, scripted
from server import SAMPLES, Server, people

import facematch
from facematch import FaceSelection, IfExists, Retry, errors

ONCE = Retry(attempts=1)


def test_bad_field_is_named(client):
    with pytest.raises(facematch.InvalidArgumentError) as raised:
        client.create_gallery("Not An Id")
    error = raised.value
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELD")
    assert [at.field for at in error.field_violations] == ["gallery.gallery_id"]
    assert error.message in str(error)
    assert len(error.request_id) == 36
    assert not isinstance(error, facematch.FailureToAcquireError)


@pytest.mark.parametrize(
    ("photo", "reason"),
    [
        (b"", "PHOTO_EMPTY"),
        (b"not a photo", "PHOTO_UNSUPPORTED_FORMAT"),
        (people("alex")[0].read_bytes()[:2000], "PHOTO_TRUNCATED"),
    ],
)
def test_unusable_photo_is_a_failure_to_acquire(client, photo, reason):
    with pytest.raises(facematch.FailureToAcquireError) as raised:
        client.detect(photo)
    assert raised.value.reason == reason
    assert raised.value.field_violations[0].field == "photo"


def test_no_face_and_several_faces_are_failures_to_acquire(client, nobody):
    with pytest.raises(facematch.FailureToAcquireError, match="NO_FACE"):
        client.embed(nobody)
    with pytest.raises(facematch.FailureToAcquireError, match="SEVERAL_FACES"):
        client.embed(SAMPLES / "groups/1.jpg", face_selection=FaceSelection.EXACTLY_ONE)


def test_photo_below_the_quality_gate_says_what_was_measured(client, gallery):
    client.update_gallery(gallery, quality_gate=facematch.QualityGate(eye_distance_px_min=10_000))
    with pytest.raises(facematch.FailureToAcquireError) as raised:
        client.enroll(gallery, "alex", people("alex")[0])
    assert raised.value.reason == "QUALITY_TOO_LOW"
    assert float(raised.value.facts["eye_distance_px"]) < float(raised.value.facts["eye_distance_px_min"]) == 10_000


def test_what_is_not_there_is_not_found(client, gallery):
    for reason, call in {
        "GALLERY_NOT_FOUND": lambda: client.get_gallery("absent"),
        "IDENTITY_NOT_FOUND": lambda: client.get_identity(gallery, "absent"),
    }.items():
        with pytest.raises(facematch.NotFoundError, match=reason):
            call()


def test_what_is_taken_already_exists(client, gallery):
    with pytest.raises(facematch.AlreadyExistsError, match="GALLERY_EXISTS"):
        client.create_gallery(gallery)
    client.enroll(gallery, "alex", people("alex")[0])
    with pytest.raises(facematch.AlreadyExistsError, match="IDENTITY_EXISTS"):
        client.enroll(gallery, "alex", people("alex")[1])
    client.update_gallery(gallery, duplicate_policy=facematch.CheckPolicy.REJECT, duplicate_cosine=0.48)
    with pytest.raises(facematch.AlreadyExistsError) as raised:
        client.enroll(gallery, "alex-again", people("alex")[1], if_exists=IfExists.ADD)
    assert (raised.value.reason, raised.value.facts["identity_id"]) == ("DUPLICATE_IDENTITY", "alex")


def test_what_the_state_forbids_is_a_failed_precondition(client, gallery):
    made = client.enroll(gallery, "alex", people("alex")[0])
    (template,) = made.identity.templates
    foreign = facematch.Embedding((1.0,) * 512, "0" * 32)
    for reason, call in {
        "GALLERY_NOT_EMPTY": lambda: client.delete_gallery(gallery),
        "LAST_TEMPLATE": lambda: client.delete_template(gallery, "alex", template.template_id),
        "PACK_MISMATCH": lambda: client.identify(gallery, foreign),
        "NO_CALIBRATION_CURVE": lambda: client.verify(people("alex")[0], people("alex")[1], fmr=1e-9),
    }.items():
        with pytest.raises(facematch.FailedPreconditionError) as raised:
            call()
        assert raised.value.reason == reason
    assert int(raised.value.facts["comparisons_needed"]) > int(raised.value.facts["comparisons_found"])


def test_time_that_is_up_is_deadline_exceeded(client):
    with pytest.raises(facematch.DeadlineExceededError):
        client.detect(SAMPLES / "groups/1.jpg", timeout=1e-4)


def test_limits_of_the_server_are_overloaded_and_too_large(kind, tmp_path):
    limits = ("--calls-max", "1", "--photo-bytes-max", "100000", "--message-bytes-max", "100000")
    server = Server(tmp_path, *limits).start()
    try:
        with connected(kind, server.address, retry=ONCE) as client, facematch.connect(server.address) as other:
            with pytest.raises(facematch.TooLargeError):
                client.detect(bytes(200_000))
            other.create_gallery("staff")
            release, results = threading.Event(), []

            def items():
                yield facematch.BulkItem("alex", people("alex")[0])
                release.wait()

            stream = other.bulk_enroll("staff", items())
            results.append(next(stream))  # it has the only permit now
            with pytest.raises(facematch.OverloadedError) as raised:
                client.get_gallery("staff")
            assert raised.value.reason == "OVERLOADED"
            assert raised.value.retry_after > 0
            release.set()
            assert list(stream) == []
    finally:
        server.stop()


def test_server_that_is_not_there_is_unavailable(kind, tmp_path):
    server = Server(tmp_path).start()
    server.stop()
    with connected(kind, server.address, retry=ONCE) as client, pytest.raises(facematch.UnavailableError):
        client.health()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, facematch.UnauthenticatedError),
        (grpc.StatusCode.PERMISSION_DENIED, facematch.PermissionDeniedError),
        (grpc.StatusCode.DATA_LOSS, facematch.DataLossError),
        (grpc.StatusCode.CANCELLED, facematch.CallCancelledError),
        (grpc.StatusCode.INTERNAL, facematch.ServerError),
        (grpc.StatusCode.UNIMPLEMENTED, facematch.ServerError),
    ],
)
def test_every_other_code_has_its_class(kind, code, expected):
    script = Script((code, details(code, "SOME_REASON")))
    with scripted(script) as address, connected(kind, address) as client:
        with pytest.raises(expected) as raised:
            client.get_gallery("staff")
        assert type(raised.value) is expected
        assert (raised.value.code, raised.value.reason, raised.value.request_id) == (code, "SOME_REASON", "call-7")
    assert len(script.paths) == 1


def test_details_that_cannot_be_read_leave_code_and_text(kind):
    broken = (("grpc-status-details-bin", b"\xff\xff"),)
    with scripted(Script((grpc.StatusCode.DATA_LOSS, broken))) as address, connected(kind, address) as client:
        with pytest.raises(facematch.DataLossError) as raised:
            client.get_gallery("staff")
        assert (raised.value.message, raised.value.reason) == ("told", "")


def test_every_code_of_the_contract_has_a_class():
    assert set(errors._CLASSES.values()) | {facematch.ServerError, facematch.FailureToAcquireError} == {
        kind
        for kind in vars(facematch).values()
        if isinstance(kind, type) and issubclass(kind, facematch.FacematchError)
    } - {facematch.FacematchError}


def test_photo_that_cannot_be_read_here_raises_before_the_call(client, tmp_path):
    with pytest.raises(FileNotFoundError):
        client.detect(tmp_path / "absent.jpg")
    with pytest.raises(TypeError, match="a photo must be"):
        client.detect(7)
    with pytest.raises(ValueError, match="time zone"):
        client.enroll("staff", "ann", b"x", metadata={"since": datetime.datetime(2026, 1, 1)})
