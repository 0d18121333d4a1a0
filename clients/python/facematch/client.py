"""The client for threads."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import grpc
from google.protobuf.message import Message
from typing_extensions import Self, Unpack

from facematch import _calls, _talks, _transfer, errors, model
from facematch._calls import Call, Method, Work
from facematch._stream import Exchange, Patience
from facematch._transport import Options

A = ParamSpec("A")
R = TypeVar("R")


def _blocking(build: Callable[A, Call[R]]) -> Callable[Concatenate[Client, A], R]:
    """Makes a method of a call's definition."""

    @functools.wraps(build)
    def method(self: Client, /, *args: A.args, **kwargs: A.kwargs) -> R:
        return self._run(build(*args, **kwargs))

    return method


def _working(build: Callable[A, Work[Any, R]]) -> Callable[Concatenate[Client, A], R]:
    """Makes a method of a definition of work."""

    @functools.wraps(build)
    def method(self: Client, /, *args: A.args, **kwargs: A.kwargs) -> R:
        return self._work(build(*args, **kwargs))

    return method


class Client:
    """A connection to a server, for any number of threads. Made by `facematch.connect`; a context manager.

    Each call has a `timeout` in seconds, over all its tries; without, it is the client's. What fails raises a
    `FacematchError`.
    """

    health = _blocking(_calls.health)
    detect = _blocking(_calls.detect)
    embed = _blocking(_calls.embed)
    verify = _blocking(_calls.verify)
    identify = _blocking(_calls.identify)
    create_gallery = _blocking(_calls.create_gallery)
    get_gallery = _blocking(_calls.get_gallery)
    update_gallery = _blocking(_calls.update_gallery)
    delete_gallery = _blocking(_calls.delete_gallery)
    delete_gallery_copy = _blocking(_calls.delete_gallery_copy)
    enroll = _blocking(_calls.enroll)
    get_identity = _blocking(_calls.get_identity)
    update_identity = _blocking(_calls.update_identity)
    delete_identity = _blocking(_calls.delete_identity)
    delete_template = _blocking(_calls.delete_template)
    get_curve = _blocking(_calls.get_curve)
    set_curve = _blocking(_calls.set_curve)
    delete_curve = _blocking(_calls.delete_curve)
    calibrate_gallery = _working(_calls.calibrate_gallery)
    compact = _working(_calls.compact)
    migrate_gallery = _working(_calls.migrate_gallery)
    move_gallery = _working(_calls.move_gallery)

    def __init__(self, options: Options) -> None:
        self._options = options
        target, settings, credentials = options.target, list(options.channel_options), options.credentials
        self._channel = (
            grpc.insecure_channel(target, settings)
            if credentials is None
            else grpc.secure_channel(target, credentials, settings)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection, and the calls that are under way."""
        self._channel.close()

    @property
    def channel(self) -> grpc.Channel:
        """The connection, for the stubs in `facematch.v1`."""
        return self._channel

    def galleries(self, *, page_size: int = 100, timeout: float | None = None) -> Iterator[model.Gallery]:
        """Yields all galleries by id, fetched a page at a time."""
        return self._pages(lambda token: _calls.list_galleries(token, page_size, timeout))

    def identities(
        self, gallery_id: str, *, page_size: int = 100, timeout: float | None = None
    ) -> Iterator[model.Identity]:
        """Yields all identities of a gallery by id, fetched a page at a time."""
        return self._pages(lambda token: _calls.list_identities(gallery_id, token, page_size, timeout))

    def bulk_enroll(
        self,
        gallery_id: str,
        items: Iterable[model.BulkItem],
        *,
        if_exists: model.IfExists = model.IfExists.ADD,
        face_selection: model.FaceSelection = model.FaceSelection.LARGEST,
        detection: model.DetectionOptions | None = None,
        progress: Callable[[model.BulkProgress], object] | None = None,
        window: int = 64,
        patience: float = 60.0,
    ) -> BulkEnrollment:
        """Enrols many people; yields each item's result, in any order, as soon as it is durable.

        Items are taken as the server has room, `window` at a time, so the source may be endless. A bad item fails
        alone. A stream that breaks off is gone on with until no result has come for `patience` seconds. Then the error
        is raised; the same call with the same items enrols what is missing, since what an identity has under an item's
        key is not enrolled again.
        """
        talk = _talks.BulkTalk(gallery_id, if_exists, face_selection, detection)
        counts = model.BulkProgress()

        def resumed() -> None:
            counts.resumed += 1

        exchange = Exchange(self._connect(_calls.BULK_ENROLL), talk, items, window, self._patience(patience), resumed)
        return BulkEnrollment(exchange.run(), counts, progress)

    def identify_many(
        self,
        gallery_id: str,
        probes: Iterable[model.Source],
        *,
        window: int = 64,
        patience: float = 60.0,
        **search: Unpack[model.SearchOptions],
    ) -> Iterator[model.ProbeAnswer]:
        """Answers for many probes, in any order, each with its position. `search` is as for `identify`.

        Probes share passes over the gallery. A bad one fails alone, and a stream that breaks off is gone on with.
        """
        talk = _talks.ProbeTalk(_calls.search(gallery_id, **search))
        connect, numbered = self._connect(_calls.IDENTIFY_STREAM), enumerate(probes)
        return Exchange(connect, talk, numbered, window, self._patience(patience)).run()

    def export_gallery(
        self,
        gallery_id: str,
        file: _transfer.File,
        *,
        progress: Callable[[model.TransferProgress], object] | None = None,
    ) -> model.Export:
        """Writes a gallery as a file, while searches and writes go on. A path is there only once it is whole."""
        with _transfer.new_file(file) as new:
            return self._work(_calls.export_gallery(gallery_id, new.write, progress))

    def import_gallery(
        self,
        gallery_id: str,
        file: _transfer.File,
        *,
        progress: Callable[[model.TransferProgress], object] | None = None,
    ) -> model.Gallery:
        """Makes a gallery from a file of `export_gallery`, which must be seekable. It is there once all has come.

        One that broke off, also in an earlier call, is gone on with.
        """
        tell = progress or (lambda _: None)
        with _transfer.opened(file) as source:
            sending = _transfer.Import(gallery_id, source, lambda done: tell(model.TransferProgress(bytes_done=done)))
            attempt = 0
            while True:
                attempt += 1
                try:
                    return self._import(sending)
                except errors.FacematchError as error:
                    delay = _transfer.delay(self._options.retry, error, attempt)
                    if delay is None:
                        raise
                time.sleep(delay)

    def _import(self, sending: _transfer.Import) -> model.Gallery:
        try:
            state = self._run(_calls.get_import(sending.gallery_id))
        except errors.NotFoundError:
            state = None
        method = _calls.IMPORT
        call = self._channel.stream_unary(method.path, _to_bytes, method.reply.FromString)
        try:
            reply = call(sending.requests(sending.offset(state)), metadata=self._options.metadata())
        except grpc.RpcError as error:
            raise errors.from_grpc(error) from error
        return _calls.imported(reply)

    def _run(self, call: Call[R]) -> R:
        options = self._options
        deadline = time.monotonic() + (options.timeout if call.timeout is None else call.timeout)
        send = self._channel.unary_unary(call.method.path, _to_bytes, call.method.reply.FromString)
        attempt = 0
        while True:
            attempt += 1
            try:
                left = max(0.0, deadline - time.monotonic())
                return call.result(send(call.request, timeout=left, metadata=options.metadata()))
            except grpc.RpcError as error:
                failed = errors.from_grpc(error)
                delay = options.retry.delay(failed, attempt, safe=call.safe)
                if delay is None or time.monotonic() + delay >= deadline:
                    raise failed from error
            time.sleep(delay)

    def _work(self, work: Work[Any, R]) -> R:
        metadata = self._options.metadata()
        path, reply = work.method.path, work.method.reply.FromString
        replies = (
            self._channel.stream_stream(path, _to_bytes, reply)(iter([work.request]), metadata=metadata)
            if work.streams_requests
            else self._channel.unary_stream(path, _to_bytes, reply)(work.request, metadata=metadata)
        )
        try:
            for message in replies:
                state = work.step(message)
                if work.progress is not None:
                    work.progress(state)
        except grpc.RpcError as error:
            raise errors.from_grpc(error) from error
        finally:
            replies.cancel()  # where a step or the caller's function has failed
        return work.result()

    def _pages(self, page: Callable[[str], Call[tuple[list[R], str]]]) -> Iterator[R]:
        found, token = self._run(page(""))
        yield from found
        while token:
            found, token = self._run(page(token))
            yield from found

    def _connect(self, method: Method) -> Callable[[Iterator[Message]], Any]:
        open_stream = self._channel.stream_stream(method.path, _to_bytes, method.reply.FromString)
        return lambda requests: open_stream(requests, metadata=self._options.metadata())

    def _patience(self, seconds: float) -> Patience:
        return Patience(self._options.retry, seconds)


def _to_bytes(message: Message) -> bytes:
    return message.SerializeToString()


class BulkEnrollment(Iterator[model.BulkResult]):
    """The results of a bulk enrolment, as they come."""

    def __init__(
        self,
        results: Iterator[model.BulkResult],
        counts: model.BulkProgress,
        tell: Callable[[model.BulkProgress], object] | None,
    ) -> None:
        self._results = results
        self._tell = tell
        #: How far it is.
        self.progress = counts

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> model.BulkResult:
        result = next(self._results)
        _talks.count(self.progress, result)
        if self._tell is not None:
            self._tell(self.progress)
        return result

    def wait(self) -> model.BulkProgress:
        """Goes to the end for whom the counts are enough."""
        for _ in self:
            pass
        return self.progress
