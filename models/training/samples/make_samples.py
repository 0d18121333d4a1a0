"""Makes models/samples: photos of people who do not exist.

    python -m pip install -r requirements.txt
    python make_samples.py --lfw ../../../../shared/faces/lfw/photos --models ../../../../shared/models --kept /tmp/samples

A face is a blend of eight people of LFW whom training may see, each of its pictures a blend of another photo of each of
them, and it is given a character of its own. Neck, clothes, background and light are drawn. The same seed makes the same
faces with the same packages and the same starter pack. What takes long is kept, so that another run is quick: clear it after
a change of how heads are made.
"""

import argparse
import json
import pathlib
import shutil
import sys

import cv2
import numpy

import blend
import scene
from blend import Source
from choose import PICTURES, Cast, Choice, Photo, casts, likeness, people_of
from faces import Detector, Recognizer, load

sys.path.append(str(pathlib.Path(__file__).parent.parent))
from heldout import part  # noqa: E402

SEED = 6
MODELS = pathlib.Path(__file__).parent.parent.parent
SAMPLES, STARTER = MODELS / "samples", MODELS / "starter" / "recognizer.onnx"
# Names that go with any face. The last two are of strangers: people not to be enrolled.
NAMES = [
    "alex",
    "billie",
    "charlie",
    "dana",
    "eden",
    "frankie",
    "gray",
    "harper",
    "indigo",
    "jamie",
    "kit",
    "lee",
    "morgan",
    "noel",
]
STRANGERS = 2
# Who stands in the group pictures, from left to right; a stranger in each.
GROUPS = [["dana", "alex", "morgan", "frankie", "billie"], ["noel", "harper", "charlie", "kit", "eden", "indigo"]]
# How much a picture leans on each of the others of its face.
LEAN = 0.3
# How many characters a face is offered.
CHARACTERS = 40
# A picture is taken again, so often at most, while a face in it is as like a source or somebody else as this.
TAKES, LIKENESS_MAX = 6, 0.93
JPEG_QUALITY = 88


def measured(photos: pathlib.Path, models: pathlib.Path, kept: pathlib.Path) -> list[Photo]:
    """Every photo of LFW in which a face is found: whoever it is, no sample may be like them."""
    file = kept / "lfw.npz"
    if not file.exists():
        detector, recognizer = Detector(models / "insightface_det_2.5g.onnx"), Recognizer(
            models / "edgeface_xs_512.onnx"
        )
        found = []
        for path in sorted(photos.glob("*/*.jpg")):
            picture = load(path)
            faces = detector.faces(picture)
            if faces:
                landmarks = max(faces, key=lambda face: numpy.prod(face[1][2:] - face[1][:2]))[2]
                found.append((path.relative_to(photos).as_posix(), landmarks, recognizer.embed(picture, landmarks)))
        names, landmarks, embeddings = zip(*found)
        numpy.savez(file, names=names, landmarks=landmarks, embedding=numpy.float32(embeddings))
    table = numpy.load(file)
    return [Photo(str(name), *rest) for name, *rest in zip(table["names"], table["landmarks"], table["embedding"])]


def heads_of(cast: Cast, number: int, photos: pathlib.Path, kept: pathlib.Path) -> list[Source]:
    """The cast's blended heads, leaning on each other."""
    file = kept / f"heads{number:02}.npz"
    if not file.exists():
        heads = [blend.blend_photos(cast.sources(picture, photos)) for picture in range(PICTURES)]
        heads = [blend.lean(heads, picture, LEAN) for picture in range(PICTURES)]
        pictures = [numpy.clip(head.picture, 0, 255).astype(numpy.uint8) for head in heads]
        numpy.savez(file, pictures=pictures, landmarks=[head.landmarks for head in heads])
    table = numpy.load(file)
    return [
        Source(picture.astype(numpy.float32), landmarks, 1.0)
        for picture, landmarks in zip(table["pictures"], table["landmarks"])
    ]


def characters(number: int) -> list[blend.Character]:
    random = numpy.random.default_rng([SEED, number])
    return [blend.character(random) for _ in range(CHARACTERS)]


def options_of(number: int, heads: list[Source], studio: "Studio", kept: pathlib.Path) -> numpy.ndarray:
    """The templates of a cast's heads with each of its characters, `[characters, pictures, recognisers, 512]`."""
    file = kept / f"options{number:02}.npy"
    if not file.exists():
        numpy.save(
            file, [[studio.template(blend.with_character(head, own)) for head in heads] for own in characters(number)]
        )
    return numpy.load(file)


def portrait(head: Source, random: numpy.random.Generator) -> numpy.ndarray:
    width = int(random.integers(360, 500))
    height = int(width * 1.2)
    scale = width / 480 * random.uniform(0.75, 1.05)
    middle = (width * random.uniform(0.45, 0.55), height * random.uniform(0.42, 0.47))
    picture = scene.background(height, width, random)
    picture = scene.place(picture, scene.figure(head.picture, random), middle, scale, random.uniform(-5, 5))
    return scene.lit(picture, random)


def group(heads: list[Source], random: numpy.random.Generator) -> numpy.ndarray:
    width, height = 190 * len(heads), 520
    picture = scene.background(height, width, random)
    scales = random.uniform(0.48, 0.72, len(heads))
    # Those further away first.
    for at in numpy.argsort(scales):
        middle = (
            width * (at + 0.5) / len(heads) + random.uniform(-12, 12),
            250 - 130 * (scales[at] - 0.6) + random.uniform(-40, 40),
        )
        picture = scene.place(
            picture, scene.figure(heads[at].picture, random), middle, scales[at], random.uniform(-4, 4)
        )
    return scene.lit(picture, random)


def write(path: pathlib.Path, picture: numpy.ndarray):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(
        str(path),
        cv2.cvtColor(picture, cv2.COLOR_RGB2BGR),
        [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1],
    )


class Studio:
    """Takes pictures, and takes one again that shows somebody as too much like another."""

    def __init__(self, models: pathlib.Path, sources: numpy.ndarray):
        self.detector = Detector(models / "insightface_det_2.5g.onnx")
        self.recognizers = [Recognizer(models / "edgeface_xs_512.onnx"), Recognizer(STARTER)]
        # The first recogniser's templates of sources, `[photos, 1, 512]`, and templates of each name's pictures so far.
        self.sources, self.known = sources[:, None], {}

    def templates(self, picture: numpy.ndarray) -> list[numpy.ndarray]:
        """Those of each face, `[recognisers, 512]`, from left to right."""
        faces = sorted(self.detector.faces(picture), key=lambda face: face[1][0])
        return [
            numpy.array([recognizer.embed(picture, landmarks) for recognizer in self.recognizers])
            for _, _, landmarks in faces
        ]

    def template(self, head: Source) -> numpy.ndarray:
        """Of a head before a gray wall."""
        share = head.picture[..., 3:] / 255
        return self.templates(
            numpy.clip(head.picture[..., :3] * share + 128 * (1 - share), 0, 255).astype(numpy.uint8)
        )[0]

    def take(self, names: list[str], draw) -> numpy.ndarray:
        """The first picture of `draw()` whose faces are all far from sources and others, or of `TAKES` the best."""
        takes = []
        for _ in range(TAKES):
            picture = draw()
            templates = self.templates(picture)
            if len(templates) == len(names):
                takes.append((max(map(self.nearest, names, templates)), len(takes), picture, templates))
                if takes[-1][0] < LIKENESS_MAX:
                    break
        nearest, _, picture, templates = min(takes)
        print(*names, f"{len(takes)} takes, likeness to another {nearest:.3f}", flush=True)
        for name, template in zip(names, templates):
            self.known[name].append(template)
        return picture

    def nearest(self, name: str, template: numpy.ndarray) -> float:
        others = [known for other, of_other in self.known.items() if other != name for known in of_other]
        return max(likeness(template[None, :1], self.sources), likeness(template[None], numpy.array(others)))


def draw_all(studio: Studio, faces: dict[str, list[Source]]):
    """Portraits of everybody, and the group pictures with the last of each one's faces."""
    for folder in ("people", "strangers", "groups"):
        shutil.rmtree(SAMPLES / folder, ignore_errors=True)
    for at, (name, of_name) in enumerate(faces.items()):
        folder = "strangers" if at >= len(NAMES) - STRANGERS else "people"
        random = numpy.random.default_rng([SEED, 100 + at])
        for number, face in enumerate(of_name[:-1], 1):
            write(SAMPLES / folder / name / f"{number}.jpg", studio.take([name], lambda: portrait(face, random)))
    for at, names in enumerate(GROUPS, 1):
        random = numpy.random.default_rng([SEED, 200 + at])
        write(
            SAMPLES / "groups" / f"{at}.jpg",
            studio.take(names, lambda: group([faces[name][-1] for name in names], random)),
        )
    rows = [f"{at}.jpg,{place},{name}" for at, names in enumerate(GROUPS, 1) for place, name in enumerate(names)]
    (SAMPLES / "groups.csv").write_text("\n".join(["picture,place,name", *rows]) + "\n")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("lfw", "models", "kept"):
        arguments.add_argument(f"--{name}", type=pathlib.Path, required=True)
    given = arguments.parse_args()
    given.kept.mkdir(parents=True, exist_ok=True)
    photos = measured(given.lfw, given.models, given.kept)
    studio = Studio(given.models, numpy.array([photo.embedding for photo in photos]))
    of_training = [photo for photo in photos if part(photo.person) == "training"]
    all_casts = casts(people_of(of_training), numpy.random.default_rng(SEED))
    heads = [heads_of(cast, number, given.lfw, given.kept) for number, cast in enumerate(all_casts)]
    print(f"{len(photos)} photos measured, {len(all_casts)} casts blended", flush=True)

    options = [options_of(number, of_cast, studio, given.kept) for number, of_cast in enumerate(heads)]
    chosen = Choice(options, studio.sources[:, 0]).chosen(len(NAMES))
    print("chosen (cast, character):", *chosen, flush=True)

    faces, sources = {}, {}
    for name, (number, at) in zip(NAMES, chosen):
        faces[name] = [blend.with_character(head, characters(number)[at]) for head in heads[number]]
        studio.known[name] = list(options[number][at])
        sources[name] = sorted(
            sorted(photo.name for photo, _ in of_person) for of_person in zip(*all_casts[number].pictures)
        )
    draw_all(studio, faces)
    (SAMPLES / "sources.json").write_text(json.dumps(sources, indent=1) + "\n")


if __name__ == "__main__":
    main()
