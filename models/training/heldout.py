"""Who and what training never sees, by a rule that was written down before the first training.

A person (a folder of photos) or a crowd photo is held out if the SHA-256 of its name, read as a number, leaves a
remainder below 15 when divided by 100: about 15 % of each, the same on every machine, whatever else is in the folder.
The next five remainders are for choosing among trainings: not trained on either, and never reported as a result.

    python heldout.py FOLDER       prints the held-out names of a folder, one a line
"""

import hashlib
import pathlib
import sys


def part(name: str) -> str:
    """Which part a person's or a crowd photo's name belongs to: `held-out`, `validation` or `training`."""
    remainder = int.from_bytes(hashlib.sha256(name.encode()).digest(), "big") % 100
    if remainder < 15:
        return "held-out"
    return "validation" if remainder < 20 else "training"


if __name__ == "__main__":
    for entry in sorted(pathlib.Path(sys.argv[1]).iterdir()):
        if part(entry.name) == "held-out":
            print(entry.name)
