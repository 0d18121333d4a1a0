"""Runs examples against a real server: in plaintext, and by TLS with certificates of both sides, ended by a proxy here.

Usage: .venv-clients/bin/python clients/examples/check.py go java typescript
Those that are built: see their READMEs.
FACEMATCH_PROGRAM: the server, if not that of target/.
"""

import asyncio
import os
import pathlib
import ssl
import subprocess
import sys
import tempfile
import threading

import trustme
from cryptography.hazmat.primitives import serialization

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "python"), str(HERE.parent / "python/tests")]

import facematch  # noqa: E402
from server import Server, people, stranger  # noqa: E402

COMMANDS = {
    "go": [HERE / "go/client"],
    "java": [HERE / "java/debian.sh"],
    "csharp": ["dotnet", "run", "--project", HERE / "csharp", "--"],
    "typescript": ["node", HERE / "typescript/dist/main.mjs"],
}
#: These name a server by its URL, the others by host and port.
BY_URL = {"csharp", "typescript"}
#: Debian's netty has no ALPN, without which there is no HTTP/2 over TLS.
PLAINTEXT_ONLY = {"java"}


def start_tls(folder, address):
    """Ends TLS, asking for the caller's certificate, and hands on to the server. Returns its port and the settings."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    mine = authority.issue_cert("client.example")
    key = serialization.load_pem_private_key(mine.private_key_pem.bytes(), None)
    # PKCS #8: Java reads no other.
    pkcs8 = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "me.key").write_bytes(key.private_bytes(*pkcs8))
    for blob in mine.cert_chain_pems:
        blob.write_to_path(folder / "me.pem", append=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    host, port = address.split(":")
    ready, listening = threading.Event(), []

    async def pump(reader, writer):
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    async def hand_on(reader, writer):
        there = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer), return_exceptions=True)

    async def serve():
        server = await asyncio.start_server(hand_on, "localhost", 0, ssl=context)
        listening.append(server.sockets[0].getsockname()[1])
        ready.set()
        await server.serve_forever()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    ready.wait()
    settings = {"CA": "ca.pem", "CERTIFICATE": "me.pem", "PRIVATE_KEY": "me.key"}
    return listening[0], {f"FACEMATCH_{name}": str(folder / file) for name, file in settings.items()}


def run(language, address, arguments, **settings):
    """Runs an example; returns its exit code and what it said."""
    scheme = "https" if "FACEMATCH_CA" in settings else "http"
    where = f"{scheme}://{address}" if language in BY_URL else address
    done = subprocess.run(
        [*COMMANDS[language], where, *arguments],
        env={**os.environ, "FACEMATCH_KEY": "a-key", **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, (done.stdout + done.stderr).strip()


def check(language, address, tls_port, tls):
    """Asks what has known answers."""
    alex, dana = people("alex"), people("dana")
    cases = [
        ("one person, enrolled", ["staff", alex[0], alex[2]], 0, ["MATCH  score 0.", "threshold 0.", "\nMATCH  alex"]),
        ("two people", ["staff", alex[0], dana[2]], 0, ["NO MATCH  score", "\nMATCH  dana"]),
        ("a stranger", ["staff", alex[0], stranger("morgan")], 0, ["NO MATCH  score", "\nNO MATCH"]),
        ("no such gallery", ["absent", alex[0], alex[2]], 2, ["GALLERY_NOT_FOUND"]),
        ("no photo", ["staff", __file__, alex[2]], 2, ["PHOTO_UNSUPPORTED_FORMAT, a.photo"]),
    ]
    ways = [("plaintext", address, {}), ("TLS", f"localhost:{tls_port}", tls)]
    if language in PLAINTEXT_ONLY:
        ways.pop()
    for name, arguments, code, expected in cases:
        for way, where, settings in ways:
            found, said = run(language, where, arguments, **settings)
            if found != code or not all(part in said for part in expected):
                raise SystemExit(f"{language}, {name}, {way}: exit code {found}\n{said}")
    if language not in PLAINTEXT_ONLY:
        found, said = run(language, f"localhost:{tls_port}", cases[0][1], FACEMATCH_CA=tls["FACEMATCH_CA"])
        if found == 0:
            raise SystemExit(f"{language}: answered without a certificate\n{said}")
    found, said = run(language, "facematch.invalid:50051", cases[0][1])
    if found == 0 or "MATCH  " in said:
        raise SystemExit(f"{language}: a key was sent in plain sight\n{said}")
    print(f"{language}: {len(cases)} questions answered rightly, by {' and '.join(way for way, _, _ in ways)}")


def main():
    """Starts a server with two people and runs the examples."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        server = Server(folder).start()
        try:
            with facematch.connect(server.address) as client:
                client.create_gallery("staff", identification_cosine=0.48, ambiguity_margin=0.0)
                for person in ("alex", "dana"):
                    client.enroll("staff", person, *people(person)[:2])
            port, tls = start_tls(folder, server.address)
            for language in sys.argv[1:]:
                check(language, server.address, port, tls)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
