"""What the package promises of itself."""

import inspect
import pathlib
import subprocess
import sys
import zipfile

import pytest
from google.protobuf.internal import enum_type_wrapper

import facematch
import generate
from facematch import model
from facematch.v1 import enrollment_service_pb2, face_service_pb2, gallery_service_pb2, match_service_pb2, types_pb2

HERE = pathlib.Path(__file__).resolve().parents[1]


def test_stubs_are_those_of_the_contract(tmp_path):
    generate.generate(tmp_path)
    fresh = {file.relative_to(tmp_path): file.read_bytes() for file in tmp_path.rglob("*.py*")}
    committed = {
        file.relative_to(HERE): file.read_bytes()
        for file in (HERE / "facematch/v1").glob("*.py*")
        if file.suffix in (".py", ".pyi")
    }
    assert len(fresh) == 21
    assert fresh == committed, "run `python generate.py`"


ENUMS = {
    model.FaceSelection: types_pb2.FaceSelection,
    model.ThresholdSource: types_pb2.ThresholdSource,
    model.ThresholdWarning: types_pb2.ThresholdWarning,
    model.SearchPath: types_pb2.SearchPath,
    model.VerifyDecision: face_service_pb2.VerifyDecision,
    model.IdentifyDecision: match_service_pb2.IdentifyDecision,
    model.SearchPolicy: gallery_service_pb2.SearchPolicy,
    model.CheckPolicy: gallery_service_pb2.CheckPolicy,
    model.Fusion: gallery_service_pb2.Fusion,
    model.IfExists: enrollment_service_pb2.IfExists,
    model.FindingKind: enrollment_service_pb2.FindingKind,
    model.BulkOutcome: enrollment_service_pb2.BulkEnrollOutcome,
}


@pytest.mark.parametrize(("own", "proto"), ENUMS.items(), ids=[kind.__name__ for kind in ENUMS])
def test_enumerations_are_those_of_the_contract(own, proto: enum_type_wrapper.EnumTypeWrapper):
    prefix = proto.keys()[0].removesuffix("UNSPECIFIED")
    assert {name.removeprefix(prefix): number for name, number in proto.items()} == {one.name: one.value for one in own}


def methods(kind):
    return {name: value for name, value in inspect.getmembers(kind) if not name.startswith("_") and callable(value)}


def test_both_clients_have_the_same_methods_documented():
    threads, tasks = methods(facematch.Client), methods(facematch.AsyncClient)
    assert threads.keys() == tasks.keys()
    assert len(threads) > 25
    for name, method in threads.items():
        assert inspect.getdoc(method), name
        assert inspect.getdoc(tasks[name]), name
        own, other = (list(inspect.signature(kind).parameters) for kind in (method, tasks[name]))
        assert own == other, name


def test_every_call_of_the_contract_has_a_method():
    """All but calibration by pairs, for which there are the stubs."""
    services = [
        service
        for module in (face_service_pb2, gallery_service_pb2, enrollment_service_pb2, match_service_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
    ]
    from facematch import _calls

    known = {value.path for value in vars(_calls).values() if isinstance(value, _calls.Method)}
    for service in services:
        for method in service.methods:
            assert f"/{service.full_name}/{method.name}" in known


def test_wheel_has_stubs_and_types(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=HERE, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("facematch-0.1.0-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"facematch/py.typed", "facematch/v1/types_pb2.py", "facematch/v1/types_pb2.pyi"} <= set(names)
    assert not [name for name in names if name.startswith("tests")]
