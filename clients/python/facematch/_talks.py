"""What is said on the two streams of many items."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from google.protobuf.message import Message

from facematch import _wire as wire
from facematch import errors, model
from facematch._stream import Sent
from facematch.v1 import enrollment_service_pb2 as enrollment_pb2
from facematch.v1 import match_service_pb2 as match_pb2

#: The reason of a photo whose file cannot be read here; the server never saw it.
UNREADABLE = "PHOTO_UNREADABLE"


class BulkTalk:
    """BulkEnroll: options, then items; results by key."""

    def __init__(
        self,
        gallery_id: str,
        if_exists: model.IfExists,
        face_selection: model.FaceSelection,
        detection: model.DetectionOptions | None,
    ) -> None:
        options = enrollment_pb2.BulkEnrollOptions(
            gallery_id=gallery_id,
            if_exists=wire.number(if_exists),
            face_selection=wire.number(face_selection),
            detection=wire.detection(detection),
        )
        self._first = enrollment_pb2.BulkEnrollRequest(options=options)

    def first(self) -> Message:
        """The options."""
        return self._first

    def send(self, item: model.BulkItem) -> Sent[model.BulkItem] | model.BulkResult:
        """An item; one whose photo cannot be read is refused here, and counts like any other."""
        try:
            fields = wire.source(item.source)
        except OSError as error:
            failure = model.Failure(UNREADABLE, error.strerror or str(error))
            return model.BulkResult(item, item.key or "", model.BulkOutcome.REFUSED, False, failure, None, ())
        key = wire.content_key(fields) if item.key is None else item.key
        message = enrollment_pb2.BulkEnrollItem(
            idempotency_key=key,
            identity_id=item.identity_id,
            display_name=item.display_name,
            metadata=wire.metadata(item.metadata),
            **fields,
        )
        return Sent((item.identity_id or key, key), item, enrollment_pb2.BulkEnrollRequest(item=message))

    def answer(self, reply: Any) -> tuple[Hashable, Callable[[model.BulkItem], model.BulkResult]] | None:
        """An item's result. The summary at the end is of one stream alone."""
        if reply.WhichOneof("message") != "result":
            return None
        result = reply.result
        return (result.identity_id, result.idempotency_key), lambda item: wire.bulk_result(item, result)


def count(progress: model.BulkProgress, result: model.BulkResult) -> None:
    """Counts a result."""
    if result.outcome is model.BulkOutcome.ENROLLED:
        progress.enrolled += 1
    elif result.outcome is model.BulkOutcome.ALREADY_ENROLLED:
        progress.already_enrolled += 1
    elif result.outcome is model.BulkOutcome.REFUSED:
        progress.refused += 1
    else:
        progress.failed += 1
    if result.failure is not None:
        progress.failures_to_acquire += errors.is_failure_to_acquire(result.failure.reason)
        progress.reasons[result.failure.reason] = progress.reasons.get(result.failure.reason, 0) + 1


class ProbeTalk:
    """IdentifyStream: a search, then probes; answers by position."""

    def __init__(self, search: match_pb2.IdentifyRequest) -> None:
        self._first = match_pb2.IdentifyStreamRequest(search=search)

    def first(self) -> Message:
        """The search."""
        return self._first

    def send(self, item: tuple[int, model.Source]) -> Sent[tuple[int, model.Source]] | model.ProbeAnswer:
        """A probe; one whose photo cannot be read fails here."""
        index, source = item
        try:
            probe = match_pb2.Probe(**wire.source(source))
        except OSError as error:
            failure = model.Failure(UNREADABLE, error.strerror or str(error))
            return model.ProbeAnswer(index, source, None, failure)
        tagged = match_pb2.TaggedProbe(tag=str(index), probe=probe)
        return Sent(str(index), item, match_pb2.IdentifyStreamRequest(probe=tagged))

    def answer(self, reply: Any) -> tuple[Hashable, Callable[[tuple[int, model.Source]], model.ProbeAnswer]]:
        """A probe's answer."""

        def read(item: tuple[int, model.Source]) -> model.ProbeAnswer:
            found, failed = wire.optional(reply, "response"), wire.optional(reply, "failure")
            return model.ProbeAnswer(
                item[0],
                item[1],
                wire.identification(found) if found is not None else None,
                wire.failure(failed) if failed is not None else None,
            )

        return reply.tag, read
