"""Keys and TLS, against a server of the test's own."""

import grpc
import pytest
import trustme
from conftest import connected
from scripted import Script, scripted

import facematch
from facematch import Retry

ONCE = Retry(attempts=1)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def ca(authority):
    return authority.cert_pem.bytes()


def credentials(authority, *, asks=False):
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    pair = (leaf.private_key_pem.bytes(), b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    roots = authority.cert_pem.bytes() if asks else None
    return grpc.ssl_server_credentials([pair], roots, asks)


def test_key_is_sent_with_every_call_over_tls(kind, authority, ca, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_bytes(ca)
    script = Script()
    with scripted(script, credentials(authority)) as address:
        for stated in (ca, str(path), path):
            with connected(kind, f"https://{address}", ca=stated, key="s3cret") as client:
                client.get_gallery("staff")
    assert [metadata["authorization"] for metadata in script.metadata] == ["Bearer s3cret"] * 3


def test_key_is_asked_for_with_every_call(kind):
    script, keys = Script(), iter(["first", "second"])
    with scripted(script) as address, connected(kind, address, key=lambda: next(keys)) as client:
        client.get_gallery("staff")
        client.get_gallery("staff")
    assert [metadata["authorization"] for metadata in script.metadata] == ["Bearer first", "Bearer second"]


def test_without_a_key_none_is_sent(kind):
    script = Script()
    with scripted(script) as address, connected(kind, address) as client:
        client.get_gallery("staff")
    assert "authorization" not in script.metadata[0]


def test_server_of_another_authority_is_not_trusted(kind, authority):
    other = trustme.CA().cert_pem.bytes()
    script = Script()
    with (
        scripted(script, credentials(authority)) as address,
        connected(kind, f"https://{address}", ca=other, retry=ONCE) as client,
        pytest.raises(facematch.UnavailableError),
    ):
        client.get_gallery("staff")
    assert script.paths == []


def test_server_of_another_name_is_not_trusted_unless_it_is_stated(kind, authority, ca):
    leaf = authority.issue_cert("facematch.example")
    pair = (leaf.private_key_pem.bytes(), b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    script = Script()
    with scripted(script, grpc.ssl_server_credentials([pair])) as address:
        with connected(kind, address, ca=ca, retry=ONCE) as client, pytest.raises(facematch.UnavailableError):
            client.get_gallery("staff")
        with connected(kind, address, ca=ca, server_name="facematch.example") as client:
            client.get_gallery("staff")


def test_certificate_is_shown_to_a_server_that_asks(kind, authority, ca):
    mine = authority.issue_cert("client.example")
    chain = b"".join(blob.bytes() for blob in mine.cert_chain_pems)
    script = Script()
    with scripted(script, credentials(authority, asks=True)) as address:
        with connected(kind, address, ca=ca, retry=ONCE) as client, pytest.raises(facematch.UnavailableError):
            client.get_gallery("staff")
        with connected(kind, address, ca=ca, certificate=chain, private_key=mine.private_key_pem.bytes()) as client:
            client.get_gallery("staff")
    assert len(script.paths) == 1


@pytest.mark.parametrize(
    ("address", "options", "fault"),
    [
        ("facematch.corp:50051", {"key": "s3cret"}, "in plain sight"),
        ("http://10.0.0.7:50051", {"key": "s3cret"}, "in plain sight"),
        ("dns:///facematch:50051", {"key": "s3cret"}, "in plain sight"),
        ("http://localhost:50051", {"ca": b"x"}, "plaintext"),
        ("https://localhost:50051", {"certificate": b"x"}, "go together"),
        ("https://localhost:50051", {"private_key": b"x"}, "go together"),
    ],
)
def test_unsafe_and_halved_options_are_refused(address, options, fault):
    for connect in (facematch.connect, facematch.connect_async):
        with pytest.raises(ValueError, match=fault) as raised:
            connect(address, **options)
        assert "s3cret" not in str(raised.value)


def test_key_is_in_no_repr():
    with facematch.connect("localhost:1", key="s3cret") as client:
        assert "s3cret" not in repr(vars(client))


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "localhost:1", "[::1]:1", "http://localhost:1", "unix:/tmp/facematch", "127.9.9.9:1"]
)
def test_key_stays_on_this_machine_without_tls(address):
    facematch.connect(address, key="s3cret").close()
    facematch.connect("facematch.corp:50051", key="s3cret", allow_plaintext_key=True).close()
