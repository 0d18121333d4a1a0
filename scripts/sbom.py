#!/usr/bin/env python3
"""Prints a CycloneDX bill of materials of the program, from Cargo.lock and `cargo metadata`: nothing is built or installed.

What is linked into the program is `required` (macros too), what only its build runs is `excluded`; tests and benches are
not in it. The same commit makes the same bytes: the date is SOURCE_DATE_EPOCH's, or the commit's.
"""
import datetime
import hashlib
import json
import os
import pathlib
import re
import subprocess
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = "x86_64-unknown-linux-gnu"


def output(*command):
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def timestamp():
    seconds = os.environ.get("SOURCE_DATE_EPOCH") or output("git", "log", "-1", "--format=%ct")
    return datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def reached(nodes, start, kinds):
    """Ids of what a package needs, directly or not, by dependencies of the given kinds."""
    found, waiting = set(), [start]
    while waiting:
        for dependency in nodes[waiting.pop()]["deps"]:
            if kinds & {kind["kind"] for kind in dependency["dep_kinds"]} and dependency["pkg"] not in found:
                found.add(dependency["pkg"])
                waiting.append(dependency["pkg"])
    return found


def reference(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, checksums, scope):
    found = {
        "type": "library",
        "bom-ref": reference(package),
        "name": package["name"],
        "version": package["version"],
        "scope": scope,
        "purl": reference(package),
        # Cargo's older files write a slash for "or".
        "licenses": [{"expression": package["license"].replace("/", " OR ")}],
    }
    checksum = checksums.get((package["name"], package["version"]))
    if checksum:
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return found


def runtime_library():
    """The library that is loaded at run time: pinned in setup.sh, not in Cargo.lock."""
    script = (ROOT / "scripts/setup.sh").read_text()
    version = re.search(r"^ONNXRUNTIME_VERSION=(\S+)$", script, re.M)[1]
    sha256 = re.search(r'"Linux x86_64"\) ONNXRUNTIME_SHA256=([0-9a-f]{64})', script)[1]
    purl = f"pkg:pypi/onnxruntime@{version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": "onnxruntime",
        "version": version,
        "description": "libonnxruntime.so of the Python package, loaded at run time",
        "scope": "required",
        "purl": purl,
        "licenses": [{"expression": "MIT"}],
        "hashes": [{"alg": "SHA-256", "content": sha256}],
    }


def main():
    metadata = json.loads(
        output("cargo", "metadata", "--locked", "--format-version=1", f"--filter-platform={TARGET}", "--all-features")
    )
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    lock = (ROOT / "Cargo.lock").read_bytes()
    locked = tomllib.loads(lock.decode())["package"]
    checksums = {(package["name"], package["version"]): package.get("checksum") for package in locked}

    linked = reached(nodes, root, {None})
    built = reached(nodes, root, {None, "build"})
    library = runtime_library()
    components = [component(packages[id], checksums, "required" if id in linked else "excluded") for id in built]
    depends = lambda id: sorted(
        reference(packages[dependency["pkg"]])
        for dependency in nodes[id]["deps"]
        if dependency["pkg"] in built and {None, "build"} & {kind["kind"] for kind in dependency["dep_kinds"]}
    )
    dependencies = [{"ref": reference(packages[id]), "dependsOn": depends(id)} for id in built | {root}]
    for entry in dependencies:
        if entry["ref"] == reference(packages[root]):
            entry["dependsOn"].append(library["bom-ref"])
    own = component(packages[root], checksums, "required") | {"type": "application"}
    del own["scope"]
    when = timestamp()
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.UUID(bytes=hashlib.sha256(lock + when.encode()).digest()[:16], version=4)}",
        "version": 1,
        "metadata": {"timestamp": when, "component": own},
        "components": sorted([*components, library], key=lambda found: found["bom-ref"]),
        "dependencies": sorted([*dependencies, {"ref": library["bom-ref"]}], key=lambda entry: entry["ref"]),
    }
    print(json.dumps(bom, indent=1))


main()
