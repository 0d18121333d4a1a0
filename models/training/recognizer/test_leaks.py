"""A leak of each kind is found, and a clean list passes."""

import pathlib
import sys
import tempfile
import unittest

from leaks import held_out_contents, leaks

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from heldout import part  # noqa: E402


def name_in(its_part: str) -> str:
    """The first made-up name that the rule puts into a part."""
    return next(name for name in map("Person_{}".format, range(1000)) if part(name) == its_part)


class LeaksTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.portraits, self.crowds = pathlib.Path(folder.name, "portraits"), pathlib.Path(folder.name, "crowds")
        self.crowds.mkdir()
        self.seen, self.held_out = name_in("training"), name_in("held-out")
        self.photo(self.held_out, b"a face")

    def photo(self, person: str, content: bytes) -> dict:
        path = self.portraits / person / "1.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return {"person": person, "photo": str(path)}

    def found(self, row: dict) -> list[str]:
        return leaks([row], "training", held_out_contents(self.portraits, self.crowds))

    def test_photo_of_a_training_person_is_no_leak(self):
        self.assertEqual(self.found(self.photo(self.seen, b"another face")), [])

    def test_held_out_person_is_a_leak(self):
        self.assertIn("held-out", self.found(self.photo(self.held_out, b"a new photo"))[0])

    def test_validation_person_is_a_leak_into_training(self):
        self.assertIn("validation", self.found(self.photo(name_in("validation"), b"another face"))[0])

    def test_held_out_photo_under_another_name_is_a_leak(self):
        self.assertIn("the same file", self.found(self.photo(self.seen, b"a face"))[0])

    def test_held_out_photo_listed_as_somebody_else_is_a_leak(self):
        row = self.photo(self.held_out, b"a new photo") | {"person": self.seen}
        self.assertEqual(len(self.found(row)), 3)

    def test_held_out_crowd_photo_is_a_leak(self):
        path = self.crowds / name_in("held-out")
        path.write_bytes(b"a crowd")
        self.assertEqual(len(self.found({"person": "", "photo": str(path)})), 2)


if __name__ == "__main__":
    unittest.main()
