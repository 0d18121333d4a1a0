"""What each call asks and what its reply means: one definition that both clients use, so that they cannot differ."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf import field_mask_pb2
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from typing_extensions import Unpack

from facematch import _wire as wire
from facematch import model
from facematch.model import FaceSelection
from facematch.v1 import calibration_service_pb2 as calibration_pb2
from facematch.v1 import enrollment_service_pb2 as enrollment_pb2
from facematch.v1 import face_service_pb2 as face_pb2
from facematch.v1 import gallery_service_pb2 as gallery_pb2
from facematch.v1 import match_service_pb2 as match_pb2

R = TypeVar("R")
P = TypeVar("P")


@dataclass(frozen=True)
class Method:
    """A method of a service."""

    path: str
    reply: type[Message]


@dataclass(frozen=True)
class Call(Generic[R]):
    """One request and one reply."""

    method: Method
    request: Message
    result: Callable[[Any], R]
    #: Whether twice is the same as once.
    safe: bool
    timeout: float | None


@dataclass(frozen=True)
class Work(Generic[P, R]):
    """One request and a stream of replies: work that tells how far it is."""

    method: Method
    request: Message
    #: Reads a reply; it may write to a file, so it is run where it may block.
    step: Callable[[Any], P]
    progress: Callable[[P], object] | None
    #: What came of it, when the stream has ended well.
    result: Callable[[], R]
    #: Whether the method takes a stream of requests, of which this is the only one.
    streams_requests: bool = False


def _method(service: str, name: str, reply: type[Message]) -> Method:
    return Method(f"/facematch.v1.{service}/{name}", reply)


BULK_ENROLL = _method("EnrollmentService", "BulkEnroll", enrollment_pb2.BulkEnrollResponse)
IDENTIFY_STREAM = _method("MatchService", "IdentifyStream", match_pb2.IdentifyStreamResponse)
IMPORT = _method("GalleryService", "ImportGallery", gallery_pb2.ImportGalleryResponse)
_CALIBRATE = _method("CalibrationService", "Calibrate", calibration_pb2.CalibrateResponse)
_COMPACT = _method("GalleryService", "CompactGalleries", gallery_pb2.CompactGalleriesResponse)
_CREATE_GALLERY = _method("GalleryService", "CreateGallery", gallery_pb2.CreateGalleryResponse)
_DELETE_CURVE = _method("CalibrationService", "DeleteCurve", calibration_pb2.DeleteCurveResponse)
_DELETE_GALLERY = _method("GalleryService", "DeleteGallery", gallery_pb2.DeleteGalleryResponse)
_DELETE_COPY = _method("GalleryService", "DeleteGalleryCopy", gallery_pb2.DeleteGalleryCopyResponse)
_DELETE_IDENTITY = _method("EnrollmentService", "DeleteIdentity", enrollment_pb2.DeleteIdentityResponse)
_DELETE_TEMPLATE = _method("EnrollmentService", "DeleteTemplate", enrollment_pb2.DeleteTemplateResponse)
_DETECT = _method("FaceService", "Detect", face_pb2.DetectResponse)
_EMBED = _method("FaceService", "Embed", face_pb2.EmbedResponse)
_ENROLL = _method("EnrollmentService", "Enroll", enrollment_pb2.EnrollResponse)
_EXPORT = _method("GalleryService", "ExportGallery", gallery_pb2.ExportGalleryResponse)
_GET_CURVE = _method("CalibrationService", "GetCurve", calibration_pb2.GetCurveResponse)
_GET_GALLERY = _method("GalleryService", "GetGallery", gallery_pb2.GetGalleryResponse)
_GET_IDENTITY = _method("EnrollmentService", "GetIdentity", enrollment_pb2.GetIdentityResponse)
_GET_IMPORT = _method("GalleryService", "GetImport", gallery_pb2.GetImportResponse)
_HEALTH = Method("/grpc.health.v1.Health/Check", health_pb2.HealthCheckResponse)
_IDENTIFY = _method("MatchService", "Identify", match_pb2.IdentifyResponse)
_LIST_GALLERIES = _method("GalleryService", "ListGalleries", gallery_pb2.ListGalleriesResponse)
_LIST_IDENTITIES = _method("EnrollmentService", "ListIdentities", enrollment_pb2.ListIdentitiesResponse)
_MIGRATE = _method("GalleryService", "MigrateGallery", gallery_pb2.MigrateGalleryResponse)
_MOVE = _method("GalleryService", "MoveGallery", gallery_pb2.MoveGalleryResponse)
_SET_CURVE = _method("CalibrationService", "SetCurve", calibration_pb2.SetCurveResponse)
_UPDATE_GALLERY = _method("GalleryService", "UpdateGallery", gallery_pb2.UpdateGalleryResponse)
_UPDATE_IDENTITY = _method("EnrollmentService", "UpdateIdentity", enrollment_pb2.UpdateIdentityResponse)
_VERIFY = _method("FaceService", "Verify", face_pb2.VerifyResponse)


def health(service: str = "", *, timeout: float | None = None) -> Call[model.Health]:
    """Asks whether the server takes calls; of one service by its name, such as `facematch.v1.MatchService`."""
    request = health_pb2.HealthCheckRequest(service=service)
    return Call(_HEALTH, request, lambda reply: wire.member(model.Health, reply.status), True, timeout)


def detect(
    photo: model.Photo, *, detection: model.DetectionOptions | None = None, timeout: float | None = None
) -> Call[model.Detection]:
    """Finds the faces in a photo. One without a face is an answer with no faces, not an error."""
    request = face_pb2.DetectRequest(photo=wire.photo(photo), detection=wire.detection(detection))
    return Call(_DETECT, request, wire.to_detection, True, timeout)


def embed(
    photo: model.Photo,
    *,
    face_selection: FaceSelection = FaceSelection.LARGEST,
    detection: model.DetectionOptions | None = None,
    timeout: float | None = None,
) -> Call[tuple[model.EmbeddedFace, ...]]:
    """Computes the embedding of the chosen face of a photo, or with `FaceSelection.ALL` of every face."""
    request = face_pb2.EmbedRequest(
        photo=wire.photo(photo), face_selection=wire.number(face_selection), detection=wire.detection(detection)
    )
    return Call(_EMBED, request, wire.embedded_faces, True, timeout)


def verify(
    a: model.Side,
    b: model.Side,
    *,
    cosine: float | None = None,
    fmr: float | None = None,
    face_selection: FaceSelection = FaceSelection.LARGEST,
    detection: model.DetectionOptions | None = None,
    timeout: float | None = None,
) -> Call[model.Verification]:
    """Answers "is this the same person?" for two sides: photos, embeddings, stored templates, enrolled identities.

    The threshold is a `cosine`, or that of a target false match rate `fmr`, for which a calibration curve is needed;
    with neither it is the pack's.
    """
    request = face_pb2.VerifyRequest(
        a=wire.side(a),
        b=wire.side(b),
        operating_point=wire.operating_point(cosine=cosine, fmr=fmr),
        detection=wire.detection(detection),
        face_selection=wire.number(face_selection),
    )
    return Call(_VERIFY, request, wire.verification, True, timeout)


def search(
    gallery_id: str,
    *,
    cosine: float | None = None,
    fpir: float | None = None,
    face_selection: FaceSelection = FaceSelection.LARGEST,
    detection: model.DetectionOptions | None = None,
    candidates: Iterable[str] = (),
    **options: Any,
) -> match_pb2.IdentifyRequest:
    """A search without a probe; its options are `SearchOptions`."""
    return match_pb2.IdentifyRequest(
        gallery_id=gallery_id,
        operating_point=wire.operating_point(cosine=cosine, fpir=fpir),
        face_selection=wire.number(face_selection),
        detection=wire.detection(detection),
        candidate_identity_ids=candidates,
        **options,
    )


def identify(
    gallery_id: str,
    probe: model.Source,
    *,
    timeout: float | None = None,
    **options: Unpack[model.SearchOptions],
) -> Call[model.Identification]:
    """Answers "who is this?" over a gallery, open set: "nobody" is an answer, and so is a photo without a face.

    The threshold is a `cosine`, or that of a target false positive identification rate `fpir` at the gallery's size
    now; with neither it is the gallery's. `filter` and `candidates` say who may be named. The rest: `SearchOptions`.
    """
    request = search(gallery_id, **options)
    request.probe.CopyFrom(match_pb2.Probe(**wire.source(probe)))
    return Call(_IDENTIFY, request, wire.identification, True, timeout)


def create_gallery(
    gallery_id: str, *, timeout: float | None = None, **settings: Unpack[model.GallerySettings]
) -> Call[model.Gallery]:
    """Creates an empty gallery; `AlreadyExistsError` where the id is taken."""
    request = gallery_pb2.CreateGalleryRequest(gallery=wire.gallery_message(gallery_id, settings))
    return Call(_CREATE_GALLERY, request, lambda reply: wire.gallery(reply.gallery), False, timeout)


def get_gallery(gallery_id: str, *, timeout: float | None = None) -> Call[model.Gallery]:
    """Returns a gallery with its settings and sizes."""
    request = gallery_pb2.GetGalleryRequest(gallery_id=gallery_id)
    return Call(_GET_GALLERY, request, lambda reply: wire.gallery(reply.gallery), True, timeout)


def list_galleries(token: str, page_size: int, timeout: float | None) -> Call[tuple[list[model.Gallery], str]]:
    """A page of galleries, and where the next begins."""
    request = gallery_pb2.ListGalleriesRequest(page_size=page_size, page_token=token)
    return Call(
        _LIST_GALLERIES,
        request,
        lambda reply: ([wire.gallery(one) for one in reply.galleries], reply.next_page_token),
        True,
        timeout,
    )


def update_gallery(
    gallery_id: str, *, timeout: float | None = None, **settings: Unpack[model.GallerySettings]
) -> Call[model.Gallery]:
    """Changes the settings that are stated and keeps the others; `None` takes a gallery's own value away."""
    request = gallery_pb2.UpdateGalleryRequest(
        gallery=wire.gallery_message(gallery_id, settings), update_mask=field_mask_pb2.FieldMask(paths=list(settings))
    )
    return Call(_UPDATE_GALLERY, request, lambda reply: wire.gallery(reply.gallery), True, timeout)


def delete_gallery(gallery_id: str, *, force: bool = False, timeout: float | None = None) -> Call[None]:
    """Deletes a gallery; with `force` also one that holds identities."""
    request = gallery_pb2.DeleteGalleryRequest(gallery_id=gallery_id, force=force)
    return Call(_DELETE_GALLERY, request, lambda _: None, False, timeout)


def delete_gallery_copy(gallery_id: str, *, timeout: float | None = None) -> Call[None]:
    """Deletes what `move_gallery` left in the store that does not serve the gallery: the way back."""
    request = gallery_pb2.DeleteGalleryCopyRequest(gallery_id=gallery_id)
    return Call(_DELETE_COPY, request, lambda _: None, False, timeout)


def get_import(gallery_id: str) -> Call[tuple[str, int]]:
    """How far an import came that broke off: the file's export id and the bytes that need not be sent again."""
    request = gallery_pb2.GetImportRequest(gallery_id=gallery_id)
    return Call(_GET_IMPORT, request, lambda reply: (reply.export_id, reply.offset), True, None)


def imported(reply: Any) -> model.Gallery:
    """The gallery that an import made."""
    return wire.gallery(reply.gallery)


def enroll(
    gallery_id: str,
    identity_id: str | None,
    *samples: model.Source | model.Sample,
    display_name: str = "",
    metadata: Mapping[str, model.MetadataValue] | None = None,
    if_exists: model.IfExists = model.IfExists.REFUSE,
    face_selection: FaceSelection = FaceSelection.LARGEST,
    detection: model.DetectionOptions | None = None,
    timeout: float | None = None,
) -> Call[model.Enrollment]:
    """Enrols a person from photos or embeddings. Durable, and visible to every search that begins after the reply.

    Without an id a new one is made. With `IfExists.ADD` templates are added to who exists; this is sent again where
    it is in doubt, for each sample has an id. It succeeds where one sample has a template; see `results`.
    """
    given = [
        sample if isinstance(sample, model.Sample) else model.Sample(sample, uuid.uuid4().hex) for sample in samples
    ]
    request = enrollment_pb2.EnrollRequest(
        gallery_id=gallery_id,
        identity_id=uuid.uuid4().hex if identity_id is None else identity_id,
        display_name=display_name,
        metadata=wire.metadata(metadata or {}),
        samples=[enrollment_pb2.Sample(template_id=one.template_id, **wire.source(one.source)) for one in given],
        if_exists=wire.number(if_exists),
        face_selection=wire.number(face_selection),
        detection=wire.detection(detection),
    )
    return Call(_ENROLL, request, wire.enrollment, if_exists is model.IfExists.ADD, timeout)


def get_identity(
    gallery_id: str, identity_id: str, *, include_embeddings: bool = False, timeout: float | None = None
) -> Call[model.Identity]:
    """Returns what is kept of a person."""
    request = enrollment_pb2.GetIdentityRequest(
        gallery_id=gallery_id, identity_id=identity_id, include_embeddings=include_embeddings
    )
    return Call(_GET_IDENTITY, request, lambda reply: wire.identity(reply.identity), True, timeout)


def list_identities(
    gallery_id: str, token: str, page_size: int, timeout: float | None
) -> Call[tuple[list[model.Identity], str]]:
    """A page of identities, and where the next begins."""
    request = enrollment_pb2.ListIdentitiesRequest(gallery_id=gallery_id, page_size=page_size, page_token=token)
    return Call(
        _LIST_IDENTITIES,
        request,
        lambda reply: ([wire.identity(one) for one in reply.identities], reply.next_page_token),
        True,
        timeout,
    )


def update_identity(
    gallery_id: str,
    identity_id: str,
    *,
    display_name: str | None = None,
    metadata: Mapping[str, model.MetadataValue] | None = None,
    timeout: float | None = None,
) -> Call[model.Identity]:
    """Replaces the display name or the metadata of a person; what is `None` is kept."""
    stated = {"display_name": display_name, "metadata": metadata}
    identity = enrollment_pb2.Identity(
        identity_id=identity_id, display_name=display_name or "", metadata=wire.metadata(metadata or {})
    )
    mask = field_mask_pb2.FieldMask(paths=[name for name, value in stated.items() if value is not None])
    request = enrollment_pb2.UpdateIdentityRequest(gallery_id=gallery_id, identity=identity, update_mask=mask)
    return Call(_UPDATE_IDENTITY, request, lambda reply: wire.identity(reply.identity), True, timeout)


def delete_identity(gallery_id: str, identity_id: str, *, timeout: float | None = None) -> Call[None]:
    """Deletes a person. In force for every search that begins after the reply."""
    request = enrollment_pb2.DeleteIdentityRequest(gallery_id=gallery_id, identity_id=identity_id)
    return Call(_DELETE_IDENTITY, request, lambda _: None, False, timeout)


def delete_template(gallery_id: str, identity_id: str, template_id: str, *, timeout: float | None = None) -> Call[None]:
    """Deletes one template; the last one of a person is `FailedPreconditionError`."""
    request = enrollment_pb2.DeleteTemplateRequest(
        gallery_id=gallery_id, identity_id=identity_id, template_id=template_id
    )
    return Call(_DELETE_TEMPLATE, request, lambda _: None, False, timeout)


def _owner(gallery_id: str | None) -> calibration_pb2.CurveOwner:
    if gallery_id is None:
        return calibration_pb2.CurveOwner(pack_id="")
    return calibration_pb2.CurveOwner(gallery_id=gallery_id)


def get_curve(gallery_id: str | None = None, *, timeout: float | None = None) -> Call[model.Curve]:
    """Returns the curve that error rates are read off: a gallery's own, else its pack's; `None`: the pack's."""
    request = calibration_pb2.GetCurveRequest(owner=_owner(gallery_id))
    return Call(_GET_CURVE, request, lambda reply: wire.curve(reply.curve, reply.owner), True, timeout)


def set_curve(curve: model.Curve, gallery_id: str | None = None, *, timeout: float | None = None) -> Call[model.Curve]:
    """Keeps a curve for a gallery, or for the pack."""
    request = calibration_pb2.SetCurveRequest(owner=_owner(gallery_id), curve=curve.message)
    return Call(_SET_CURVE, request, lambda reply: wire.curve(reply.curve, _owner(gallery_id)), True, timeout)


def delete_curve(gallery_id: str | None = None, *, timeout: float | None = None) -> Call[None]:
    """Takes the curve of a gallery, or of the pack, away."""
    request = calibration_pb2.DeleteCurveRequest(owner=_owner(gallery_id))
    return Call(_DELETE_CURVE, request, lambda _: None, False, timeout)


def calibrate_gallery(
    gallery_id: str, *, keep: bool = False, source: str = "", seed: int = 0
) -> Work[None, model.Calibration]:
    """Compares a gallery's templates with each other; with `keep` its rates are read off what comes of it.

    Whoever is enrolled as two identities counts as two people there: see the gallery's duplicate policy.
    """
    options = calibration_pb2.CalibrationOptions(
        gallery_id=gallery_id, source=source, seed=seed, set_for=_owner(gallery_id) if keep else None
    )
    found: list[model.Calibration] = []

    def step(reply: calibration_pb2.CalibrateResponse) -> None:
        if reply.HasField("calibration"):
            measured = wire.calibration(reply.calibration)
            of_gallery = gallery_id if measured.is_set else None
            found.append(
                dataclasses.replace(measured, curve=dataclasses.replace(measured.curve, gallery_id=of_gallery))
            )

    request = calibration_pb2.CalibrateRequest(options=options)
    return Work(_CALIBRATE, request, step, None, lambda: found[-1], streams_requests=True)


def export_gallery(
    gallery_id: str, write: Callable[[bytes], object], progress: Callable[[model.TransferProgress], object] | None
) -> Work[model.TransferProgress, model.Export]:
    """Writes a gallery as a file."""
    written = model.Export(0, 0, 0)

    def step(reply: gallery_pb2.ExportGalleryResponse) -> model.TransferProgress:
        nonlocal written
        write(reply.data)
        done = written.bytes_done + len(reply.data)
        written = model.Export(reply.identity_count, reply.damaged_identity_count, done)
        return model.TransferProgress(reply.identity_count, reply.identity_total, done)

    request = gallery_pb2.ExportGalleryRequest(gallery_id=gallery_id)
    return Work(_EXPORT, request, step, progress, lambda: written)


def compact(
    *, progress: Callable[[model.TransferProgress], object] | None = None
) -> Work[model.TransferProgress, model.Compaction]:
    """Rewrites the server's store so that nothing that was deleted is left in any file of it."""
    last = gallery_pb2.CompactGalleriesResponse()

    def step(reply: gallery_pb2.CompactGalleriesResponse) -> model.TransferProgress:
        last.CopyFrom(reply)
        return model.TransferProgress(reply.identity_count, reply.identity_total)

    def result() -> model.Compaction:
        return model.Compaction(last.identity_count, last.bytes_before, last.bytes_after)

    return Work(_COMPACT, gallery_pb2.CompactGalleriesRequest(), step, progress, result)


def migrate_gallery(
    gallery_id: str,
    pack: str,
    *,
    loss_max: float | None = None,
    trial: bool = False,
    progress: Callable[[model.TransferProgress], object] | None = None,
) -> Work[model.TransferProgress, model.Migration]:
    """Moves a gallery to another pack that the server runs, by its chips; with `trial` it only compares."""
    last = gallery_pb2.MigrateGalleryResponse()

    def step(reply: gallery_pb2.MigrateGalleryResponse) -> model.TransferProgress:
        last.CopyFrom(reply)
        return model.TransferProgress(reply.identity_count, reply.identity_total)

    def result() -> model.Migration:
        found = last.comparison
        counts = (found.probe_count, found.found_before_count, found.found_after_count)
        return model.Migration(last.identity_count, *counts, last.switched)

    request = gallery_pb2.MigrateGalleryRequest(gallery_id=gallery_id, pack=pack, loss_max=loss_max, trial=trial)
    return Work(_MIGRATE, request, step, progress, result)


def move_gallery(
    gallery_id: str,
    to: str,
    *,
    as_it_was: bool = False,
    only_server: bool = False,
    progress: Callable[[model.TransferProgress], object] | None = None,
) -> Work[model.TransferProgress, model.Move]:
    """Moves a gallery to the server's other store while it is served; what it leaves is the way back.

    `to` is the store as the server's settings name it. `as_it_was` copies nothing: what an earlier move left there is
    served again. `only_server` says that no other server works on the store that the gallery leaves: needed where that
    is a database.
    """
    last = gallery_pb2.MoveGalleryResponse()

    def step(reply: gallery_pb2.MoveGalleryResponse) -> model.TransferProgress:
        last.CopyFrom(reply)
        return model.TransferProgress(reply.identity_count, reply.identity_total)

    def result() -> model.Move:
        return model.Move(last.identity_count, last.compared_count, last.switched)

    request = gallery_pb2.MoveGalleryRequest(gallery_id=gallery_id, to=to, as_it_was=as_it_was, only_server=only_server)
    return Work(_MOVE, request, step, progress, result)
