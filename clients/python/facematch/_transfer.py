"""Galleries as files: written whole or not at all, and sent on from where an import broke off."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias

from facematch import errors
from facematch._transport import Retry, is_transient
from facematch.v1 import gallery_service_pb2 as gallery_pb2

#: A path, or a file that is open for bytes.
File: TypeAlias = str | os.PathLike[str] | BinaryIO

#: Bytes of a message.
_PART_BYTES = 1 << 20

#: Tries of an import, and the least seconds between two: a server may be restarted in between.
_TRIES = 20
_WAIT_MIN = 0.5

# Of src/gallery/archive.rs: "FMGALLRY", the version, then the header's frame: kind, length, checksum, body.
_PREAMBLE_BYTES = 12
_FRAME_HEADER_BYTES = 9


@contextlib.contextmanager
def new_file(to: File) -> Iterator[BinaryIO]:
    """Opens what an export writes to; a path is there only once it is whole and on the disk."""
    if not isinstance(to, (str, os.PathLike)):
        yield to
        return
    temporary = Path(f"{os.fspath(to)}.part")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(to)
    finally:
        temporary.unlink(missing_ok=True)


class Import:
    """A file that is imported."""

    def __init__(self, gallery_id: str, file: BinaryIO, progress: Callable[[int], object]) -> None:
        self.gallery_id = gallery_id
        self._file = file
        self._progress = progress
        self._start = file.tell()
        self.export_id = _export_id(file.read(_PREAMBLE_BYTES + _FRAME_HEADER_BYTES + 256))

    def offset(self, state: tuple[str, int] | None) -> int:
        """Where to go on: an import of another file is none."""
        return state[1] if state is not None and state[0] == self.export_id else 0

    def requests(self, offset: int) -> Iterator[gallery_pb2.ImportGalleryRequest]:
        """The messages of a stream, reading as they are sent."""
        self._file.seek(self._start + offset)
        done = offset
        yield gallery_pb2.ImportGalleryRequest(gallery_id=self.gallery_id, offset=offset)
        while data := self._file.read(_PART_BYTES):
            yield gallery_pb2.ImportGalleryRequest(data=data)
            done += len(data)
            self._progress(done)


def delay(retry: Retry, error: errors.FacematchError, attempt: int) -> float | None:
    """Seconds to wait before an import is gone on with after this many tries; `None`: it is not."""
    # The server may not have noticed yet that the try before broke off, or has gone further than it was when asked.
    is_under_way = error.reason == "UNDER_WAY" or any(at.field == "offset" for at in error.field_violations)
    if attempt >= _TRIES or not (is_under_way or is_transient(error, safe=True)):
        return None
    return max(_WAIT_MIN, retry.wait(error, attempt))


@contextlib.contextmanager
def opened(file: File) -> Iterator[BinaryIO]:
    """Opens what an import reads."""
    if isinstance(file, (str, os.PathLike)):
        with Path(file).open("rb") as mine:
            yield mine
    else:
        yield file


def _export_id(beginning: bytes) -> str:
    """The id of the export, by which an import knows its file; empty where this is none, which the server will say."""
    body = beginning[_PREAMBLE_BYTES + _FRAME_HEADER_BYTES :]
    if not beginning.startswith(b"FMGALLRY") or len(body) < 2 or body[0] != 0x0A:  # field 1, a string
        return ""
    return body[2 : 2 + body[1]].decode("ascii", errors="replace")
