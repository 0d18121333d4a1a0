"""Several people's photos become one picture of nobody: brought to one shape, then averaged."""

import dataclasses

import cv2
import numpy

from faces import similarity

# The picture that photos are brought into. The eyes are twice as far apart as in LFW's photos: averages of many photos
# hold detail between the pixels of each.
WIDTH, HEIGHT = 480, 560
CENTRE = numpy.float32([WIDTH / 2, 270])
# Where a face that looks straight ahead has its landmarks there.
FRONTAL = numpy.float32([[-48, -40], [48, -40], [0, 16], [-39, 68], [39, 68]]) + CENTRE
# What is the face, what is the head with its hair, and what may be.
ROWS, COLUMNS = numpy.mgrid[:HEIGHT, :WIDTH].astype(numpy.float32)
FACE = ((COLUMNS - CENTRE[0]) / 92) ** 2 + ((ROWS - CENTRE[1]) / 128) ** 2 < 1
SKULL = ((COLUMNS - CENTRE[0]) / 98) ** 2 + ((ROWS - CENTRE[1] + 25) / 152) ** 2 < 1
HEAD = ((COLUMNS - CENTRE[0]) / 160) ** 2 + ((ROWS - CENTRE[1] + 20) / 215) ** 2 < 1


# Places of a face besides its landmarks that its character moves: cheeks, jaw, chin, forehead.
OUTLINE = numpy.float32([[-90, 15], [90, 15], [-70, 92], [70, 92], [0, 130], [0, -112]]) + CENTRE


@dataclasses.dataclass
class Source:
    """A picture to blend: `[height, width, 3]`, or 4 with how much of each pixel is of the head, 0 to 255."""

    picture: numpy.ndarray
    landmarks: numpy.ndarray
    weight: float

    def mirrored(self) -> "Source":
        landmarks = self.landmarks[[1, 0, 2, 4, 3]].copy()
        landmarks[:, 0] = self.picture.shape[1] - 1 - landmarks[:, 0]
        return Source(numpy.ascontiguousarray(self.picture[:, ::-1]), landmarks, self.weight)


def upright(landmarks: numpy.ndarray) -> numpy.ndarray:
    """Landmarks turned, scaled and shifted to lie as near to those of a frontal face as they can."""
    matrix = similarity(landmarks, FRONTAL)
    return landmarks @ matrix[:, :2].T + matrix[:, 2]


@dataclasses.dataclass
class Character:
    """What a face has of its own, whoever it is blended from.

    A blend of many is everybody's mean; this makes faces differ from each other, and from their sources, for good.
    """

    # How far landmarks and outline lie elsewhere, `[11, 2]`, in pixels.
    moves: numpy.ndarray
    # How much darker (below 0) or lighter brows, lids, upper lip, chin and cheeks are, as a share.
    shades: numpy.ndarray


def character(random: numpy.random.Generator) -> Character:
    apart, eyes, nose, mouth, smile, cheeks, jaw, chin, forehead = random.uniform(-1, 1, 9) * (
        9,
        7,
        12,
        6,
        6,
        11,
        12,
        13,
        11,
    )
    landmarks = [[-apart, eyes], [apart, eyes], [0, nose], [-smile, mouth], [smile, mouth]]
    outline = [[-cheeks, 0], [cheeks, 0], [-jaw, 0], [jaw, 0], [0, chin], [0, -forehead]]
    return Character(numpy.float32(landmarks + outline), random.uniform(-1, 1, 5) * (0.35, 0.25, 0.25, 0.3, 0.15))


def blend_photos(sources: list[Source]) -> Source:
    """The mean of photos: a head, `[height, width, 4]`, of the mean of their shapes."""
    weights = shares(sources)
    shape = numpy.tensordot(weights, [upright(source.landmarks) for source in sources], 1)
    pictures = of_one_colour([to_shape(source, shape) for source in sources], weights)
    pictures = registered(pictures, weights)
    heads = [numpy.dstack([picture, head_in(picture)]) for picture in pictures]
    return Source(blend_heads(heads, weights), shape, 1.0)


def lean(heads: list[Source], at: int, lean_weight: float) -> Source:
    """One of a face's heads, leaning on its others: what they share is what a recogniser knows a face by."""
    weights = numpy.float32([1 if other == at else lean_weight for other in range(len(heads))])
    weights /= weights.sum()
    pictures = registered([to_shape(head, heads[at].landmarks) for head in heads], weights)
    return Source(blend_heads(pictures, weights), heads[at].landmarks, 1.0)


def with_character(head: Source, own: Character) -> Source:
    landmarks = head.landmarks + own.moves[:5]
    picture = to_shape(head, head.landmarks, own.moves)
    right, left, _, *mouth = landmarks
    lips = numpy.mean(mouth, 0)
    # Where each shade is: middle and size of soft spots, in pixels.
    spots = [
        [(right - [0, 26], 26, 9), (left - [0, 26], 26, 9)],
        [(right, 24, 12), (left, 24, 12)],
        [(lips - [0, 22], 30, 9)],
        [(lips + [0, 45], 55, 24)],
        [(right + [-8, 52], 22, 24), (left + [8, 52], 22, 24)],
    ]
    for shade, of_shade in zip(own.shades, spots):
        for (column, row), across, down in of_shade:
            picture[..., :3] *= (
                1 + shade * numpy.exp(-(((COLUMNS - column) / across) ** 2) - ((ROWS - row) / down) ** 2)[..., None]
            )
    return Source(picture, landmarks, 1.0)


def blend_heads(heads: list[numpy.ndarray], weights: numpy.ndarray) -> numpy.ndarray:
    """The mean of heads, `[height, width, 4]`."""
    parts = numpy.float32([head[..., 3] for head in heads]) / 255
    # Of each pixel, those count that show a head there: no background shines through the hair.
    of_pixel = weights[:, None, None] * (parts + 1e-3)
    mean = sum(head[..., :3] * share[..., None] for head, share in zip(heads, of_pixel / of_pixel.sum(0)))
    # Of the outline, the one that half of them fill.
    part = numpy.clip((numpy.tensordot(weights, parts, 1) - 0.4) / 0.25, 0, 1)
    part = cv2.GaussianBlur(part * part * (3 - 2 * part), (0, 0), 2)
    return numpy.dstack([with_detail(mean, [head[..., :3] for head in heads]), part * 255])


def shares(sources: list[Source]) -> numpy.ndarray:
    weights = numpy.float32([source.weight for source in sources])
    return weights / weights.sum()


def to_shape(source: Source, shape: numpy.ndarray, own: numpy.ndarray | None = None) -> numpy.ndarray:
    """The picture, warped so that its landmarks lie where `shape` has them, moved by a character."""
    matrix = similarity(source.landmarks, FRONTAL)
    turned = cv2.warpAffine(
        source.picture, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    # Points around the head stay, so that the plate bends within it.
    angles = numpy.linspace(0, 2 * numpy.pi, 12, endpoint=False)
    around = CENTRE + numpy.stack([210 * numpy.cos(angles), 250 * numpy.sin(angles)], -1)
    points, moved = [upright(source.landmarks), around], [shape, around]
    if own is not None:
        points, moved = [*points, OUTLINE], [shape + own[:5], around, OUTLINE + own[5:]]
    origin = thin_plate(numpy.vstack(points), numpy.vstack(moved))
    return cv2.remap(turned, origin, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE).astype(numpy.float32)


def thin_plate(source: numpy.ndarray, target: numpy.ndarray) -> numpy.ndarray:
    """Where each pixel of the picture comes from, `[height, width, 2]`, when points `target` come from `source`.

    Source: Bookstein, Principal Warps, 1989.
    """

    def kernel(squared: numpy.ndarray) -> numpy.ndarray:
        return squared * numpy.log(squared + 1e-9)

    count = len(target)
    system = numpy.zeros((count + 3, count + 3))
    system[:count, :count] = kernel(((target[:, None] - target[None]) ** 2).sum(-1))
    system[:count, count:] = numpy.hstack([numpy.ones((count, 1)), target])
    system[count:, :count] = system[:count, count:].T
    weights = numpy.linalg.solve(system, numpy.vstack([source, numpy.zeros((3, 2))]))
    # The plate is smooth: a pixel in 64 is computed, the others are between them.
    step = 8
    pixels = numpy.stack([COLUMNS, ROWS], -1)[::step, ::step].astype(float)
    result = weights[count] + pixels @ weights[count + 1 :]
    for point, weight in zip(target, weights):
        result += kernel(((pixels - point) ** 2).sum(-1))[..., None] * weight
    return cv2.remap(
        result.astype(numpy.float32), COLUMNS / step, ROWS / step, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def of_one_colour(pictures: list[numpy.ndarray], weights: numpy.ndarray) -> list[numpy.ndarray]:
    """Pictures whose faces have the same mean and spread of lightness and colour: the weighted mean of theirs."""
    labs = [cv2.cvtColor(numpy.clip(picture / 255, 0, 1), cv2.COLOR_RGB2LAB) for picture in pictures]
    means = [lab[FACE].mean(0) for lab in labs]
    spreads = [lab[FACE].std(0) for lab in labs]
    mean, spread = numpy.tensordot(weights, means, 1), numpy.tensordot(weights, spreads, 1)
    even = [(lab - m) / numpy.maximum(s, 1) * spread + mean for lab, m, s in zip(labs, means, spreads)]
    return [cv2.cvtColor(lab.astype(numpy.float32), cv2.COLOR_LAB2RGB) * 255 for lab in even]


def registered(pictures: list[numpy.ndarray], weights: numpy.ndarray) -> list[numpy.ndarray]:
    """Pictures moved so that brows, lids, lips and outlines lie over those of their mean, where five landmarks cannot tell.

    Each is moved by the optical flow from their mean to it, and the mean is taken again; movements are smooth.
    """
    flow_finder = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    contrast = cv2.createCLAHE(2, (8, 8))
    # Flow is found in pictures of half the side: it is smooth, and the photos have no finer detail.
    identity = numpy.stack([COLUMNS, ROWS], -1)[::2, ::2]
    near = cv2.GaussianBlur(FACE.astype(numpy.float32), (0, 0), 25)[::2, ::2, None]

    def gray(picture: numpy.ndarray) -> numpy.ndarray:
        return contrast.apply(cv2.cvtColor(numpy.clip(picture, 0, 255).astype(numpy.uint8), cv2.COLOR_RGB2GRAY))

    def at(picture: numpy.ndarray, origins: numpy.ndarray, method: int) -> numpy.ndarray:
        return cv2.remap(picture, origins, None, method, borderMode=cv2.BORDER_REPLICATE)

    small = [cv2.resize(picture[..., :3], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for picture in pictures]
    moved, origins = small, [identity / 2] * len(pictures)
    for smoothness_px in (8, 6, 4.5):
        mean = gray(numpy.tensordot(weights, moved, 1))
        flows = [
            cv2.GaussianBlur(flow_finder.calc(mean, gray(picture), None), (0, 0), smoothness_px) for picture in moved
        ]
        # Together they move nothing: the shape stays the sources' mean.
        common = numpy.tensordot(weights, flows, 1)
        origins = [
            at(origin, identity / 2 + (flow - common) * near, cv2.INTER_LINEAR) for origin, flow in zip(origins, flows)
        ]
        moved = [at(picture, origin, cv2.INTER_LINEAR) for picture, origin in zip(small, origins)]
    full = [cv2.resize(origin, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR) * 2 + 0.5 for origin in origins]
    return [at(picture, origin, cv2.INTER_CUBIC) for picture, origin in zip(pictures, full)]


def head_in(picture: numpy.ndarray) -> numpy.ndarray:
    """How much of each pixel is of the head whose face is in the middle, 0 to 255 (GrabCut, from where heads are)."""
    scale = 3
    small = numpy.clip(picture, 0, 255).astype(numpy.uint8)[::scale, ::scale].copy()
    guess = numpy.where(HEAD, cv2.GC_PR_FGD, cv2.GC_BGD).astype(numpy.uint8)
    guess[SKULL | FACE] = cv2.GC_FGD
    guess = guess[::scale, ::scale].copy()
    cv2.setRNGSeed(1)
    cv2.grabCut(small, guess, None, numpy.zeros((1, 65)), numpy.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
    head = numpy.isin(guess, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(numpy.float32)
    head = cv2.morphologyEx(head, cv2.MORPH_OPEN, numpy.ones((5, 5)))
    return cv2.GaussianBlur(cv2.resize(head * 255, (WIDTH, HEIGHT)), (0, 0), 4)


def with_detail(mean: numpy.ndarray, pictures: list[numpy.ndarray]) -> numpy.ndarray:
    """The mean with as much fine detail as each of the pictures has: averaging takes it away, finest first."""

    def bands(picture: numpy.ndarray) -> list[numpy.ndarray]:
        levels = [picture] + [cv2.GaussianBlur(picture, (0, 0), sigma) for sigma in (1, 2, 4, 8)]
        return [fine - coarse for fine, coarse in zip(levels, levels[1:])]

    wanted = numpy.mean([[band[FACE].std() for band in bands(picture)] for picture in pictures], 0)
    result = mean.copy()
    for band, want in zip(bands(mean), wanted):
        result += band * (min(want / band[FACE].std(), 2.0) - 1)
    return numpy.clip(result, 0, 255)
