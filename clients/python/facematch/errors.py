"""What a failed call raises: a class for each gRPC code, with what the server says beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import message
from google.rpc import error_details_pb2, status_pb2

_DETAILS = "grpc-status-details-bin"
_REQUEST_ID = "x-request-id"

#: What grpc.aio puts in the place of the server's status where a write comes after the stream's end
#: (https://github.com/grpc/grpc/issues/36066). Another try tells what it was.
_WRITTEN_TOO_LATE = "Internal error from Core"

#: Reasons of photos from which no template could be made: failures to acquire, ISO/IEC 19795-1. So is every `PHOTO_…`.
_FAILURES_TO_ACQUIRE = frozenset({"NO_FACE", "SEVERAL_FACES", "QUALITY_TOO_LOW"})


@dataclass(frozen=True)
class FieldViolation:
    """A field of the request that is at fault."""

    #: Its path in the contract, such as `samples[1].photo`.
    field: str
    description: str


class FacematchError(Exception):
    """A call failed. Programs branch on the class and on `reason`; the text is for people."""

    #: The gRPC status code.
    code: grpc.StatusCode
    #: What the server says, for people.
    message: str
    #: The stable reason, such as `GALLERY_NOT_FOUND`; empty where the call did not reach the server.
    reason: str
    #: The fields of the request that are at fault.
    field_violations: tuple[FieldViolation, ...]
    #: Seconds after which the server wants to be asked again; `None` where it does not say.
    retry_after: float | None
    #: Facts beside the reason, by name, such as the measured value and the limit of a refused photo.
    facts: Mapping[str, str]
    #: What the server's log calls the call.
    request_id: str

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: str = "",
        field_violations: tuple[FieldViolation, ...] = (),
        retry_after: float | None = None,
        facts: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> None:
        said = message or code.value[1]
        super().__init__(f"{said} ({reason or code.name})")
        self.code = code
        self.message = said
        self.reason = reason
        self.field_violations = field_violations
        self.retry_after = retry_after
        self.facts = dict(facts or {})
        self.request_id = request_id


class InvalidArgumentError(FacematchError):
    """The request is at fault: `field_violations` names where."""


class FailureToAcquireError(InvalidArgumentError):
    """No template could be made of a photo: it is damaged, has no face or several, or is below the quality gate."""


class NotFoundError(FacematchError):
    """There is no such gallery, identity, template, import or curve."""


class AlreadyExistsError(FacematchError):
    """The id is taken, or the person is enrolled as somebody else (`DUPLICATE_IDENTITY`)."""


class FailedPreconditionError(FacematchError):
    """Not in this state: another pack's template, no curve for the rate, a gallery that is not empty."""


class OverloadedError(FacematchError):
    """All places are taken. Nothing was done; `retry_after` says when to ask again."""


class TooLargeError(FacematchError):
    """The message is larger than the server takes."""


class DeadlineExceededError(FacematchError):
    """The call's time was up. What it would have written may be written."""


class UnavailableError(FacematchError):
    """The server is not there, starts, or stops."""


class UnauthenticatedError(FacematchError):
    """The key, or the certificate, is missing or unknown."""


class PermissionDeniedError(FacematchError):
    """The key may not do this."""


class DataLossError(FacematchError):
    """A stored record is damaged."""


class CallCancelledError(FacematchError):
    """The call was ended before its reply."""


class ServerError(FacematchError):
    """The server's own fault. Its log knows the cause by `request_id`."""


_CLASSES: dict[grpc.StatusCode, type[FacematchError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.OUT_OF_RANGE: TooLargeError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.DATA_LOSS: DataLossError,
    grpc.StatusCode.CANCELLED: CallCancelledError,
}


def is_failure_to_acquire(reason: str) -> bool:
    """Tells whether the reason is that no template could be made of a photo."""
    return reason.startswith("PHOTO_") or reason in _FAILURES_TO_ACQUIRE


def from_grpc(error: Any) -> FacematchError:
    """Reads a failed call of grpc or grpc.aio, and the `google.rpc` details in its trailers."""
    said = [*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())]
    metadata = {str(name): value for name, value in said}
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    delay: float | None = None
    for detail in _status(metadata.get(_DETAILS)).details:
        detail.Unpack(info)
        detail.Unpack(bad)
        if detail.Unpack(retry):
            delay = retry.retry_delay.ToTimedelta().total_seconds()
    code: grpc.StatusCode = error.code()
    if code is grpc.StatusCode.INTERNAL and error.details() == _WRITTEN_TOO_LATE:
        return UnavailableError(grpc.StatusCode.UNAVAILABLE, "the stream ended while it was written to")
    kind = _CLASSES.get(code, ServerError)
    if kind is InvalidArgumentError and is_failure_to_acquire(info.reason):
        kind = FailureToAcquireError
    return kind(
        code,
        error.details() or "",
        reason=info.reason,
        field_violations=tuple(FieldViolation(at.field, at.description) for at in bad.field_violations),
        retry_after=delay,
        facts=info.metadata,
        request_id=str(metadata.get(_REQUEST_ID, "")),
    )


def _status(details: object) -> status_pb2.Status:
    """Reads the details; those that cannot be read are none, for the code and the text are there all the same."""
    try:
        return status_pb2.Status.FromString(details) if isinstance(details, bytes) else status_pb2.Status()
    except message.DecodeError:
        return status_pb2.Status()
