"""Client of the facematch identity-matching engine: photos in, answers out.

    import facematch

    with facematch.connect("127.0.0.1:50051") as client:
        client.create_gallery("staff")
        client.enroll("staff", "ann", "ann1.jpg", "ann2.jpg")
        print(client.verify("ann1.jpg", "ann3.jpg").matches)
        print(client.identify("staff", "ann3.jpg").identity_id)

`connect_async` gives the same methods for asyncio. The stubs that grpc makes of the contract are in `facematch.v1`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from facematch._transport import Key, Pem, Retry, options
from facematch.aio import AsyncBulkEnrollment, AsyncClient
from facematch.client import BulkEnrollment, Client
from facematch.errors import (
    AlreadyExistsError,
    CallCancelledError,
    DataLossError,
    DeadlineExceededError,
    FacematchError,
    FailedPreconditionError,
    FailureToAcquireError,
    FieldViolation,
    InvalidArgumentError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ServerError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
)
from facematch.model import (
    Box,
    BulkItem,
    BulkOutcome,
    BulkProgress,
    BulkResult,
    Calibration,
    Candidate,
    CheckPolicy,
    Compaction,
    Curve,
    Detection,
    DetectionOptions,
    EmbeddedFace,
    Embedding,
    Enrollment,
    Export,
    Face,
    FaceAnswer,
    FaceChoice,
    FaceQuality,
    FaceSelection,
    Failure,
    Finding,
    FindingKind,
    Fusion,
    Gallery,
    GallerySettings,
    Health,
    Identification,
    IdentifyDecision,
    Identity,
    IdentityReference,
    IfExists,
    Migration,
    Move,
    Photo,
    Point,
    ProbeAnswer,
    QualityGate,
    QualityShortfall,
    RatedThreshold,
    Sample,
    SampleResult,
    SearchOptions,
    SearchPath,
    SearchPolicy,
    Template,
    TemplateReference,
    Threshold,
    ThresholdSource,
    ThresholdWarning,
    TransferProgress,
    Verification,
    VerifyDecision,
)

__version__ = "0.1.0"

__all__ = [
    "AlreadyExistsError",
    "AsyncBulkEnrollment",
    "AsyncClient",
    "Box",
    "BulkEnrollment",
    "BulkItem",
    "BulkOutcome",
    "BulkProgress",
    "BulkResult",
    "Calibration",
    "CallCancelledError",
    "Candidate",
    "CheckPolicy",
    "Client",
    "Compaction",
    "Curve",
    "DataLossError",
    "DeadlineExceededError",
    "Detection",
    "DetectionOptions",
    "EmbeddedFace",
    "Embedding",
    "Enrollment",
    "Export",
    "Face",
    "FaceAnswer",
    "FaceChoice",
    "FaceQuality",
    "FaceSelection",
    "FacematchError",
    "FailedPreconditionError",
    "Failure",
    "FailureToAcquireError",
    "FieldViolation",
    "Finding",
    "FindingKind",
    "Fusion",
    "Gallery",
    "GallerySettings",
    "Health",
    "Identification",
    "IdentifyDecision",
    "Identity",
    "IdentityReference",
    "IfExists",
    "InvalidArgumentError",
    "Key",
    "Migration",
    "Move",
    "NotFoundError",
    "OverloadedError",
    "Pem",
    "PermissionDeniedError",
    "Photo",
    "Point",
    "ProbeAnswer",
    "QualityGate",
    "QualityShortfall",
    "RatedThreshold",
    "Retry",
    "Sample",
    "SampleResult",
    "SearchOptions",
    "SearchPath",
    "SearchPolicy",
    "ServerError",
    "Template",
    "TemplateReference",
    "Threshold",
    "ThresholdSource",
    "ThresholdWarning",
    "TooLargeError",
    "TransferProgress",
    "UnauthenticatedError",
    "UnavailableError",
    "Verification",
    "VerifyDecision",
    "connect",
    "connect_async",
]


def connect(
    address: str,
    *,
    key: Key | None = None,
    ca: Pem | None = None,
    certificate: Pem | None = None,
    private_key: Pem | None = None,
    server_name: str | None = None,
    allow_plaintext_key: bool = False,
    timeout: float = 30.0,
    retry: Retry | None = None,
    channel_options: Sequence[tuple[str, Any]] = (),
) -> Client:
    """Makes a client. It connects with its first call, and again by itself.

    Args:
        address: `HOST:PORT`, `https://HOST:PORT`, or a target of gRPC's such as `dns:///facematch:50051`. Plaintext,
            but TLS where it begins with https:// or a CA or certificate is stated.
        key: The caller's API key, or a function that returns the one to use now. Only sent by TLS or on this machine.
        ca: Certificates that the server's must be signed by, as the path of a PEM file or its bytes. Else those that
            gRPC brings along.
        certificate: The caller's own certificate, where the server asks for one. With `private_key`.
        private_key: Its key.
        server_name: The name in the server's certificate, where it is reached by another.
        allow_plaintext_key: Sends the key in plain sight, where something else protects the way.
        timeout: Seconds that a call may take, over all its tries, where it does not state its own.
        retry: When calls are sent again.
        channel_options: More options of gRPC's channels.

    """
    return Client(
        options(
            address,
            key=key,
            ca=ca,
            certificate=certificate,
            private_key=private_key,
            server_name=server_name,
            allow_plaintext_key=allow_plaintext_key,
            timeout=timeout,
            retry=retry,
            channel_options=channel_options,
        )
    )


def connect_async(
    address: str,
    *,
    key: Key | None = None,
    ca: Pem | None = None,
    certificate: Pem | None = None,
    private_key: Pem | None = None,
    server_name: str | None = None,
    allow_plaintext_key: bool = False,
    timeout: float = 30.0,
    retry: Retry | None = None,
    channel_options: Sequence[tuple[str, Any]] = (),
) -> AsyncClient:
    """Makes a client for asyncio. To be called where the event loop runs. The arguments are those of `connect`."""
    return AsyncClient(
        options(
            address,
            key=key,
            ca=ca,
            certificate=certificate,
            private_key=private_key,
            server_name=server_name,
            allow_plaintext_key=allow_plaintext_key,
            timeout=timeout,
            retry=retry,
            channel_options=channel_options,
        )
    )
