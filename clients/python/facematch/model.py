"""What goes in and comes out: plain values in the words of the contract, `proto/facematch/v1`, which explains them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import BinaryIO, TypeAlias, TypedDict

from facematch.v1 import calibration_service_pb2

#: A photo: the path of a file, its bytes, or a file that is open for reading bytes. JPEG, PNG, WebP, BMP, GIF or TIFF.
Photo: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO

#: A value of an identity's metadata. Times need a time zone.
MetadataValue: TypeAlias = str | float | bool | datetime


class FaceSelection(Enum):
    """Which of several faces in a photo is meant."""

    UNSPECIFIED = 0
    LARGEST = 1
    CENTER = 2
    EXACTLY_ONE = 3
    ALL = 4


class VerifyDecision(Enum):
    """The answer of a comparison."""

    UNSPECIFIED = 0
    MATCH = 1
    NO_MATCH = 2


class IdentifyDecision(Enum):
    """The answer of a search."""

    UNSPECIFIED = 0
    MATCH = 1
    NO_MATCH = 2
    AMBIGUOUS = 3
    NOT_SEARCHABLE = 4


class ThresholdSource(Enum):
    """Where a threshold came from."""

    UNSPECIFIED = 0
    REQUEST = 1
    GALLERY = 2
    PACK = 3
    UNCALIBRATED_DEFAULT = 4
    CURVE = 5


class ThresholdWarning(Enum):
    """What to know of a threshold's estimate."""

    UNSPECIFIED = 0
    GALLERY_OUTGREW_CURVE = 1
    CURVE_TOO_SMALL = 2


class SearchPath(Enum):
    """How candidates were found."""

    UNSPECIFIED = 0
    EXACT = 1
    GRAPH = 2


class SearchPolicy(Enum):
    """How a gallery is searched."""

    UNSPECIFIED = 0
    EXACT = 1
    GRAPH = 2
    AUTO = 3


class CheckPolicy(Enum):
    """What a gallery does about what it finds of a new template."""

    UNSPECIFIED = 0
    OFF = 1
    WARN = 2
    REJECT = 3


class Fusion(Enum):
    """How an identity with several templates is scored."""

    UNSPECIFIED = 0
    MAX = 1
    MEAN = 2
    QUALITY_WEIGHTED_MEAN = 3


class IfExists(Enum):
    """What an enrolment does where the identity exists."""

    UNSPECIFIED = 0
    REFUSE = 1
    ADD = 2


class FindingKind(Enum):
    """The kinds of findings of a gallery's policies."""

    UNSPECIFIED = 0
    DUPLICATE_IDENTITY = 1
    UNLIKE_IDENTITY = 2


class BulkOutcome(Enum):
    """What became of an item of a bulk enrolment."""

    UNSPECIFIED = 0
    ENROLLED = 1
    ALREADY_ENROLLED = 2
    REFUSED = 3
    FAILED = 4


class Health(Enum):
    """Whether a server takes calls."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


@dataclass(frozen=True)
class Point:
    """A point in the upright photo, in pixels from its top left corner."""

    x_px: float
    y_px: float


@dataclass(frozen=True)
class Box:
    """A rectangle in the upright photo, in pixels. May reach beyond its border."""

    x_min_px: float
    y_min_px: float
    x_max_px: float
    y_max_px: float


@dataclass(frozen=True)
class FaceQuality:
    """How good a photo of a face is. Shares and levels are from 0 to 1."""

    face_side_px: float
    sharpness: float
    brightness: float
    contrast: float
    clipped_share: float
    yaw_degrees: float
    pitch_degrees: float
    roll_degrees: float
    weight: float


@dataclass(frozen=True)
class Face:
    """A face found in a photo."""

    box: Box
    #: How face-like the region is, from 0 to 1. It says nothing about identity.
    detection_score: float
    #: Eye further left in the photo, eye further right, tip of the nose, left corner of the mouth, right corner.
    landmarks: tuple[Point, ...]
    eye_distance_px: float
    quality: FaceQuality | None


@dataclass(frozen=True)
class Embedding:
    """A face's features as a pack computed them. Kept out of `repr`: it is a biometric template."""

    values: tuple[float, ...] = field(repr=False)
    #: Embeddings of different packs are never compared.
    pack_id: str


@dataclass(frozen=True)
class DetectionOptions:
    """How faces are looked for."""

    #: One or two input sides of the detector; empty: two that the engine chooses.
    input_sides_px: tuple[int, ...] = ()
    #: Faces with a lower detection score are passed over. `None`: the pack's.
    score_min: float | None = None


@dataclass(frozen=True)
class Detection:
    """The faces of a photo, by falling detection score."""

    faces: tuple[Face, ...]
    width_px: int
    height_px: int
    input_sides_px: tuple[int, ...]
    pack_id: str


@dataclass(frozen=True)
class FaceChoice:
    """The faces of a photo and which was chosen."""

    faces: tuple[Face, ...]
    chosen_index: int | None
    selection: FaceSelection


@dataclass(frozen=True)
class EmbeddedFace:
    """A face and its features."""

    face: Face
    embedding: Embedding


@dataclass(frozen=True)
class TemplateReference:
    """A stored template, as a side of a comparison."""

    gallery_id: str
    identity_id: str
    template_id: str


@dataclass(frozen=True)
class IdentityReference:
    """An enrolled identity, as a side of a comparison."""

    gallery_id: str
    identity_id: str


#: What a template is made of.
Source: TypeAlias = Photo | Embedding

#: A side of a comparison.
Side: TypeAlias = Source | TemplateReference | IdentityReference


@dataclass(frozen=True)
class Threshold:
    """The threshold a decision was made at: a score >= cosine matches."""

    cosine: float
    source: ThresholdSource
    #: FMR of a comparison, FPIR of a search at the gallery's size now, with its 95 % interval. `None`: no curve tells.
    estimated_error_rate: float | None
    estimated_error_rate_low: float | None
    estimated_error_rate_high: float | None
    curve_id: str
    warning: ThresholdWarning


@dataclass(frozen=True)
class Verification:
    """The answer of a comparison."""

    decision: VerifyDecision
    #: A cosine, from -1 to 1. Not a probability.
    score: float
    threshold: Threshold
    #: The faces of each side that was a photo.
    face_a: FaceChoice | None
    face_b: FaceChoice | None
    pack_id: str

    @property
    def matches(self) -> bool:
        """Whether it is the same person."""
        return self.decision is VerifyDecision.MATCH


@dataclass(frozen=True)
class Candidate:
    """An identity that a search ranks."""

    identity_id: str
    display_name: str = field(repr=False)
    #: A cosine, from -1 to 1. Not a probability.
    score: float
    template_id: str
    #: Whether score >= threshold.
    matches: bool


@dataclass(frozen=True)
class FaceAnswer:
    """Who one face of a photo is."""

    face_index: int
    decision: IdentifyDecision
    candidates: tuple[Candidate, ...]
    not_searchable_reason: str

    @property
    def identity_id(self) -> str | None:
        """Who it is; `None` where the decision is not MATCH."""
        return _named(self.decision, self.candidates)


@dataclass(frozen=True)
class Identification:
    """The answer of a search."""

    decision: IdentifyDecision
    #: By falling score; also those below the threshold.
    candidates: tuple[Candidate, ...]
    threshold: Threshold
    identity_count: int
    searched_identity_count: int
    search_path: SearchPath
    face_choice: FaceChoice | None
    not_searchable_reason: str
    pack_id: str
    #: With `FaceSelection.ALL`: one a face.
    face_answers: tuple[FaceAnswer, ...]

    @property
    def identity_id(self) -> str | None:
        """Who it is; `None` where the decision is not MATCH."""
        return _named(self.decision, self.candidates)


def _named(decision: IdentifyDecision, candidates: tuple[Candidate, ...]) -> str | None:
    return candidates[0].identity_id if decision is IdentifyDecision.MATCH and candidates else None


@dataclass(frozen=True)
class Failure:
    """Why something failed alone: a probe, a sample, an item."""

    #: Stable, the same as an error's.
    reason: str
    message: str
    #: With QUALITY_TOO_LOW: what the photo falls short of.
    shortfalls: tuple[QualityShortfall, ...] = ()
    #: With DUPLICATE_IDENTITY and UNLIKE_IDENTITY: what was found.
    finding: Finding | None = None


@dataclass(frozen=True)
class QualityShortfall:
    """A measured value that does not reach the gallery's limit."""

    measure: str
    value: float
    limit_name: str
    limit: float


@dataclass(frozen=True)
class Finding:
    """What a gallery's policies found of a new template."""

    kind: FindingKind
    identity_id: str
    score: float
    cosine: float


@dataclass(frozen=True)
class ProbeAnswer:
    """What one of many probes came to: an identification or a failure."""

    #: Position among the probes.
    index: int
    probe: Source = field(repr=False)
    identification: Identification | None
    failure: Failure | None


@dataclass(frozen=True)
class QualityGate:
    """What a gallery asks of the photos it enrols: each limit that is stated."""

    eye_distance_px_min: float | None = None
    face_side_px_min: float | None = None
    detection_score_min: float | None = None
    sharpness_min: float | None = None
    brightness_min: float | None = None
    brightness_max: float | None = None
    contrast_min: float | None = None
    clipped_share_max: float | None = None
    yaw_degrees_max: float | None = None
    pitch_degrees_max: float | None = None
    roll_degrees_max: float | None = None


class SearchOptions(TypedDict, total=False):
    """How to search. What is left out is the gallery's or the contract's default."""

    #: How many identities to return: 1 to 100, default 5.
    top_k: int
    #: A threshold: a cosine, or a target false positive identification rate at the gallery's size now.
    cosine: float
    fpir: float
    #: AMBIGUOUS where the runner-up also matches and is less than this below the best.
    ambiguity_margin: float
    #: Scores every template, whatever the gallery's search policy.
    exact: bool
    face_selection: FaceSelection
    detection: DetectionOptions
    #: Who may be named, by metadata, such as `site = "north" AND age >= 30`.
    filter: str
    #: The identities that may be named.
    candidates: Iterable[str]
    #: With `FaceSelection.ALL`: nobody is named by two faces.
    each_identity_once: bool


class GallerySettings(TypedDict, total=False):
    """Settings of a gallery. What is left out is the default, or is kept; `None` takes a gallery's own value away."""

    display_name: str
    search_policy: SearchPolicy
    ambiguity_margin: float | None
    identification_cosine: float | None
    quality_gate: QualityGate | None
    fusion: Fusion
    duplicate_policy: CheckPolicy
    duplicate_cosine: float | None
    consistency_policy: CheckPolicy
    consistency_cosine: float | None
    graph_recall_target: float | None
    keep_chips: bool


@dataclass(frozen=True)
class Gallery:
    """A set of enrolled identities that are searched together."""

    gallery_id: str
    display_name: str
    search_policy: SearchPolicy
    ambiguity_margin: float | None
    identification_cosine: float | None
    quality_gate: QualityGate | None
    fusion: Fusion
    duplicate_policy: CheckPolicy
    duplicate_cosine: float | None
    consistency_policy: CheckPolicy
    consistency_cosine: float | None
    graph_recall_target: float | None
    keep_chips: bool
    pack_id: str
    identity_count: int
    template_count: int
    damaged_identity_count: int
    search_path: SearchPath
    graph_build_progress: float | None
    graph_miss_rate: float | None
    create_time: datetime | None
    update_time: datetime | None


@dataclass(frozen=True)
class Template:
    """The stored features of one face."""

    template_id: str
    pack_id: str
    create_time: datetime | None
    face: Face | None
    #: Only where it was asked for.
    embedding: Embedding | None
    has_chip: bool


@dataclass(frozen=True)
class Identity:
    """An enrolled person. What is kept of them besides their id is kept out of `repr`."""

    identity_id: str
    display_name: str = field(repr=False)
    metadata: Mapping[str, MetadataValue] = field(repr=False)
    templates: tuple[Template, ...]
    create_time: datetime | None
    update_time: datetime | None
    #: The stored record is damaged, and its id is all that is known of it.
    damaged: bool


@dataclass(frozen=True)
class Sample:
    """A source with a template id of the caller's: what an identity has under its id is not enrolled twice."""

    source: Source = field(repr=False)
    template_id: str


@dataclass(frozen=True)
class SampleResult:
    """What one sample of an enrolment came to: a template or a failure."""

    template: Template | None
    failure: Failure | None
    already_enrolled: bool
    face_choice: FaceChoice | None
    warnings: tuple[Finding, ...]


@dataclass(frozen=True)
class Enrollment:
    """What an enrolment came to."""

    identity: Identity
    #: One a sample, in their order.
    results: tuple[SampleResult, ...]
    #: Whether the identity is new.
    created: bool


@dataclass(frozen=True)
class BulkItem:
    """One face to enrol."""

    identity_id: str
    #: A path is read when its turn comes, so that a hundred thousand take no more memory than a few.
    source: Source = field(repr=False)
    #: What the item is known by within its identity: an identity that has the key is not enrolled again. `None`: a hash
    #: of the photo or embedding, so that the same content is enrolled once.
    key: str | None = None
    display_name: str = field(default="", repr=False)
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class BulkResult:
    """What became of an item. Enrolled: it is durable, and visible to search."""

    item: BulkItem
    key: str
    outcome: BulkOutcome
    #: Whether the identity is new.
    created: bool
    failure: Failure | None
    face_choice: FaceChoice | None
    warnings: tuple[Finding, ...]


@dataclass
class BulkProgress:
    """How far a bulk enrolment is."""

    enrolled: int = 0
    already_enrolled: int = 0
    refused: int = 0
    failed: int = 0
    #: Of those refused, the failures to acquire: no face, several, a damaged or poor photo.
    failures_to_acquire: int = 0
    #: How many were refused or have failed, by reason.
    reasons: dict[str, int] = field(default_factory=dict)
    #: Streams that broke off and were gone on with.
    resumed: int = 0

    @property
    def done(self) -> int:
        """Items with a result."""
        return self.enrolled + self.already_enrolled + self.refused + self.failed


@dataclass(frozen=True)
class TransferProgress:
    """How far an export, an import, a compaction or a migration is."""

    #: Identities done, and how many there are; 0 where the work tells bytes alone.
    identity_count: int = 0
    identity_total: int = 0
    #: Bytes of the file so far.
    bytes_done: int = 0


@dataclass(frozen=True)
class Export:
    """A written file."""

    identity_count: int
    #: Identities that are not in the file because their record is damaged.
    damaged_identity_count: int
    bytes_done: int


@dataclass(frozen=True)
class Compaction:
    """What the store's files took and take."""

    identity_count: int
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True)
class Migration:
    """How many templates find their identity by the pack of before and by the new one."""

    identity_count: int
    probe_count: int
    found_before_count: int
    found_after_count: int
    switched: bool


@dataclass(frozen=True)
class Move:
    """How many identities were copied to the other store, and how many compared value by value."""

    identity_count: int
    compared_count: int
    switched: bool


@dataclass(frozen=True)
class Curve:
    """Scores of comparisons of two people and of the same person, counted: rates are read off it."""

    curve_id: str
    pack_id: str
    mated_count: int
    non_mated_count: int
    source: str
    set_time: datetime | None
    #: The gallery whose own it is; `None`: its pack's.
    gallery_id: str | None
    #: The whole of it, as `set_curve` sends it.
    message: calibration_service_pb2.Curve = field(repr=False, compare=False)


@dataclass(frozen=True)
class RatedThreshold:
    """The lowest threshold that keeps to a false match rate."""

    fmr_max: float
    #: `None`: too few comparisons to claim the rate.
    cosine: float | None
    comparisons_needed: int
    fmr: float
    fmr_low: float
    fmr_high: float
    fnmr: float
    fnmr_low: float
    fnmr_high: float


@dataclass(frozen=True)
class Calibration:
    """What a gallery's templates, compared with each other, say of thresholds."""

    curve: Curve
    #: Whether it is kept.
    is_set: bool
    #: Where FMR and FNMR are alike; `None` where nobody has two templates, or nobody else is there.
    equal_error_rate: float | None
    rated_thresholds: tuple[RatedThreshold, ...]
