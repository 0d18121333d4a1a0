"""Drives a server as a Python service would: enrol one and many, verify, identify, delete, errors.

Usage: client.py HOST:PORT PROTO_FOLDER SHARED_FOLDER
"""

import collections
import pathlib
import sys
import tempfile

import grpc
import grpc_tools
from google.protobuf import field_mask_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from grpc_tools import protoc

address, proto, shared = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])

folder = tempfile.TemporaryDirectory()  # removed when the program ends
stubs = folder.name
files = [str(file) for file in sorted(proto.glob("facematch/v1/*.proto"))]
well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
arguments = [f"-I{proto}", f"-I{well_known}", f"--python_out={stubs}", f"--grpc_python_out={stubs}"]
assert protoc.main(["protoc", *arguments, *files]) == 0
sys.path.insert(0, stubs)

from facematch.v1 import enrollment_service_pb2 as enrollment  # noqa: E402
from facematch.v1 import enrollment_service_pb2_grpc as enrollment_grpc  # noqa: E402
from facematch.v1 import face_service_pb2 as face  # noqa: E402
from facematch.v1 import face_service_pb2_grpc as face_grpc  # noqa: E402
from facematch.v1 import gallery_service_pb2 as gallery  # noqa: E402
from facematch.v1 import gallery_service_pb2_grpc as gallery_grpc  # noqa: E402
from facematch.v1 import match_service_pb2 as match  # noqa: E402
from facematch.v1 import match_service_pb2_grpc as match_grpc  # noqa: E402
from facematch.v1 import types_pb2 as types  # noqa: E402


def photo(person, number):
    path = shared / f"faces/lfw/photos/{person}/{person}_{number:04}.jpg"
    return types.Photo(data=path.read_bytes())


def hard(name):
    return types.Photo(data=(shared / "faces/hard" / name).read_bytes())


def refused(call, request, code, reason, field=None):
    """Calls, and checks the status, its ErrorInfo and its BadRequest."""
    try:
        call(request, timeout=30)
    except grpc.RpcError as error:
        assert error.code() == code, (error.code(), error.details())
        details = {detail.TypeName(): detail for detail in rpc_status.from_call(error).details}
        info = error_details_pb2.ErrorInfo()
        details["google.rpc.ErrorInfo"].Unpack(info)
        assert (info.reason, info.domain) == (reason, "facematch"), info
        if field is not None:
            bad = error_details_pb2.BadRequest()
            details["google.rpc.BadRequest"].Unpack(bad)
            assert [violation.field for violation in bad.field_violations] == [field], bad
    else:
        raise AssertionError(f"accepted where {reason} was expected")


with grpc.insecure_channel(address) as channel:
    faces = face_grpc.FaceServiceStub(channel)
    galleries = gallery_grpc.GalleryServiceStub(channel)
    people = enrollment_grpc.EnrollmentServiceStub(channel)
    matching = match_grpc.MatchServiceStub(channel)

    galleries.CreateGallery(gallery.CreateGalleryRequest(gallery=gallery.Gallery(gallery_id="staff")), timeout=30)

    for person in ["Ai_Sugiyama", "Abdoulaye_Wade", "Al_Sharpton"]:
        samples = [enrollment.Sample(photo=photo(person, number)) for number in (1, 2)]
        reply = people.Enroll(
            enrollment.EnrollRequest(
                gallery_id="staff", identity_id=person, display_name=person.replace("_", " "), samples=samples
            ),
            timeout=30,
        )
        assert reply.created and len(reply.identity.templates) == 2
        assert all(result.WhichOneof("outcome") == "template" for result in reply.results)

    # Is this the same person? A photo against the enrolled identity.
    side = face.VerifySide(identity=face.IdentityReference(gallery_id="staff", identity_id="Ai_Sugiyama"))
    same = faces.Verify(face.VerifyRequest(a=face.VerifySide(photo=photo("Ai_Sugiyama", 3)), b=side), timeout=30)
    other = faces.Verify(face.VerifyRequest(a=face.VerifySide(photo=photo("Al_Sharpton", 3)), b=side), timeout=30)
    assert same.decision == face.VERIFY_DECISION_MATCH and other.decision == face.VERIFY_DECISION_NO_MATCH
    print(f"verified: same person {same.score:.3f}, other person {other.score:.3f}, at {same.threshold.cosine:.3f}")

    # Who is this? By photo, and by an embedding that this client holds.
    by_photo = matching.Identify(
        match.IdentifyRequest(gallery_id="staff", probe=match.Probe(photo=photo("Ai_Sugiyama", 4))), timeout=30
    )
    embedded = faces.Embed(face.EmbedRequest(photo=photo("Ai_Sugiyama", 4)), timeout=30).embedded_faces[0].embedding
    by_embedding = matching.Identify(
        match.IdentifyRequest(gallery_id="staff", probe=match.Probe(embedding=embedded)), timeout=30
    )
    for reply in (by_photo, by_embedding):
        assert reply.decision == match.IDENTIFY_DECISION_MATCH
        assert reply.candidates[0].identity_id == "Ai_Sugiyama"
        assert reply.candidates[0].display_name == "Ai Sugiyama"
    stranger = matching.Identify(
        match.IdentifyRequest(gallery_id="staff", probe=match.Probe(photo=photo("Abdullah_Gul", 1))), timeout=30
    )
    assert stranger.decision == match.IDENTIFY_DECISION_NO_MATCH
    print(f"identified: {by_photo.candidates[0].identity_id} {by_photo.candidates[0].score:.3f}; a stranger as nobody")

    # Details change; a page at a time the list is whole.
    people.UpdateIdentity(
        enrollment.UpdateIdentityRequest(
            gallery_id="staff",
            identity=enrollment.Identity(identity_id="Al_Sharpton", display_name="Al"),
            update_mask=field_mask_pb2.FieldMask(paths=["display_name"]),
        ),
        timeout=30,
    )
    listed, token = [], ""
    while True:
        page = people.ListIdentities(
            enrollment.ListIdentitiesRequest(gallery_id="staff", page_size=2, page_token=token), timeout=30
        )
        listed += [(identity.identity_id, identity.display_name) for identity in page.identities]
        token = page.next_page_token
        if not token:
            break
    assert listed == [
        ("Abdoulaye_Wade", "Abdoulaye Wade"),
        ("Ai_Sugiyama", "Ai Sugiyama"),
        ("Al_Sharpton", "Al"),
    ], listed

    # Many at a time: a stream of items, and a result for each. What has no result is sent again; nothing is enrolled twice.
    items = [
        enrollment.BulkEnrollItem(
            idempotency_key=f"{person}/{number}",
            identity_id=person,
            metadata={"year": types.MetadataValue(number_value=2026)},
            photo=photo(person, number),
        )
        for person in ["Abdullah_Gul", "Alejandro_Toledo"]
        for number in (1, 2, 3)
    ]
    items.append(enrollment.BulkEnrollItem(idempotency_key="nobody", photo=hard("black.jpg")))

    def requests():
        """Read by grpc's own thread, as the server has room, while results are read below."""
        yield enrollment.BulkEnrollRequest(options=enrollment.BulkEnrollOptions(gallery_id="staff"))
        for item in items:
            yield enrollment.BulkEnrollRequest(item=item)

    for expected in ("BULK_ENROLL_OUTCOME_ENROLLED", "BULK_ENROLL_OUTCOME_ALREADY_ENROLLED"):
        waiting = {item.idempotency_key for item in items}
        outcomes = collections.Counter()
        summary = None
        for reply in people.BulkEnroll(requests(), timeout=60):
            if reply.WhichOneof("message") == "summary":
                summary = reply.summary
                continue
            waiting.remove(reply.result.idempotency_key)
            outcomes[enrollment.BulkEnrollOutcome.Name(reply.result.outcome)] += 1
        assert not waiting and outcomes == {expected: 6, "BULK_ENROLL_OUTCOME_REFUSED": 1}, (waiting, outcomes)
        assert summary.item_count == 7 and dict(summary.reason_counts) == {"NO_FACE": 1}, summary
    absent = enrollment.BulkEnrollRequest(options=enrollment.BulkEnrollOptions(gallery_id="absent"))
    bulk = lambda first, timeout: list(people.BulkEnroll(iter([first]), timeout=timeout))  # noqa: E731
    refused(bulk, absent, grpc.StatusCode.NOT_FOUND, "GALLERY_NOT_FOUND")
    for person in ["Abdullah_Gul", "Alejandro_Toledo"]:
        people.DeleteIdentity(enrollment.DeleteIdentityRequest(gallery_id="staff", identity_id=person), timeout=30)
    print(f"enrolled {summary.item_count} in a stream, twice sent: {dict(outcomes)}")

    # Deleted: in force at once.
    people.DeleteIdentity(
        enrollment.DeleteIdentityRequest(gallery_id="staff", identity_id="Ai_Sugiyama"), timeout=30
    )
    gone = matching.Identify(
        match.IdentifyRequest(gallery_id="staff", probe=match.Probe(embedding=embedded)), timeout=30
    )
    assert gone.decision == match.IDENTIFY_DECISION_NO_MATCH and gone.identity_count == 2

    # Errors carry a code, a stable reason and the field at fault.
    C = grpc.StatusCode
    detect = lambda picture: face.DetectRequest(photo=picture)  # noqa: E731
    refused(faces.Detect, detect(hard("trunc_50pct.jpg")), C.INVALID_ARGUMENT, "PHOTO_TRUNCATED", "photo")
    refused(faces.Embed, face.EmbedRequest(photo=hard("black.jpg")), C.INVALID_ARGUMENT, "NO_FACE", "photo")
    refused(
        people.GetIdentity,
        enrollment.GetIdentityRequest(gallery_id="staff", identity_id="Ai_Sugiyama"),
        C.NOT_FOUND,
        "IDENTITY_NOT_FOUND",
    )
    foreign = types.Embedding(values=embedded.values, pack_id="0" * 32)
    refused(
        matching.Identify,
        match.IdentifyRequest(gallery_id="staff", probe=match.Probe(embedding=foreign)),
        C.FAILED_PRECONDITION,
        "PACK_MISMATCH",
    )
    refused(
        galleries.DeleteGallery,
        gallery.DeleteGalleryRequest(gallery_id="staff"),
        C.FAILED_PRECONDITION,
        "GALLERY_NOT_EMPTY",
    )
    print("deleted, listed, updated; errors as documented")
