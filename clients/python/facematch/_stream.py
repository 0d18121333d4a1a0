"""Many items over a stream that may break off: each is sent until it has its result.

What is sent and not answered is held (`Ledger`), bounded in number and bytes, and sent again on the next stream.
`Exchange` and `AsyncExchange` are the same with threads and with asyncio.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from facematch import errors
from facematch._transport import Retry, is_transient

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")
C = TypeVar("C", covariant=True)

#: Bytes of what is on its way, beside one item.
_BYTES_MAX = 256 << 20

_END = object()


@dataclass(frozen=True)
class Sent(Generic[I]):
    """An item as it is sent."""

    key: Hashable
    item: I
    message: Message


class Talk(Protocol[I, C]):
    """What is said on a stream."""

    def first(self) -> Message:
        """The first message of each stream."""

    def send(self, item: I) -> Sent[I] | C:
        """Makes an item's message; where its photo cannot be read, the result that it then has."""

    def answer(self, reply: Any) -> tuple[Hashable, Callable[[I], C]] | None:
        """Tells whose answer a reply is and what it says; `None` where it is nobody's."""


@dataclass
class Ledger(Generic[I]):
    """What is on its way, and what is to be sent again."""

    items_max: int
    waiting: collections.deque[Sent[I]] = field(default_factory=collections.deque)
    in_flight: dict[Hashable, collections.deque[Sent[I]]] = field(default_factory=dict)
    count: int = 0
    size: int = 0

    @property
    def can_take(self) -> bool:
        """Whether something may be sent now."""
        return bool(self.waiting) or (self.count < self.items_max and self.size < _BYTES_MAX)

    def add(self, sent: Sent[I]) -> Sent[I]:
        """Notes that an item is on its way. Items of one key are each noted."""
        self.in_flight.setdefault(sent.key, collections.deque()).append(sent)
        self.count += 1
        self.size += sent.message.ByteSize()
        return sent

    def settle(self, key: Hashable) -> I | None:
        """Takes off an item that has its answer."""
        of_key = self.in_flight.get(key)
        if not of_key:
            return None
        sent = of_key.popleft()
        if not of_key:
            del self.in_flight[key]
        self.count -= 1
        self.size -= sent.message.ByteSize()
        return sent.item

    def broke(self) -> None:
        """Notes that the stream broke off: what has no answer is to be sent again."""
        for of_key in self.in_flight.values():
            self.waiting.extend(of_key)
        self.in_flight.clear()
        self.count = self.size = 0


class Patience:
    """How long a stream that breaks off is gone on with: until no result has come for so many seconds."""

    def __init__(self, retry: Retry, seconds: float) -> None:
        self._retry = retry
        self._seconds = seconds
        self._attempts = 0
        self._since: float | None = None

    def answered(self) -> None:
        """Notes a result."""
        self._attempts, self._since = 0, None

    def wait(self, error: errors.FacematchError, *, idle: bool) -> float:
        """Seconds to wait before the next stream; raises the error where there is to be none."""
        if isinstance(error, errors.DeadlineExceededError):
            # The source was slower than the server waits for a message: nothing is wrong.
            if idle:
                return 0.0
        elif not is_transient(error, safe=True):
            raise error
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        self._attempts += 1
        delay = self._retry.wait(error, self._attempts)
        if now + delay - self._since > self._seconds:
            raise error
        return delay


class _Stream:
    """One try of an exchange."""

    over = False


class Exchange(Generic[I, R]):
    """Sends items in grpc's thread while results are read in the caller's."""

    def __init__(
        self,
        connect: Callable[[Iterator[Message]], Any],
        talk: Talk[I, R],
        items: Iterable[I],
        window: int,
        patience: Patience,
        resumed: Callable[[], None] = lambda: None,
    ) -> None:
        self._connect = connect
        self._talk = talk
        self._items = iter(items)
        self._patience = patience
        self._resumed = resumed
        self._ledger: Ledger[I] = Ledger(window)
        self._changed = threading.Condition()
        self._pulling = threading.Lock()
        self._local: collections.deque[R] = collections.deque()
        self._ended = False
        self._fault: BaseException | None = None

    def run(self) -> Iterator[R]:
        """Yields each item's result, in any order."""
        while True:
            # No stream is open while the source has nothing: a server does not wait for ever.
            stream = _Stream()
            first = self._take(stream)
            yield from self._take_local()
            if first is None:
                break
            delay: float | None = None
            call = self._connect(self._requests(stream, first))
            try:
                for reply in call:
                    yield from self._results(reply)
            except grpc.RpcError as error:
                delay = self._patience.wait(errors.from_grpc(error), idle=not self._ledger.count)
            finally:
                call.cancel()
                with self._changed:
                    stream.over = True
                    self._ledger.broke()
                    self._changed.notify_all()
            yield from self._take_local()
            if delay is not None:
                self._resumed()
                time.sleep(delay)
        if self._fault is not None:
            raise self._fault

    def _results(self, reply: Any) -> Iterator[R]:
        yield from self._take_local()
        answer = self._talk.answer(reply)
        if answer is None:
            return
        with self._changed:
            item = self._ledger.settle(answer[0])
            self._changed.notify_all()
        if item is not None:
            self._patience.answered()
            yield answer[1](item)

    def _take_local(self) -> Iterator[R]:
        while self._local:
            yield self._local.popleft()

    def _requests(self, stream: _Stream, first: Sent[I]) -> Iterator[Message]:
        yield self._talk.first()
        sent: Sent[I] | None = first
        while sent is not None:
            yield sent.message
            sent = self._take(stream)

    def _take(self, stream: _Stream) -> Sent[I] | None:
        """Waits for the next item to send on the stream; `None` where there is none or the stream is over."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: stream.over or self._ledger.can_take)
                if (again := self._again(stream)) is not None or stream.over:
                    return again
            with self._pulling:
                # While another thread waited for the source, its stream may have broken off.
                with self._changed:
                    if (again := self._again(stream)) is not None or stream.over or self._ended:
                        return again
                pulled = self._pull()
            with self._changed:
                if pulled is None:
                    return None
                if not isinstance(pulled, Sent):
                    self._local.append(pulled)
                elif not stream.over:
                    return self._ledger.add(pulled)
                else:
                    self._ledger.waiting.append(pulled)

    def _again(self, stream: _Stream) -> Sent[I] | None:
        if stream.over or not self._ledger.waiting:
            return None
        return self._ledger.add(self._ledger.waiting.popleft())

    def _pull(self) -> Sent[I] | R | None:
        """Takes the next item of the source. A fault of it is raised when what is on its way has its results."""
        try:
            for item in self._items:
                return self._talk.send(item)
        except Exception as fault:
            self._fault = fault
        self._ended = True
        return None


class AsyncExchange(Generic[I, R]):
    """Sends items in one task while results are read in the caller's."""

    def __init__(
        self,
        connect: Callable[[], Any],
        talk: Talk[I, R],
        items: Iterable[I] | AsyncIterable[I],
        window: int,
        patience: Patience,
        resumed: Callable[[], None] = lambda: None,
    ) -> None:
        self._connect = connect
        self._talk = talk
        self._items = items.__aiter__() if isinstance(items, AsyncIterable) else in_thread(iter(items))
        self._patience = patience
        self._resumed = resumed
        self._ledger: Ledger[I] = Ledger(window)
        self._changed = asyncio.Event()
        self._pulled: asyncio.Task[Sent[I] | R | None] | None = None
        self._local: collections.deque[R] = collections.deque()
        self._ended = False
        self._fault: BaseException | None = None

    async def run(self) -> AsyncIterator[R]:
        """Yields each item's result, in any order."""
        try:
            while True:
                first = await self._take()
                for result in self._take_local():
                    yield result
                if first is None:
                    break
                delay: float | None = None
                call = self._connect()
                sending = asyncio.ensure_future(self._send(call, first))
                try:
                    while (reply := await call.read()) is not grpc.aio.EOF:
                        for result in self._results(reply):
                            yield result
                    await _status(call)
                except grpc.RpcError as error:
                    delay = self._patience.wait(errors.from_grpc(error), idle=not self._ledger.count)
                finally:
                    sending.cancel()
                    call.cancel()
                    await asyncio.wait({sending})
                    self._ledger.broke()
                for result in self._take_local():
                    yield result
                if delay is not None:
                    self._resumed()
                    await asyncio.sleep(delay)
        finally:
            if self._pulled is not None:
                self._pulled.cancel()
        if self._fault is not None:
            raise self._fault

    def _results(self, reply: Any) -> Iterator[R]:
        yield from self._take_local()
        answer = self._talk.answer(reply)
        item = self._ledger.settle(answer[0]) if answer is not None else None
        self._changed.set()
        if answer is not None and item is not None:
            self._patience.answered()
            yield answer[1](item)

    def _take_local(self) -> Iterator[R]:
        while self._local:
            yield self._local.popleft()

    async def _send(self, call: Any, first: Sent[I]) -> None:
        """Sends what there is. Where the stream is over, whoever reads is told why."""
        sent: Sent[I] | None = first
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            await call.write(self._talk.first())
            # Where the server refuses the stream, its status is here now. A write that comes too late would hide it.
            await call.initial_metadata()
            while sent is not None:
                await call.write(sent.message)
                sent = await self._take()
            await call.done_writing()

    async def _take(self) -> Sent[I] | None:
        """Waits for the next item to send; `None` where there is none."""
        while True:
            while not self._ledger.can_take:
                self._changed.clear()
                await self._changed.wait()
            if self._ledger.waiting:
                return self._ledger.add(self._ledger.waiting.popleft())
            if self._ended:
                return None
            # A stream that breaks off must not break off the caller's generator: what it is at is for the next stream.
            self._pulled = self._pulled or asyncio.ensure_future(self._pull())
            pulled = await asyncio.shield(self._pulled)
            self._pulled = None
            if isinstance(pulled, Sent):
                return self._ledger.add(pulled)
            if pulled is not None:
                self._local.append(pulled)

    async def _pull(self) -> Sent[I] | R | None:
        """Takes the next item of the source. A fault of it is raised when what is on its way has its results."""
        try:
            async for item in self._items:
                return await asyncio.to_thread(self._talk.send, item)
        except Exception as fault:
            self._fault = fault
        self._ended = True
        return None


async def _status(call: Any) -> None:
    """Raises how a stream ended, where that was not well. Reading tells it too, but not in every case."""
    code = await call.code()
    if code is not grpc.StatusCode.OK:
        raise grpc.aio.AioRpcError(
            code, await call.initial_metadata(), await call.trailing_metadata(), details=await call.details()
        )


async def in_thread(items: Iterator[I]) -> AsyncIterator[I]:
    """Reads an iterator, which may block, outside the event loop."""
    while (item := await asyncio.to_thread(next, items, _END)) is not _END:
        yield item  # type: ignore[misc]
