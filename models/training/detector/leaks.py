"""Proves that no photo which is held out or for choosing is trained on: by name, and by content under any name.

    python leaks.py --faces FACES --state STATE [--look LOOK]
"""

import argparse
import hashlib
import json
import pathlib

from pictures import crowd_paths, part, portrait_paths


def leaks(trained, kept_apart):
    """Names in `trained` that are of another part or hold the same bytes as a file in `kept_apart`.

    Both map a name, of which the first folder or the file itself decides the part, to a path.
    """
    known = {hashlib.sha256(path.read_bytes()).digest() for path in kept_apart.values()}
    by_name = [name for name in trained if part(name.split("/")[0]) != "training"]
    by_content = [name for name, path in trained.items() if hashlib.sha256(path.read_bytes()).digest() in known]
    return sorted({*by_name, *by_content})


def named(paths, parents):
    return {"/".join(path.parts[-1 - parents :]): path for path in paths}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--faces", type=pathlib.Path, required=True)
    parser.add_argument("--state", type=pathlib.Path, required=True)
    parser.add_argument("--look", type=pathlib.Path, help="where candidates.py wrote its lessons")
    arguments = parser.parse_args()
    apart = ("held-out", "validation")
    crowds = named(crowd_paths(arguments.faces, "training"), 0)
    # What the training itself wrote down that it uses, not what it would use today.
    used = [*json.loads((arguments.state / "portraits.json").read_text())]
    if arguments.look:
        photos = json.loads((arguments.look / "photos.json").read_text())
        used += photos["portraits"]
        crowds |= {name: arguments.faces / "wider/photos" / name for name in photos["crowds"]}
    portraits = {name: arguments.faces / "lfw/photos" / name for name in used}
    found = leaks(crowds, named([p for other in apart for p in crowd_paths(arguments.faces, other)], 0))
    found += leaks(portraits, named([p for other in apart for p in portrait_paths(arguments.faces, other)], 1))
    print(f"{len(crowds)} crowd photos and {len(portraits)} portraits are trained on; leaks: {', '.join(found) or 'none'}")
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
