"""Galleries as files."""

import contextlib
import io
import subprocess
import time

import grpc
import pytest
from conftest import connected
from server import Server, people, program

import facematch
from facematch.v1 import gallery_service_pb2, gallery_service_pb2_grpc


@pytest.fixture
def full(client, gallery):
    for name in ("alex", "dana"):
        client.enroll(gallery, name, *people(name)[:2])
    return gallery


def test_gallery_moves_as_a_file(client, full, tmp_path):
    path, states = tmp_path / "staff.gallery", []
    written = client.export_gallery(full, path, progress=states.append)
    assert (written.identity_count, written.damaged_identity_count) == (2, 0)
    assert path.stat().st_size == written.bytes_done == states[-1].bytes_done
    assert states[-1].identity_total == 2
    assert [file.name for file in tmp_path.iterdir()] == ["staff.gallery"]
    done = []
    copy = client.import_gallery(f"{full}-copy", path, progress=lambda state: done.append(state.bytes_done))
    assert (copy.gallery_id, copy.identity_count, copy.template_count) == (f"{full}-copy", 2, 4)
    assert done[-1] == written.bytes_done
    assert client.identify(copy.gallery_id, people("alex")[2], cosine=0.48).identity_id == "alex"


def test_gallery_moves_through_open_files(client, full):
    file = io.BytesIO()
    file.write(b"before")
    client.export_gallery(full, file)
    file.seek(6)
    assert client.import_gallery(f"{full}-open", file).identity_count == 2


def test_gallery_moves_to_another_store_and_back(tmp_path):
    (tmp_path / "data").mkdir()
    other = str(tmp_path / "other")
    server = Server(tmp_path / "data", "--second-store", other).start()
    try:
        with facematch.connect(server.address) as client:
            client.create_gallery("staff")
            client.enroll("staff", "alex", *people("alex")[:2])
            moved = client.move_gallery("staff", other)
            assert (moved.identity_count, moved.compared_count, moved.switched) == (1, 1, True)
            client.enroll("staff", "dana", people("dana")[0])
            assert client.move_gallery("staff", str(tmp_path / "data"), as_it_was=True).switched
            assert client.get_gallery("staff").identity_count == 1
            client.delete_gallery_copy("staff")
            with pytest.raises(facematch.NotFoundError) as absent:
                client.delete_gallery_copy("staff")
            assert absent.value.reason == "COPY_NOT_FOUND"
    finally:
        server.stop()


def test_failed_export_leaves_no_file(client, tmp_path):
    with pytest.raises(facematch.NotFoundError):
        client.export_gallery("absent", tmp_path / "absent.gallery")
    assert list(tmp_path.iterdir()) == []


def test_export_that_the_caller_breaks_off_leaves_no_file(client, full, tmp_path):
    def stop(_):
        raise KeyError("enough")

    with pytest.raises(KeyError):
        client.export_gallery(full, tmp_path / "half.gallery", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_damaged_and_foreign_files_are_refused(client, full, tmp_path):
    file = io.BytesIO()
    client.export_gallery(full, file)
    damaged = bytearray(file.getvalue())
    damaged[len(damaged) // 2] ^= 1
    for content in (bytes(damaged), b"no gallery", b""):
        with pytest.raises(facematch.InvalidArgumentError) as raised:
            client.import_gallery(f"{full}-damaged", io.BytesIO(content))
        assert raised.value.reason == "GALLERY_FILE_DAMAGED"


class Breaking(io.BytesIO):
    """A file that the caller loses hold of in the middle, once."""

    def __init__(self, content, then):
        super().__init__(content)
        self._then = then
        self.positions = []

    def seek(self, position, whence=0):
        self.positions.append(position)
        return super().seek(position, whence)

    def read(self, size=-1):
        if self._then is not None and self.tell() > 6 << 20:
            then, self._then = self._then, None
            then()
        return super().read(size)


def synthesized(client, folder):
    """A file of 9 MiB, of people who do not exist."""
    path = folder / "people.gallery"
    pack_id = client.detect(people("alex")[0]).pack_id
    synthesize = [program(), "gallery", "synthesize", path, "--templates", "5000", "--pack-id", pack_id]
    subprocess.run(synthesize, check=True, capture_output=True)
    return path


def test_import_into_what_is_there_is_refused_whatever_is_on_its_way(client, gallery, tmp_path):
    with pytest.raises(facematch.AlreadyExistsError, match="GALLERY_EXISTS"):
        client.import_gallery(gallery, synthesized(client, tmp_path))


def wait_for_a_step(address):
    """Waits until some of the import is on the disk: a second step of 2 MiB begins when the first is durable."""
    with facematch.connect(address) as other:
        stub = gallery_service_pb2_grpc.GalleryServiceStub(other.channel)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with contextlib.suppress(grpc.RpcError):  # there is none yet
                if stub.GetImport(gallery_service_pb2.GetImportRequest(gallery_id="copy"), timeout=5).offset > 3 << 20:
                    return
    raise AssertionError("no step")


def test_import_goes_on_over_a_restart(kind, tmp_path):
    server = Server(tmp_path).start()
    try:
        with connected(kind, server.address) as client:
            large = synthesized(client, tmp_path)

            def restart():
                wait_for_a_step(server.address)
                server.kill()
                server.start()

            file = Breaking(large.read_bytes(), restart)
            copy = client.import_gallery("copy", file)
            assert copy.template_count == 5000
            # From the start, and then from where it broke off.
            assert file.positions[0] == 0 < file.positions[-1]
    finally:
        server.stop()
