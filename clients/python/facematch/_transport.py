"""How a server is reached, and when a call is sent again."""

from __future__ import annotations

import ipaddress
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from facematch.errors import FacematchError, OverloadedError, UnavailableError

#: A PEM file's path, or its bytes.
Pem: TypeAlias = str | os.PathLike[str] | bytes

#: The key of a caller, or what returns the one to use now.
Key: TypeAlias = str | Callable[[], str]

#: Replies may carry many faces or embeddings: more than gRPC's 4 MiB.
_REPLY_BYTES_MAX = 64 << 20

_CHANNEL_OPTIONS: dict[str, Any] = {
    "grpc.max_receive_message_length": _REPLY_BYTES_MAX,
    "grpc.max_send_message_length": -1,  # the server says what it takes
    # A stream to a machine that is gone would wait for ever: a quiet server is asked whether it is there.
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 30_000,
    "grpc.http2.max_pings_without_data": 0,
    # gRPC waits up to two minutes before it tries to reach a server again. A restart takes seconds.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 1_000,
    "grpc.max_reconnect_backoff_ms": 5_000,
    "grpc.primary_user_agent": "facematch-python",
}


@dataclass(frozen=True)
class Retry:
    """When a call that failed is sent again: never past its deadline, and only where that is safe.

    A call that was refused for want of room (`OverloadedError`) did nothing, so every call is sent again, after the
    delay that the server asks for. Where the server is out of reach or stops (`UnavailableError`), a first try may have
    been carried out, so only those calls are sent again for which twice is the same as once: all that read, `update_…`,
    `set_curve`, and `enroll` with `IfExists.ADD`, whose samples have ids. Not `create_…`, `delete_…` and `enroll` with
    `IfExists.REFUSE`: their second try would fail by what the first did.
    """

    #: Tries in all. 1: none is sent again.
    attempts: int = 6
    #: Seconds before the second try; each further wait is twice as long. A random part of up to a half is taken off, so
    #: that callers who failed together do not come back together.
    delay_min: float = 0.1
    delay_max: float = 5.0

    def delay(self, error: FacematchError, attempt: int, *, safe: bool) -> float | None:
        """Seconds to wait before the next try after this many; `None`: there is none."""
        if attempt >= self.attempts or not is_transient(error, safe=safe):
            return None
        return self.wait(error, attempt)

    def wait(self, error: FacematchError, attempt: int) -> float:
        """Seconds to wait: what the server asks for, and never less than the backoff."""
        backoff: float = min(self.delay_max, self.delay_min * 2.0 ** min(attempt - 1, 30))
        backoff *= random.uniform(0.5, 1.0)  # noqa: S311  no secret
        return (error.retry_after or 0.0) + backoff


def is_transient(error: FacematchError, *, safe: bool) -> bool:
    """Tells whether another try may succeed and does no harm."""
    if isinstance(error, OverloadedError):
        # Without a reason it is gRPC's own: a message that is too large will be so again.
        return error.reason == "OVERLOADED"
    return safe and isinstance(error, UnavailableError)


@dataclass(frozen=True)
class Options:
    """How to reach a server."""

    target: str
    key: Key | None = field(repr=False)
    credentials: grpc.ChannelCredentials | None
    timeout: float
    retry: Retry
    channel_options: Sequence[tuple[str, Any]]

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What each call carries."""
        key = self.key() if callable(self.key) else self.key
        return (("authorization", f"Bearer {key}"),) if key else ()


def options(
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
) -> Options:
    """Checks how to reach a server."""
    scheme, rest = address.split("://", 1) if "://" in address else ("", address)
    if scheme not in ("", "http", "https"):
        rest = address  # one of gRPC's own, such as dns:///facematch:50051
    has_tls = scheme == "https" or ca is not None or certificate is not None
    if scheme == "http" and has_tls:
        raise ValueError("http:// is plaintext: write https:// where there is a CA or a certificate")
    if (certificate is None) != (private_key is None):
        raise ValueError("a certificate and its private key go together")
    if key is not None and not has_tls and not allow_plaintext_key and not _is_local(rest):
        raise ValueError(
            "a key would cross the network in plain sight: use TLS (https:// or a CA), or say allow_plaintext_key=True "
            "where something else protects the way"
        )
    credentials = None
    if has_tls:
        credentials = grpc.ssl_channel_credentials(_pem(ca), _pem(private_key), _pem(certificate))
    stated: dict[str, Any] = dict(_CHANNEL_OPTIONS)
    if server_name is not None:
        stated["grpc.ssl_target_name_override"] = server_name
    stated.update(channel_options)
    return Options(rest.rstrip("/"), key, credentials, timeout, retry or Retry(), tuple(stated.items()))


def _pem(value: Pem | None) -> bytes | None:
    return value if value is None or isinstance(value, bytes) else Path(value).read_bytes()


def _is_local(target: str) -> bool:
    """Tells whether what is sent there stays on this machine."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    host = target.rsplit(":", 1)[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
