"""A portrait around a blended head: neck, clothes, light and background are drawn, none of them is of a photo."""

import cv2
import numpy

from blend import CENTRE, FACE, HEIGHT, WIDTH

# The figure is larger than the head's picture, for its shoulders.
FIGURE_WIDTH, FIGURE_HEIGHT = 760, 1200
LEFT, TOP = (FIGURE_WIDTH - WIDTH) // 2, 20
ROWS, COLUMNS = numpy.mgrid[:FIGURE_HEIGHT, :FIGURE_WIDTH].astype(numpy.float32)
MIDDLE = CENTRE + [LEFT, TOP]
CHIN_ROW = MIDDLE[1] + 128


def smooth(low: float, high: float, values: numpy.ndarray) -> numpy.ndarray:
    """0 at `low`, 1 at `high`, without a corner between."""
    share = numpy.clip((values - low) / (high - low), 0, 1)
    return (share * share * (3 - 2 * share)).astype(numpy.float32)


def noise(random: numpy.random.Generator, height: int, width: int, size_px: float, stretch: float = 1) -> numpy.ndarray:
    """Smooth noise with a spread of 1 and spots of about a size; `stretch` makes them taller."""
    rows, columns = int(height / size_px / stretch) + 3, int(width / size_px) + 3
    coarse = random.standard_normal((rows, columns)).astype(numpy.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def over(below: numpy.ndarray, above: numpy.ndarray, share: numpy.ndarray) -> numpy.ndarray:
    return below * (1 - share[..., None]) + above * share[..., None]


def figure(head: numpy.ndarray, random: numpy.random.Generator) -> tuple[numpy.ndarray, numpy.ndarray]:
    """A head, `[height, width, 4]`, on a neck and dressed shoulders, and how much of each pixel is of it."""
    head, outline = head[..., :3], head[..., 3] / 255
    skin = numpy.median(head[FACE], axis=0)
    across = (COLUMNS - MIDDLE[0]) / 100
    # A neck as wide as the jaw, rounded by its shade, and darker below the chin.
    width = 0.75 + 0.18 * smooth(CHIN_ROW + 10, CHIN_ROW + 70, ROWS)
    neck = smooth(0, 0.05, width - abs(across)) * (ROWS > MIDDLE[1])
    shade = 0.92 - 0.22 * (across / 0.75) ** 2 - 0.24 * (1 - smooth(CHIN_ROW - 10, CHIN_ROW + 60, ROWS))
    picture, person = skin * numpy.clip(shade, 0.2, 1)[..., None], neck
    cloth, cloth_share = clothes(across, random)
    picture, person = over(picture, cloth, cloth_share), numpy.maximum(person, cloth_share)

    large_head, large_outline = (
        numpy.zeros((FIGURE_HEIGHT, FIGURE_WIDTH, *part.shape[2:]), numpy.float32) for part in (head, outline)
    )
    large_head[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH] = head
    large_outline[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH] = outline
    # Below the ears the head ends at its jaw, whatever of collars GrabCut took for it.
    jaw = 1 - smooth(0.95, 1.12, abs(across * 100 / 99) ** 2.5 + (abs(ROWS - MIDDLE[1]) / 138) ** 2.5)
    hair = 1 - smooth(MIDDLE[1] - 5, MIDDLE[1] + 50, ROWS)
    large_outline *= numpy.maximum(jaw, hair)
    turn = cv2.getRotationMatrix2D((float(MIDDLE[0]), float(CHIN_ROW)), random.uniform(-6, 6), 1)
    large_head, large_outline = (
        cv2.warpAffine(part, turn, (FIGURE_WIDTH, FIGURE_HEIGHT), flags=cv2.INTER_CUBIC)
        for part in (large_head, large_outline)
    )
    large_outline = numpy.clip(large_outline, 0, 1)
    return over(picture, large_head, large_outline), numpy.maximum(person, large_outline)


def clothes(across: numpy.ndarray, random: numpy.random.Generator) -> tuple[numpy.ndarray, numpy.ndarray]:
    """A pullover: its picture, and where it is."""
    colour = cv2.cvtColor(
        numpy.uint8([[[random.integers(180), random.integers(20, 120), random.integers(50, 190)]]]), cv2.COLOR_HSV2RGB
    )[0, 0].astype(numpy.float32)
    collar_row = CHIN_ROW + random.uniform(10, 34)
    # Shoulders fall from the neck, faster further out.
    top = (
        collar_row
        + 46 * smooth(0.7, 1.5, abs(across))
        + 42 * smooth(1.0, 2.4, abs(across))
        + 70 * numpy.maximum(abs(across) - 2.0, 0) ** 2.5
    )
    # The collar dips in front.
    top = top + 36 * (1 - smooth(0.15, 0.95, abs(across)))
    folds = noise(random, FIGURE_HEIGHT, FIGURE_WIDTH, 60, stretch=3)
    weave = random.standard_normal(folds.shape).astype(numpy.float32)
    shade = 1 + 0.07 * folds + 0.03 * weave - 0.10 * abs(across) ** 1.5 / 2 - 0.12 * smooth(0, 260, ROWS - top)
    seam = smooth(0, 3, ROWS - top) * (1 - smooth(15, 19, ROWS - top)) * (abs(across) < 0.9)
    shade = shade - 0.16 * seam
    # Arms hang at the sides.
    share = smooth(-1.5, 1.5, ROWS - top) * smooth(0, 0.04, 2.9 + 0.12 * smooth(0, 400, ROWS - top) - abs(across))
    return colour * numpy.clip(shade, 0.1, 1.4)[..., None], share


def background(height: int, width: int, random: numpy.random.Generator) -> numpy.ndarray:
    """A wall, a blurred room or lights out of focus."""
    rows, columns = numpy.mgrid[:height, :width].astype(numpy.float32)
    base = random.uniform(60, 205) + random.uniform(-14, 14, 3)
    slope = random.uniform(-50, 50, 2)
    picture = base + ((rows / height - 0.5) * slope[0] + (columns / width - 0.5) * slope[1])[..., None] * numpy.ones(3)
    kind = random.integers(3)
    if kind == 0:
        picture += 5 * noise(random, height, width, width / 4)[..., None]
    elif kind == 1:
        for _ in range(14):
            corner = random.uniform(-0.2, 1, 2) * [width, height]
            far = corner + random.uniform(0.1, 0.5, 2) * [width, height]
            colour = base + random.uniform(-60, 60) + random.uniform(-16, 16, 3)
            cv2.rectangle(picture, corner.astype(int).tolist(), far.astype(int).tolist(), colour.tolist(), -1)
        picture = cv2.GaussianBlur(picture, (0, 0), width / 28)
    else:
        picture *= 0.6
        for _ in range(22):
            light = numpy.zeros((height, width), numpy.float32)
            centre = (random.uniform(0, 1, 2) * [width, height]).astype(int).tolist()
            cv2.circle(light, centre, int(width * random.uniform(0.02, 0.07)), 1.0, -1, cv2.LINE_AA)
            colour = numpy.float32([255, 215, 160]) * random.uniform(0.15, 0.5) + random.uniform(-25, 25, 3)
            picture += cv2.GaussianBlur(light, (0, 0), width / 150)[..., None] * colour
    return numpy.clip(picture, 0, 255).astype(numpy.float32)


def place(
    picture: numpy.ndarray,
    person: tuple[numpy.ndarray, numpy.ndarray],
    middle: tuple[float, float],
    scale: float,
    turn_degrees: float,
) -> numpy.ndarray:
    """A picture with a figure before it, the middle of the face at `middle`."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D(MIDDLE.tolist(), turn_degrees, scale)
    matrix[:, 2] += numpy.subtract(middle, MIDDLE)
    body, share = person
    # Shrunk from a blurred figure, so that no edge turns to steps.
    blur = max(0.5 / scale - 0.3, 0.01)
    body, share = cv2.GaussianBlur(body, (0, 0), blur), cv2.GaussianBlur(share, (0, 0), blur)
    body = cv2.warpAffine(body, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    share = cv2.warpAffine(share, matrix, (width, height), flags=cv2.INTER_LINEAR)
    return over(picture, body, numpy.clip(share, 0, 1))


def lit(picture: numpy.ndarray, random: numpy.random.Generator) -> numpy.ndarray:
    """As a camera of its own took it: light from a side, exposure, white balance, grain."""
    height, width = picture.shape[:2]
    rows, columns = numpy.mgrid[:height, :width].astype(numpy.float32)
    angle = random.uniform(0, 2 * numpy.pi)
    along = (columns / width - 0.5) * numpy.cos(angle) + (rows / height - 0.5) * numpy.sin(angle)
    light = 1 + random.uniform(0, 0.4) * along
    warmth = 1 + random.uniform(-0.07, 0.07) * numpy.float32([1, 0, -1])
    bright = numpy.clip(picture / 255 * light[..., None] * warmth, 0, 1) ** random.uniform(0.85, 1.2)
    grain = random.standard_normal(picture.shape) * random.uniform(0.5, 2.5)
    return numpy.clip(bright * 255 + grain, 0, 255).astype(numpy.uint8)
