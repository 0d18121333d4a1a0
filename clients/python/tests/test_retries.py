"""Which calls are sent again, and when."""

import time

import grpc
import pytest
from conftest import connected
from scripted import Script, details, scripted
from server import people

import facematch
from facematch import IfExists, Retry

FAST = Retry(delay_min=0.01)
UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, details(grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"))


def overloaded(delay, reason="OVERLOADED"):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    return (code, details(code, reason, retry_after=delay))


def run(kind, script, call, **options):
    """Makes a call of a scripted server; returns how long it took."""
    with scripted(script) as address, connected(kind, address, **{"retry": FAST, **options}) as client:
        began = time.monotonic()
        call(client)
        return time.monotonic() - began


READS = {
    "health": lambda client: client.health(),
    "detect": lambda client: client.detect(b"x"),
    "embed": lambda client: client.embed(b"x"),
    "verify": lambda client: client.verify(b"x", b"y"),
    "identify": lambda client: client.identify("g", b"x"),
    "get_gallery": lambda client: client.get_gallery("g"),
    "galleries": lambda client: list(client.galleries()),
    "get_identity": lambda client: client.get_identity("g", "i"),
    "identities": lambda client: list(client.identities("g")),
    "get_curve": lambda client: client.get_curve("g"),
    "update_gallery": lambda client: client.update_gallery("g", display_name="n"),
    "update_identity": lambda client: client.update_identity("g", "i", display_name="n"),
    "enroll, added": lambda client: client.enroll("g", "i", b"x", if_exists=IfExists.ADD),
}
WRITES = {
    "create_gallery": lambda client: client.create_gallery("g"),
    "delete_gallery": lambda client: client.delete_gallery("g"),
    "enroll": lambda client: client.enroll("g", "i", b"x"),
    "delete_identity": lambda client: client.delete_identity("g", "i"),
    "delete_template": lambda client: client.delete_template("g", "i", "t"),
    "delete_curve": lambda client: client.delete_curve("g"),
}


@pytest.mark.parametrize("call", READS.values(), ids=READS)
def test_safe_call_is_sent_again_after_unavailable(kind, call):
    script = Script(UNAVAILABLE, UNAVAILABLE)
    run(kind, script, call)
    assert len(script.paths) == 3


@pytest.mark.parametrize("call", WRITES.values(), ids=WRITES)
def test_other_write_is_not_sent_again_after_unavailable(kind, call):
    script = Script(UNAVAILABLE)
    with pytest.raises(facematch.UnavailableError):
        run(kind, script, call)
    assert len(script.paths) == 1


@pytest.mark.parametrize("call", [WRITES["enroll"], READS["detect"]], ids=["enroll", "detect"])
def test_refused_call_is_sent_again_after_the_delay_asked_for(kind, call):
    script = Script(overloaded(0.2), overloaded(0.1))
    assert run(kind, script, call) >= 0.3
    assert len(script.paths) == 3


def test_exhausted_without_the_engines_reason_is_not_sent_again(kind):
    script = Script(overloaded(0.0, reason="QUOTA"))
    with pytest.raises(facematch.OverloadedError):
        run(kind, script, READS["detect"])
    assert len(script.paths) == 1


def test_tries_end(kind):
    script = Script(*[UNAVAILABLE] * 9)
    with pytest.raises(facematch.UnavailableError):
        run(kind, script, READS["detect"], retry=Retry(attempts=3, delay_min=0.01))
    assert len(script.paths) == 3


def test_no_try_begins_past_the_deadline(kind):
    script = Script(overloaded(60.0))
    with pytest.raises(facematch.OverloadedError) as raised:
        assert run(kind, script, READS["detect"], timeout=5.0) < 5
    assert raised.value.retry_after == 60
    assert len(script.paths) == 1


def test_waits_grow_and_are_never_below_what_is_asked_for():
    retry = Retry(delay_min=0.1, delay_max=5.0)
    error = facematch.UnavailableError(grpc.StatusCode.UNAVAILABLE, "")
    for attempt in range(1, 60):
        ceiling = min(5.0, 0.1 * 2 ** (attempt - 1))
        waits = [retry.wait(error, attempt) for _ in range(50)]
        assert all(ceiling / 2 <= wait <= ceiling for wait in waits)
        assert len(set(waits)) > 1
    asked = facematch.OverloadedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "", reason="OVERLOADED", retry_after=2.0)
    assert retry.wait(asked, 1) >= 2.0


def test_reply_survives_a_restart_of_the_server(kind, tmp_path):
    import threading

    from server import Server

    server = Server(tmp_path).start()
    try:
        with connected(kind, server.address) as client:
            client.create_gallery("staff")
            client.enroll("staff", "alex", people("alex")[0])
            server.kill()
            again = threading.Thread(target=server.start)
            again.start()
            assert client.get_gallery("staff").identity_count == 1
            again.join()
    finally:
        server.stop()
