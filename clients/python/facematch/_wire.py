"""Plain values <-> messages of the contract."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import struct
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import timestamp_pb2

from facematch import model
from facematch.v1 import (
    calibration_service_pb2,
    enrollment_service_pb2,
    face_service_pb2,
    gallery_service_pb2,
    match_service_pb2,
    types_pb2,
)

E = TypeVar("E", bound=Enum)


def photo(value: model.Photo) -> types_pb2.Photo:
    """Reads a photo. Raises `OSError` where its file cannot be read, `TypeError` where it is none."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return types_pb2.Photo(data=bytes(value))
    if isinstance(value, (str, os.PathLike)):
        return types_pb2.Photo(data=Path(value).read_bytes())
    data = value.read() if hasattr(value, "read") else None
    if not isinstance(data, bytes):
        raise TypeError(f"a photo must be a path, bytes, or a file opened for bytes, found {type(value).__name__}")
    return types_pb2.Photo(data=data)


def source(value: model.Source) -> dict[str, Any]:
    """The field of a message that takes a photo or an embedding."""
    if isinstance(value, model.Embedding):
        return {"embedding": embedding(value)}
    return {"photo": photo(value)}


def content_key(fields: Mapping[str, Any]) -> str:
    """A key by which the same photo or embedding is known again: 128 bits of SHA-256."""
    digest = hashlib.sha256()
    if "photo" in fields:
        digest.update(fields["photo"].data)
    else:
        values = fields["embedding"].values
        digest.update(fields["embedding"].pack_id.encode() + struct.pack(f"<{len(values)}f", *values))
    return digest.hexdigest()[:32]


def side(value: model.Side) -> face_service_pb2.VerifySide:
    """A side of a comparison."""
    if isinstance(value, model.TemplateReference):
        return face_service_pb2.VerifySide(template=face_service_pb2.TemplateReference(**dataclasses.asdict(value)))
    if isinstance(value, model.IdentityReference):
        return face_service_pb2.VerifySide(identity=face_service_pb2.IdentityReference(**dataclasses.asdict(value)))
    return face_service_pb2.VerifySide(**source(value))


def embedding(value: model.Embedding) -> types_pb2.Embedding:
    """An embedding."""
    return types_pb2.Embedding(values=value.values, pack_id=value.pack_id)


def detection(value: model.DetectionOptions | None) -> types_pb2.DetectionOptions | None:
    """How faces are looked for."""
    if value is None:
        return None
    return types_pb2.DetectionOptions(input_sides_px=value.input_sides_px, score_min=value.score_min)


def number(value: Enum) -> Any:
    """A value of an enumeration as messages have it."""
    return value.value


def operating_point(**stated: float | None) -> types_pb2.OperatingPoint | None:
    """A threshold. Raises `ValueError` where two are stated: the contract has room for one."""
    given = {name: value for name, value in stated.items() if value is not None}
    if len(given) > 1:
        raise ValueError(f"state one of {', '.join(given)}: each is a threshold")
    return types_pb2.OperatingPoint(**given) if given else None


def metadata(values: Mapping[str, model.MetadataValue]) -> dict[str, types_pb2.MetadataValue]:
    """What is kept of a person."""
    return {key: _metadata_value(key, value) for key, value in values.items()}


def _metadata_value(key: str, value: model.MetadataValue) -> types_pb2.MetadataValue:
    if isinstance(value, bool):  # before numbers, of which it is one
        return types_pb2.MetadataValue(bool_value=value)
    if isinstance(value, str):
        return types_pb2.MetadataValue(string_value=value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"metadata {key!r} is a time without a time zone")
        time = timestamp_pb2.Timestamp()
        time.FromDatetime(value)
        return types_pb2.MetadataValue(time_value=time)
    if isinstance(value, (int, float)) and math.isfinite(value):
        return types_pb2.MetadataValue(number_value=value)
    raise ValueError(f"metadata {key!r} must be text, a finite number, a bool or a time, found {type(value).__name__}")


def gallery_message(gallery_id: str, settings: Mapping[str, Any]) -> gallery_service_pb2.Gallery:
    """A gallery with these settings."""
    fields = {name: value.value if isinstance(value, Enum) else value for name, value in settings.items()}
    gate = fields.get("quality_gate")
    if gate is not None:
        fields["quality_gate"] = gallery_service_pb2.QualityGate(**dataclasses.asdict(gate))
    return gallery_service_pb2.Gallery(gallery_id=gallery_id, **fields)


def member(kind: type[E], number: int) -> E:
    """A value of an enumeration; one that this client is too old to know is the unspecified one."""
    try:
        return kind(number)
    except ValueError:
        return kind(0)


def optional(message: Any, name: str) -> Any:
    """A field that may be absent."""
    return getattr(message, name) if message.HasField(name) else None


def time(message: Any, name: str) -> datetime | None:
    """A time that may be absent, in UTC."""
    value = optional(message, name)
    return value.ToDatetime(tzinfo=timezone.utc) if value is not None else None


def faces(messages: Iterable[types_pb2.Face]) -> tuple[model.Face, ...]:
    """The faces of a photo."""
    return tuple(map(face, messages))


def face(message: types_pb2.Face) -> model.Face:
    """A face of a photo."""
    box, quality = message.box, optional(message, "quality")
    return model.Face(
        box=model.Box(box.x_min_px, box.y_min_px, box.x_max_px, box.y_max_px),
        detection_score=message.detection_score,
        landmarks=tuple(model.Point(point.x_px, point.y_px) for point in message.landmarks),
        eye_distance_px=message.eye_distance_px,
        quality=quality and model.FaceQuality(**_fields(model.FaceQuality, quality)),
    )


def _fields(kind: Any, message: Any) -> dict[str, Any]:
    """The fields of a value whose names are the message's."""
    return {at.name: getattr(message, at.name) for at in dataclasses.fields(kind)}


def face_choice(message: Any, name: str = "face_choice") -> model.FaceChoice | None:
    """The faces of a photo, where there was one."""
    choice = optional(message, name)
    if choice is None:
        return None
    chosen = optional(choice, "chosen_index")
    return model.FaceChoice(faces(choice.faces), chosen, member(model.FaceSelection, choice.selection))


def to_embedding(message: types_pb2.Embedding) -> model.Embedding:
    """An embedding."""
    return model.Embedding(tuple(message.values), message.pack_id)


def to_detection(reply: face_service_pb2.DetectResponse) -> model.Detection:
    """The faces of a photo."""
    sides = tuple(reply.input_sides_px)
    return model.Detection(faces(reply.faces), reply.width_px, reply.height_px, sides, reply.pack_id)


def embedded_faces(reply: face_service_pb2.EmbedResponse) -> tuple[model.EmbeddedFace, ...]:
    """Faces and their embeddings."""
    return tuple(
        model.EmbeddedFace(face(reply.faces[at.face_index]), to_embedding(at.embedding)) for at in reply.embedded_faces
    )


def threshold(message: types_pb2.AppliedThreshold) -> model.Threshold:
    """The threshold of a decision."""
    return model.Threshold(
        cosine=message.cosine,
        source=member(model.ThresholdSource, message.source),
        estimated_error_rate=optional(message, "estimated_error_rate"),
        estimated_error_rate_low=optional(message, "estimated_error_rate_low"),
        estimated_error_rate_high=optional(message, "estimated_error_rate_high"),
        curve_id=message.curve_id,
        warning=member(model.ThresholdWarning, message.warning),
    )


def verification(reply: face_service_pb2.VerifyResponse) -> model.Verification:
    """The answer of a comparison."""
    return model.Verification(
        decision=member(model.VerifyDecision, reply.decision),
        score=reply.score,
        threshold=threshold(reply.threshold),
        face_a=face_choice(reply, "face_a"),
        face_b=face_choice(reply, "face_b"),
        pack_id=reply.pack_id,
    )


def _candidates(messages: Iterable[match_service_pb2.Candidate]) -> tuple[model.Candidate, ...]:
    return tuple(model.Candidate(**_fields(model.Candidate, message)) for message in messages)


def identification(reply: match_service_pb2.IdentifyResponse) -> model.Identification:
    """The answer of a search."""
    answers = (
        model.FaceAnswer(
            at.face_index,
            member(model.IdentifyDecision, at.decision),
            _candidates(at.candidates),
            at.not_searchable_reason,
        )
        for at in reply.face_answers
    )
    return model.Identification(
        decision=member(model.IdentifyDecision, reply.decision),
        candidates=_candidates(reply.candidates),
        threshold=threshold(reply.threshold),
        identity_count=reply.identity_count,
        searched_identity_count=reply.searched_identity_count,
        search_path=member(model.SearchPath, reply.search_path),
        face_choice=face_choice(reply),
        not_searchable_reason=reply.not_searchable_reason,
        pack_id=reply.pack_id,
        face_answers=tuple(answers),
    )


def gallery(message: gallery_service_pb2.Gallery) -> model.Gallery:
    """A gallery."""
    gate, recall = optional(message, "quality_gate"), optional(message, "graph_recall")
    limits = {at.name: optional(gate, at.name) for at in dataclasses.fields(model.QualityGate)} if gate else {}
    return model.Gallery(
        gallery_id=message.gallery_id,
        display_name=message.display_name,
        search_policy=member(model.SearchPolicy, message.search_policy),
        ambiguity_margin=optional(message, "ambiguity_margin"),
        identification_cosine=optional(message, "identification_cosine"),
        quality_gate=model.QualityGate(**limits) if gate else None,
        fusion=member(model.Fusion, message.fusion),
        duplicate_policy=member(model.CheckPolicy, message.duplicate_policy),
        duplicate_cosine=optional(message, "duplicate_cosine"),
        consistency_policy=member(model.CheckPolicy, message.consistency_policy),
        consistency_cosine=optional(message, "consistency_cosine"),
        graph_recall_target=optional(message, "graph_recall_target"),
        keep_chips=message.keep_chips,
        pack_id=message.pack_id,
        identity_count=message.identity_count,
        template_count=message.template_count,
        damaged_identity_count=message.damaged_identity_count,
        search_path=member(model.SearchPath, message.search_path),
        graph_build_progress=optional(message, "graph_build_progress"),
        graph_miss_rate=recall.miss_rate if recall is not None else None,
        create_time=time(message, "create_time"),
        update_time=time(message, "update_time"),
    )


def template(message: enrollment_service_pb2.Template) -> model.Template:
    """A stored template."""
    found, features = optional(message, "face"), optional(message, "embedding")
    return model.Template(
        template_id=message.template_id,
        pack_id=message.pack_id,
        create_time=time(message, "create_time"),
        face=face(found) if found is not None else None,
        embedding=to_embedding(features) if features is not None else None,
        has_chip=message.has_chip,
    )


def identity(message: enrollment_service_pb2.Identity) -> model.Identity:
    """An enrolled person."""
    return model.Identity(
        identity_id=message.identity_id,
        display_name=message.display_name,
        metadata={key: _to_metadata_value(value) for key, value in message.metadata.items()},
        templates=tuple(map(template, message.templates)),
        create_time=time(message, "create_time"),
        update_time=time(message, "update_time"),
        damaged=message.damaged,
    )


def _to_metadata_value(message: types_pb2.MetadataValue) -> model.MetadataValue:
    kind = message.WhichOneof("value")
    if kind is None:
        return ""
    if kind == "time_value":
        return message.time_value.ToDatetime(tzinfo=timezone.utc)
    value: str | float | bool = getattr(message, kind)
    return value


def failure(message: Any) -> model.Failure:
    """Why something failed alone."""
    if not isinstance(message, enrollment_service_pb2.SampleFailure):
        return model.Failure(message.reason, message.message)
    found = optional(message, "finding")
    shortfalls = (
        model.QualityShortfall(**_fields(model.QualityShortfall, shortfall)) for shortfall in message.shortfalls
    )
    return model.Failure(message.reason, message.message, tuple(shortfalls), finding(found) if found else None)


def finding(message: enrollment_service_pb2.EnrollmentFinding) -> model.Finding:
    """What a gallery's policies found."""
    kind = member(model.FindingKind, message.kind)
    return model.Finding(kind, message.identity_id, message.score, message.cosine)


def enrollment(reply: enrollment_service_pb2.EnrollResponse) -> model.Enrollment:
    """What an enrolment came to."""
    results = []
    for result in reply.results:
        made, failed = optional(result, "template"), optional(result, "failure")
        results.append(
            model.SampleResult(
                template=template(made) if made is not None else None,
                failure=failure(failed) if failed is not None else None,
                already_enrolled=result.already_enrolled,
                face_choice=face_choice(result),
                warnings=tuple(map(finding, result.warnings)),
            )
        )
    return model.Enrollment(identity(reply.identity), tuple(results), reply.created)


def bulk_result(item: model.BulkItem, result: enrollment_service_pb2.BulkEnrollResult) -> model.BulkResult:
    """What became of an item."""
    failed = optional(result, "failure")
    return model.BulkResult(
        item=item,
        key=result.idempotency_key,
        outcome=member(model.BulkOutcome, result.outcome),
        created=result.created,
        failure=failure(failed) if failed is not None else None,
        face_choice=face_choice(result),
        warnings=tuple(map(finding, result.warnings)),
    )


def curve(
    message: calibration_service_pb2.Curve, owner: calibration_service_pb2.CurveOwner | None = None
) -> model.Curve:
    """A calibration curve."""
    return model.Curve(
        curve_id=message.curve_id,
        pack_id=message.pack_id,
        mated_count=message.mated.total,
        non_mated_count=message.non_mated.total,
        source=message.source,
        set_time=time(message, "set_time"),
        gallery_id=(owner and owner.gallery_id) or None,
        message=message,
    )


def calibration(message: calibration_service_pb2.Calibration) -> model.Calibration:
    """What came of comparing a gallery's templates with each other."""
    equal = optional(message, "equal_error")
    rated = (
        model.RatedThreshold(**{**_fields(model.RatedThreshold, at), "cosine": optional(at, "cosine")})
        for at in message.rated_thresholds
    )
    return model.Calibration(
        curve(message.curve), message.is_set, equal.rate if equal is not None else None, tuple(rated)
    )
