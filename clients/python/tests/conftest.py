import asyncio
import contextlib
import inspect
import itertools

import pytest
from server import Server

import facematch


class Blocking:
    """An AsyncClient that is called as a Client is, so that one test holds for both."""

    def __init__(self, loop, client):
        self._loop = loop
        self._client = client

    def __getattr__(self, name):
        def call(*arguments, **named):
            answer = getattr(self._client, name)(*arguments, **named)
            if inspect.isawaitable(answer):
                return self._loop.run_until_complete(answer)
            return _Blocking(self._loop, answer) if hasattr(answer, "__aiter__") else answer

        return call


class _Blocking:
    def __init__(self, loop, results):
        self._loop = loop
        self._results = results

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return self._loop.run_until_complete(self._results.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def __getattr__(self, name):
        value = getattr(self._results, name)
        if not inspect.iscoroutinefunction(value):
            return value
        return lambda: self._loop.run_until_complete(value())


@contextlib.contextmanager
def connected(kind, address, **options):
    """A client of either kind."""
    if kind == "threads":
        with facematch.connect(address, **options) as client:
            yield client
        return

    async def connect():
        return facematch.connect_async(address, **options)

    loop = asyncio.new_event_loop()
    client = loop.run_until_complete(connect())
    yield Blocking(loop, client)
    loop.run_until_complete(client.close())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.fixture(params=["threads", "asyncio"])
def kind(request):
    return request.param


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("store")).start()
    yield running
    running.stop()


@pytest.fixture
def client(kind, server):
    with connected(kind, server.address) as client:
        yield client


@pytest.fixture(scope="session")
def _numbers():
    return itertools.count()


@pytest.fixture
def gallery(client, _numbers):
    """A gallery of the test's own."""
    gallery_id = f"gallery-{next(_numbers)}"
    client.create_gallery(gallery_id, ambiguity_margin=0.0)
    return gallery_id


@pytest.fixture(scope="session")
def nobody():
    """A gray picture: a BMP of 64 x 64 pixels without a face."""
    side, pixels = 64, bytes([128]) * (64 * 64 * 3)
    header = b"BM" + (54 + len(pixels)).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    sizes = (40).to_bytes(4, "little") + side.to_bytes(4, "little") * 2 + (1).to_bytes(2, "little")
    return header + sizes + (24).to_bytes(2, "little") + bytes(24) + pixels
