"""A real server for tests, on a free port of the loopback."""

import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[3]
SAMPLES = ROOT / "models/samples"


def program() -> pathlib.Path:
    """The program under test."""
    stated = os.environ.get("FACEMATCH_PROGRAM")
    built = [ROOT / "target" / profile / "facematch" for profile in ("release", "debug")]
    found = [pathlib.Path(stated)] if stated else [path for path in built if path.is_file()]
    assert found, "no program: build it, or set FACEMATCH_PROGRAM"
    return found[0]


def people(name: str) -> list[pathlib.Path]:
    """The photos of a sample person."""
    return sorted((SAMPLES / "people" / name).glob("*.jpg"))


def stranger(name: str) -> pathlib.Path:
    """A photo of somebody who is not enrolled."""
    return SAMPLES / "strangers" / name / "1.jpg"


class Server:
    """`facematch serve` with the starter pack on a store of its own."""

    def __init__(self, data: pathlib.Path, *flags: str) -> None:
        self._data = data
        self._flags = flags
        self._process: subprocess.Popen[str] | None = None
        self.address = "127.0.0.1:0"

    def start(self) -> "Server":
        """Starts it, at the address that it had where it ran before."""
        environment = {
            "PATH": os.environ["PATH"],
            "FACEMATCH_PACK": str(ROOT / "models/starter"),
            "FACEMATCH_TUNE": "off",
            "ORT_DYLIB_PATH": os.environ.get("ORT_DYLIB_PATH", str(ROOT / ".runtime/libonnxruntime.so")),
        }
        serve = [program(), "serve", "--json", "--log", "error", "--listen", self.address, "--data", self._data]
        self._process = subprocess.Popen(
            [*serve, *self._flags], stdout=subprocess.PIPE, text=True, env=environment, cwd=self._data
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        assert said, "the server did not start: its log is above"
        self.address = json.loads(said)["address"]
        return self

    def stop(self) -> None:
        """Drains it."""
        self._end(lambda process: process.terminate())

    def kill(self) -> None:
        """Ends it at once, as a crash does."""
        self._end(lambda process: process.kill())

    def _end(self, how) -> None:
        process, self._process = self._process, None
        if process is not None:
            how(process)
            process.wait(timeout=30)
            process.stdout.close()
