"""The client for asyncio."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message
from typing_extensions import Self, Unpack

from facematch import _calls, _talks, _transfer, errors, model
from facematch._calls import Call, Method, Work
from facematch._stream import AsyncExchange, Patience, in_thread
from facematch._transport import Options

A = ParamSpec("A")
R = TypeVar("R")


def _awaited(build: Callable[A, Call[R]]) -> Callable[Concatenate[AsyncClient, A], Coroutine[Any, Any, R]]:
    """Makes a method of a call's definition. Photos are read outside the event loop."""

    @functools.wraps(build)
    async def method(self: AsyncClient, /, *args: A.args, **kwargs: A.kwargs) -> R:
        return await self._run(await asyncio.to_thread(build, *args, **kwargs))

    return method


def _working(build: Callable[A, Work[Any, R]]) -> Callable[Concatenate[AsyncClient, A], Coroutine[Any, Any, R]]:
    """Makes a method of a definition of work."""

    @functools.wraps(build)
    async def method(self: AsyncClient, /, *args: A.args, **kwargs: A.kwargs) -> R:
        return await self._work(build(*args, **kwargs))

    return method


class AsyncClient:
    """A connection to a server, for the tasks of one event loop. Made by `facematch.connect_async`; a context manager.

    Its methods are those of `facematch.Client`, to be awaited or iterated over with `async for`.
    """

    health = _awaited(_calls.health)
    detect = _awaited(_calls.detect)
    embed = _awaited(_calls.embed)
    verify = _awaited(_calls.verify)
    identify = _awaited(_calls.identify)
    create_gallery = _awaited(_calls.create_gallery)
    get_gallery = _awaited(_calls.get_gallery)
    update_gallery = _awaited(_calls.update_gallery)
    delete_gallery = _awaited(_calls.delete_gallery)
    delete_gallery_copy = _awaited(_calls.delete_gallery_copy)
    enroll = _awaited(_calls.enroll)
    get_identity = _awaited(_calls.get_identity)
    update_identity = _awaited(_calls.update_identity)
    delete_identity = _awaited(_calls.delete_identity)
    delete_template = _awaited(_calls.delete_template)
    get_curve = _awaited(_calls.get_curve)
    set_curve = _awaited(_calls.set_curve)
    delete_curve = _awaited(_calls.delete_curve)
    calibrate_gallery = _working(_calls.calibrate_gallery)
    compact = _working(_calls.compact)
    migrate_gallery = _working(_calls.migrate_gallery)
    move_gallery = _working(_calls.move_gallery)

    def __init__(self, options: Options) -> None:
        self._options = options
        target, settings, credentials = options.target, list(options.channel_options), options.credentials
        self._channel = (
            grpc.aio.insecure_channel(target, settings)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, settings)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection, and the calls that are under way."""
        await self._channel.close()

    @property
    def channel(self) -> grpc.aio.Channel:
        """The connection, for the stubs in `facematch.v1`."""
        return self._channel

    def galleries(self, *, page_size: int = 100, timeout: float | None = None) -> AsyncIterator[model.Gallery]:
        """Yields all galleries by id, fetched a page at a time."""
        return self._pages(lambda token: _calls.list_galleries(token, page_size, timeout))

    def identities(
        self, gallery_id: str, *, page_size: int = 100, timeout: float | None = None
    ) -> AsyncIterator[model.Identity]:
        """Yields all identities of a gallery by id, fetched a page at a time."""
        return self._pages(lambda token: _calls.list_identities(gallery_id, token, page_size, timeout))

    def bulk_enroll(
        self,
        gallery_id: str,
        items: Iterable[model.BulkItem] | AsyncIterable[model.BulkItem],
        *,
        if_exists: model.IfExists = model.IfExists.ADD,
        face_selection: model.FaceSelection = model.FaceSelection.LARGEST,
        detection: model.DetectionOptions | None = None,
        progress: Callable[[model.BulkProgress], object] | None = None,
        window: int = 64,
        patience: float = 60.0,
    ) -> AsyncBulkEnrollment:
        """Enrols many people; yields each item's result, in any order, as soon as it is durable.

        As `Client.bulk_enroll`. Items that are no asynchronous iterable are taken in a thread, where they may block.
        """
        talk = _talks.BulkTalk(gallery_id, if_exists, face_selection, detection)
        counts = model.BulkProgress()

        def resumed() -> None:
            counts.resumed += 1

        connect = self._connect(_calls.BULK_ENROLL)
        exchange = AsyncExchange(connect, talk, items, window, self._patience(patience), resumed)
        return AsyncBulkEnrollment(exchange.run(), counts, progress)

    def identify_many(
        self,
        gallery_id: str,
        probes: Iterable[model.Source] | AsyncIterable[model.Source],
        *,
        window: int = 64,
        patience: float = 60.0,
        **search: Unpack[model.SearchOptions],
    ) -> AsyncIterator[model.ProbeAnswer]:
        """Answers for many probes, in any order, each with its position. As `Client.identify_many`."""
        talk = _talks.ProbeTalk(_calls.search(gallery_id, **search))
        numbered = _numbered(probes) if isinstance(probes, AsyncIterable) else enumerate(probes)
        connect = self._connect(_calls.IDENTIFY_STREAM)
        return AsyncExchange(connect, talk, numbered, window, self._patience(patience)).run()

    async def export_gallery(
        self,
        gallery_id: str,
        file: _transfer.File,
        *,
        progress: Callable[[model.TransferProgress], object] | None = None,
    ) -> model.Export:
        """Writes a gallery as a file, while searches and writes go on. A path is there only once it is whole."""
        with _transfer.new_file(file) as new:
            return await self._work(_calls.export_gallery(gallery_id, new.write, progress))

    async def import_gallery(
        self,
        gallery_id: str,
        file: _transfer.File,
        *,
        progress: Callable[[model.TransferProgress], object] | None = None,
    ) -> model.Gallery:
        """Makes a gallery from a file of `export_gallery`, which must be seekable. As `Client.import_gallery`."""
        loop = asyncio.get_running_loop()

        def tell(done: int) -> None:  # called where the file is read, in a thread
            if progress is not None:
                loop.call_soon_threadsafe(progress, model.TransferProgress(bytes_done=done))

        with _transfer.opened(file) as source:
            sending = _transfer.Import(gallery_id, source, tell)
            attempt = 0
            while True:
                attempt += 1
                try:
                    return await self._import(sending)
                except errors.FacematchError as error:
                    delay = _transfer.delay(self._options.retry, error, attempt)
                    if delay is None:
                        raise
                await asyncio.sleep(delay)

    async def _import(self, sending: _transfer.Import) -> model.Gallery:
        try:
            state = await self._run(_calls.get_import(sending.gallery_id))
        except errors.NotFoundError:
            state = None
        method = _calls.IMPORT
        call = self._channel.stream_unary(method.path, _to_bytes, method.reply.FromString)
        requests = in_thread(sending.requests(sending.offset(state)))
        try:
            reply = await call(requests, metadata=self._options.metadata())
        except grpc.RpcError as error:
            raise errors.from_grpc(error) from error
        return _calls.imported(reply)

    async def _run(self, call: Call[R]) -> R:
        options = self._options
        deadline = time.monotonic() + (options.timeout if call.timeout is None else call.timeout)
        send = self._channel.unary_unary(call.method.path, _to_bytes, call.method.reply.FromString)
        attempt = 0
        while True:
            attempt += 1
            try:
                left = max(0.0, deadline - time.monotonic())
                return call.result(await send(call.request, timeout=left, metadata=options.metadata()))
            except grpc.RpcError as error:
                failed = errors.from_grpc(error)
                delay = options.retry.delay(failed, attempt, safe=call.safe)
                if delay is None or time.monotonic() + delay >= deadline:
                    raise failed from error
            await asyncio.sleep(delay)

    async def _work(self, work: Work[Any, R]) -> R:
        metadata = self._options.metadata()
        path, reply = work.method.path, work.method.reply.FromString
        replies: Any = (
            self._channel.stream_stream(path, _to_bytes, reply)(iter([work.request]), metadata=metadata)
            if work.streams_requests
            else self._channel.unary_stream(path, _to_bytes, reply)(work.request, metadata=metadata)
        )
        try:
            async for message in replies:
                state = await asyncio.to_thread(work.step, message)
                if work.progress is not None:
                    work.progress(state)
        except grpc.RpcError as error:
            raise errors.from_grpc(error) from error
        finally:
            replies.cancel()  # where a step or the caller's function has failed
        return work.result()

    async def _pages(self, page: Callable[[str], Call[tuple[list[R], str]]]) -> AsyncIterator[R]:
        found, token = await self._run(page(""))
        for one in found:
            yield one
        while token:
            found, token = await self._run(page(token))
            for one in found:
                yield one

    def _connect(self, method: Method) -> Callable[[], Any]:
        open_stream = self._channel.stream_stream(method.path, _to_bytes, method.reply.FromString)
        return lambda: open_stream(metadata=self._options.metadata())

    def _patience(self, seconds: float) -> Patience:
        return Patience(self._options.retry, seconds)


def _to_bytes(message: Message) -> bytes:
    return message.SerializeToString()


async def _numbered(probes: AsyncIterable[model.Source]) -> AsyncIterator[tuple[int, model.Source]]:
    index = 0
    async for probe in probes:
        yield index, probe
        index += 1


class AsyncBulkEnrollment(AsyncIterator[model.BulkResult]):
    """The results of a bulk enrolment, as they come."""

    def __init__(
        self,
        results: AsyncIterator[model.BulkResult],
        counts: model.BulkProgress,
        tell: Callable[[model.BulkProgress], object] | None,
    ) -> None:
        self._results = results
        self._tell = tell
        #: How far it is.
        self.progress = counts

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> model.BulkResult:
        result = await self._results.__anext__()
        _talks.count(self.progress, result)
        if self._tell is not None:
            self._tell(self.progress)
        return result

    async def wait(self) -> model.BulkProgress:
        """Goes to the end for whom the counts are enough."""
        async for _ in self:
            pass
        return self.progress
