"""Makes the stubs in facematch/v1 from the contract. Usage: python generate.py [FOLDER]."""

import pathlib
import sys

import grpc_tools
from grpc_tools import protoc

HERE = pathlib.Path(__file__).resolve().parent
PROTO = HERE.parents[1] / "proto"
WELL_KNOWN = pathlib.Path(grpc_tools.__file__).parent / "_proto"


def generate(folder: pathlib.Path) -> None:
    """Writes facematch/v1/*_pb2.py, *_pb2.pyi and *_pb2_grpc.py below the folder."""
    files = [str(file) for file in sorted(PROTO.glob("facematch/v1/*.proto"))]
    into = [f"--{kind}_out={folder}" for kind in ("python", "pyi", "grpc_python")]
    if protoc.main(["protoc", f"-I{PROTO}", f"-I{WELL_KNOWN}", *into, *files]) != 0:
        raise SystemExit("the contract does not compile")


if __name__ == "__main__":
    generate(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
