"""Many people over a stream, also over one that breaks off."""

import asyncio
import os
import threading

import pytest
from conftest import connected
from scripted import Script, details, scripted  # noqa: F401
from server import Server, people

import facematch
from facematch import BulkItem, BulkOutcome, IfExists

NAMES = ("alex", "billie", "charlie", "dana", "eden", "frankie")


def items(names=NAMES, photos=4):
    return [BulkItem(name, photo) for name in names for photo in people(name)[:photos]]


def test_every_item_has_its_result(client, gallery, nobody, tmp_path):
    given = [
        *items(("alex", "dana"), 2),
        BulkItem("nobody", nobody, key="gray"),
        BulkItem("broken", b"not a photo"),
        BulkItem("absent", tmp_path / "absent.jpg"),
        BulkItem("alex", people("alex")[0]),
    ]
    told = []
    stream = client.bulk_enroll(gallery, given, progress=lambda progress: told.append(progress.done))
    results = list(stream)
    assert told == list(range(1, 9))
    assert sorted(map(id, given)) == sorted(id(result.item) for result in results)
    outcomes = {result.item.identity_id: result for result in results}
    assert outcomes["nobody"].key == "gray"
    assert [outcomes[name].failure.reason for name in ("nobody", "broken", "absent")] == [
        "NO_FACE",
        "PHOTO_UNSUPPORTED_FORMAT",
        "PHOTO_UNREADABLE",
    ]
    progress = stream.progress
    assert (progress.enrolled, progress.already_enrolled, progress.refused, progress.failed) == (4, 1, 3, 0)
    assert progress.failures_to_acquire == 3
    assert progress.reasons == {"NO_FACE": 1, "PHOTO_UNSUPPORTED_FORMAT": 1, "PHOTO_UNREADABLE": 1}
    assert client.get_gallery(gallery).template_count == 4


def test_same_items_again_enrol_nothing_twice(client, gallery):
    assert client.bulk_enroll(gallery, items(("alex",))).wait().enrolled == 4
    assert client.bulk_enroll(gallery, items(("alex", "dana"))).wait().already_enrolled == 4
    assert client.get_gallery(gallery).template_count == 8
    refused = client.bulk_enroll(gallery, [BulkItem("alex", people("dana")[0])], if_exists=IfExists.REFUSE).wait()
    assert refused.reasons == {"IDENTITY_EXISTS": 1}


def test_embeddings_and_details_are_enrolled(client, gallery):
    embedding = client.embed(people("alex")[0])[0].embedding
    item = BulkItem("alex", embedding, display_name="Alex", metadata={"age": 30})
    (result,) = client.bulk_enroll(gallery, [item])
    assert (result.outcome, result.created) == (BulkOutcome.ENROLLED, True)
    kept = client.get_identity(gallery, "alex")
    assert (kept.display_name, dict(kept.metadata)) == ("Alex", {"age": 30.0})


def test_nothing_to_enrol_opens_no_stream(client):
    assert client.bulk_enroll("absent", []).wait().done == 0


def test_gallery_that_is_not_there_ends_it(client):
    with pytest.raises(facematch.NotFoundError):
        client.bulk_enroll("absent", items(("alex",))).wait()


def test_fault_of_the_source_is_raised_after_the_results(client, gallery):
    def source():
        yield from items(("alex",))
        raise RuntimeError("the source is broken")

    stream = client.bulk_enroll(gallery, source())
    results = [next(stream) for _ in range(4)]
    assert {result.outcome for result in results} == {BulkOutcome.ENROLLED}
    with pytest.raises(RuntimeError, match="the source is broken"):
        next(stream)


def test_source_is_taken_only_as_there_is_room(client, gallery):
    taken = []

    def source():
        for item in items():
            taken.append(item)
            yield item

    stream = client.bulk_enroll(gallery, source(), window=3)
    for done in range(1, 25):
        next(stream)
        # What is on its way, and one that the source has been asked for.
        assert len(taken) <= done + 3 + 1
    assert stream.wait().enrolled == 24


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_restart_in_the_middle_loses_nothing_and_enrols_nothing_twice(kind, how, tmp_path):
    server = Server(tmp_path).start()
    restarted = threading.Event()

    def restart():
        getattr(server, how)()
        server.start()
        restarted.set()

    try:
        with connected(kind, server.address) as client:
            client.create_gallery("staff")
            given, results = items() + items(), []
            stream = client.bulk_enroll("staff", given, window=8)
            worker = None
            for result in stream:
                results.append(result)
                if len(results) == 5:
                    worker = threading.Thread(target=restart)
                    worker.start()
            worker.join()
            assert restarted.is_set()
            assert stream.progress.resumed >= 1
            assert len(results) == len(given) == stream.progress.done
            assert sorted(map(id, given)) == sorted(id(result.item) for result in results)
            assert {result.outcome for result in results} == {BulkOutcome.ENROLLED, BulkOutcome.ALREADY_ENROLLED}
            kept = client.get_gallery("staff")
            assert (kept.identity_count, kept.template_count) == (6, 24)
    finally:
        server.stop()


def test_patience_ends(kind, tmp_path):
    server = Server(tmp_path).start()
    server.stop()
    with connected(kind, server.address) as client, pytest.raises(facematch.UnavailableError):
        client.bulk_enroll("staff", items(("alex",)), patience=0.5).wait()


def test_quiet_source_outlasts_the_servers_time(kind, tmp_path):
    server = Server(tmp_path, "--call-time-max-ms", "300").start()
    try:
        with connected(kind, server.address) as client:
            client.create_gallery("staff")
            ended = threading.Event()

            def source():
                yield from items(("alex",))
                ended.wait(1.5)  # five times what the server waits for a message
                yield from items(("dana",))

            # No patience at all: a source that has nothing is no fault.
            assert client.bulk_enroll("staff", source(), patience=0.0).wait().enrolled == 8
    finally:
        server.stop()


def test_abandoned_stream_ends_the_call(kind, tmp_path):
    server = Server(tmp_path, "--calls-max", "1").start()
    try:
        with connected(kind, server.address) as client:
            client.create_gallery("staff")
            for _ in client.bulk_enroll("staff", items(), window=4):
                break
            # The only permit is free again.
            assert client.get_gallery("staff").identity_count >= 1
    finally:
        server.stop()


async def test_asynchronous_source_goes_on_over_a_restart(tmp_path):
    server = await asyncio.to_thread(Server(tmp_path).start)

    async def source():
        for item in items():
            await asyncio.sleep(0)
            yield item

    try:
        async with facematch.connect_async(server.address) as client:
            await client.create_gallery("staff")
            stream, restart, done = client.bulk_enroll("staff", source(), window=4), None, 0
            async for result in stream:
                assert result.outcome in (BulkOutcome.ENROLLED, BulkOutcome.ALREADY_ENROLLED)
                done += 1
                if done == 5:
                    await asyncio.to_thread(server.kill)
                    restart = asyncio.ensure_future(asyncio.to_thread(server.start))
            await restart
            assert done == 24
            assert stream.progress.resumed >= 1
            assert (await client.get_gallery("staff")).template_count == 24
    finally:
        await asyncio.to_thread(server.stop)


async def test_calls_of_many_tasks_share_a_client(server):
    photos = [photo for name in NAMES for photo in people(name)]
    async with facematch.connect_async(server.address) as client:
        found = await asyncio.gather(*(client.detect(photo) for photo in photos))
    assert [len(one.faces) for one in found] == [1] * len(photos)


def test_folder_of_any_size_is_read_as_it_is_sent(client, gallery, tmp_path):
    """Photos that are there only while they are asked for: a source may make and remove them."""

    def source():
        for number, item in enumerate(items(("alex", "dana"))):
            path = tmp_path / f"{number}.jpg"
            path.write_bytes(item.source.read_bytes())
            yield BulkItem(item.identity_id, path)
            os.remove(path)

    assert client.bulk_enroll(gallery, source()).wait().enrolled == 8
