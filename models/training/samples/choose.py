"""Who is blended with whom: casts of people of training, such that no face is near a source's and no two are alike."""

import dataclasses

import numpy

from blend import Source, upright
from faces import load

# How many people make one face, and how many pictures are made of it, each of another photo of each of them.
PEOPLE, PICTURES = 8, 5
# How far the face is turned in each picture, as `Photo.turn`: photos of heads that are turned alike blend well, and
# pictures of one face should differ.
TURNS = (0.0, 0.08, -0.04, 0.04, 0.12)
# Photos of faces that are turned or nod more than this, or are smaller, blend badly.
TURN_MAX, NOD_MAX, EYES_MIN_PX = 0.30, 0.20, 36
# People who are near each other in so many principal components of people's mean templates are alike in sex, age and
# colour, and need not be in more.
COMPONENTS = 5


@dataclasses.dataclass
class Photo:
    """A photo of LFW, measured."""

    name: str
    landmarks: numpy.ndarray
    embedding: numpy.ndarray

    @property
    def person(self) -> str:
        return self.name.split("/")[0]

    @property
    def turn(self) -> float:
        """The nose's distance from the middle of the eyes, in shares of theirs; positive to the picture's right."""
        right, left, nose = upright(self.landmarks)[:3]
        return float((nose[0] - (right[0] + left[0]) / 2) / (left[0] - right[0]))

    @property
    def nod(self) -> float:
        """How far the nose is from where it is between eyes and mouth of a frontal face, in shares of their distance."""
        points = upright(self.landmarks)
        eyes, mouth = points[:2, 1].mean(), points[3:, 1].mean()
        return float((points[2, 1] - eyes) / (mouth - eyes) - 0.52)

    @property
    def usable(self) -> bool:
        eyes_px = numpy.linalg.norm(self.landmarks[1] - self.landmarks[0])
        return abs(self.turn) < TURN_MAX and abs(self.nod) < NOD_MAX and eyes_px >= EYES_MIN_PX


@dataclasses.dataclass
class Cast:
    """The people of a face, their shares, and their photos for each picture: (photo, mirrored)."""

    weights: dict[str, float]
    pictures: list[list[tuple[Photo, bool]]]

    def sources(self, picture: int, folder) -> list[Source]:
        def source(photo: Photo, mirrored: bool) -> Source:
            plain = Source(load(folder / photo.name), photo.landmarks, self.weights[photo.person])
            return plain.mirrored() if mirrored else plain

        return [source(*photo) for photo in self.pictures[picture]]


def people_of(photos: list[Photo]) -> dict[str, list[Photo]]:
    """Those with a usable photo for each picture."""
    people: dict[str, list[Photo]] = {}
    for photo in photos:
        if photo.usable:
            people.setdefault(photo.person, []).append(photo)
    return {name: of_person for name, of_person in people.items() if len(of_person) >= PICTURES}


def photos_by_turn(photos: list[Photo]) -> list[tuple[Photo, bool]]:
    """For each of `TURNS` the photo that is nearest to it, mirrored or not, each photo once."""
    left, chosen = list(photos), []
    for turn in TURNS:
        error, at, mirrored = min(
            (abs((-1 if flip else 1) * photo.turn - turn), at, flip)
            for at, photo in enumerate(left)
            for flip in (False, True)
        )
        chosen.append((left.pop(at), mirrored))
    return chosen


def casts(people: dict[str, list[Photo]], random: numpy.random.Generator) -> list[Cast]:
    """Casts of people who are roughly alike; nobody is in two of them. Those come first whose people are the most special."""
    names = sorted(people)
    means = numpy.array([numpy.mean([photo.embedding for photo in people[name]], 0) for name in names])
    means -= means.mean(0)
    directions = numpy.linalg.svd(means, full_matrices=False)[2][:COMPONENTS]
    gross = means @ directions.T
    left, made = list(range(len(names))), []
    while len(left) >= PEOPLE:
        middle = max(left, key=lambda at: (gross[at] ** 2).sum())
        chosen = sorted(left, key=lambda at: ((gross[at] - gross[middle]) ** 2).sum())[:PEOPLE]
        left = [at for at in left if at not in chosen]
        weights = {names[at]: float(random.uniform(0.8, 1.2)) for at in chosen}
        by_turn = [photos_by_turn(people[names[at]]) for at in chosen]
        made.append(Cast(weights, [list(picture) for picture in zip(*by_turn)]))
    return made


# The cosines that a likeness of 1 stands for, of EdgeFace-XS and of the starter pack's recogniser: a match at FMR 1e-4 and,
# since that one errs more often, at 1e-3 or so (LFW, all pairs).
LIKE = numpy.array([0.3386, 0.36])


def likeness(a: numpy.ndarray, b: numpy.ndarray) -> float:
    """The best score between templates `[pictures, recognisers, 512]` of two people, as a share of `LIKE`."""
    return float((numpy.einsum("prd,qrd->pqr", a, b) / LIKE[: a.shape[1]]).max())


class Choice:
    """Which casts are made, and which of the characters offered each gets: far from all sources, and from each other.

    `options[cast][character]` are templates `[pictures, recognisers, 512]`; `sources` are the first recogniser's of photos.
    """

    def __init__(self, options: list[numpy.ndarray], sources: numpy.ndarray):
        self.options = options
        self.to_sources = [[likeness(one[:, :1], sources[:, None]) for one in of_cast] for of_cast in options]

    def nearest(self, option: tuple[int, int], others: list[tuple[int, int]]) -> float:
        """The likeness to a source or to one of the others, whichever is greater."""
        cast, character = option
        likenesses = [
            likeness(self.options[cast][character], self.options[a][b]) for a, b in others if (a, b) != option
        ]
        return max([self.to_sources[cast][character], *likenesses])

    def best(self, others: list[tuple[int, int]]) -> tuple[int, int]:
        taken = {cast for cast, _ in others}
        left = [
            (cast, at) for cast, of_cast in enumerate(self.options) if cast not in taken for at in range(len(of_cast))
        ]
        return min(left, key=lambda option: self.nearest(option, others))

    def chosen(self, count: int) -> list[tuple[int, int]]:
        """(cast, character) of each that is made, those first that are the most alone."""
        chosen: list[tuple[int, int]] = []
        while len(chosen) < count:
            chosen.append(self.best(chosen))
        # Whoever is nearest to somebody gives way to somebody better, as long as there is such.
        for _ in range(20 * count):
            for option in sorted(chosen, key=lambda option: -self.nearest(option, chosen)):
                others = [other for other in chosen if other != option]
                better = self.best(others)
                if self.nearest(better, others) < self.nearest(option, others) - 1e-6:
                    chosen = [*others, better]
                    break
            else:
                break
        return sorted(chosen, key=lambda option: self.nearest(option, chosen))
