from facematch.v1 import types_pb2 as _types_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CalibrationUnit(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CALIBRATION_UNIT_UNSPECIFIED: _ClassVar[CalibrationUnit]
    CALIBRATION_UNIT_IDENTITIES: _ClassVar[CalibrationUnit]
    CALIBRATION_UNIT_SAMPLES: _ClassVar[CalibrationUnit]
CALIBRATION_UNIT_UNSPECIFIED: CalibrationUnit
CALIBRATION_UNIT_IDENTITIES: CalibrationUnit
CALIBRATION_UNIT_SAMPLES: CalibrationUnit

class CurveOwner(_message.Message):
    __slots__ = ("gallery_id", "pack_id")
    GALLERY_ID_FIELD_NUMBER: _ClassVar[int]
    PACK_ID_FIELD_NUMBER: _ClassVar[int]
    gallery_id: str
    pack_id: str
    def __init__(self, gallery_id: _Optional[str] = ..., pack_id: _Optional[str] = ...) -> None: ...

class Curve(_message.Message):
    __slots__ = ("curve_id", "pack_id", "mated", "non_mated", "inflation", "source", "set_time", "identity_count")
    CURVE_ID_FIELD_NUMBER: _ClassVar[int]
    PACK_ID_FIELD_NUMBER: _ClassVar[int]
    MATED_FIELD_NUMBER: _ClassVar[int]
    NON_MATED_FIELD_NUMBER: _ClassVar[int]
    INFLATION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SET_TIME_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_COUNT_FIELD_NUMBER: _ClassVar[int]
    curve_id: str
    pack_id: str
    mated: ScoreSteps
    non_mated: ScoreSteps
    inflation: _containers.RepeatedCompositeFieldContainer[CurveInflation]
    source: str
    set_time: _timestamp_pb2.Timestamp
    identity_count: int
    def __init__(self, curve_id: _Optional[str] = ..., pack_id: _Optional[str] = ..., mated: _Optional[_Union[ScoreSteps, _Mapping]] = ..., non_mated: _Optional[_Union[ScoreSteps, _Mapping]] = ..., inflation: _Optional[_Iterable[_Union[CurveInflation, _Mapping]]] = ..., source: _Optional[str] = ..., set_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., identity_count: _Optional[int] = ...) -> None: ...

class ScoreSteps(_message.Message):
    __slots__ = ("total", "cosine_tenthousandths", "at_least")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    COSINE_TENTHOUSANDTHS_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_FIELD_NUMBER: _ClassVar[int]
    total: int
    cosine_tenthousandths: _containers.RepeatedScalarFieldContainer[int]
    at_least: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, total: _Optional[int] = ..., cosine_tenthousandths: _Optional[_Iterable[int]] = ..., at_least: _Optional[_Iterable[int]] = ...) -> None: ...

class CurveInflation(_message.Message):
    __slots__ = ("cosine", "fmr", "fnmr")
    COSINE_FIELD_NUMBER: _ClassVar[int]
    FMR_FIELD_NUMBER: _ClassVar[int]
    FNMR_FIELD_NUMBER: _ClassVar[int]
    cosine: float
    fmr: float
    fnmr: float
    def __init__(self, cosine: _Optional[float] = ..., fmr: _Optional[float] = ..., fnmr: _Optional[float] = ...) -> None: ...

class CalibrateRequest(_message.Message):
    __slots__ = ("options", "pair")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    PAIR_FIELD_NUMBER: _ClassVar[int]
    options: CalibrationOptions
    pair: LabelledPair
    def __init__(self, options: _Optional[_Union[CalibrationOptions, _Mapping]] = ..., pair: _Optional[_Union[LabelledPair, _Mapping]] = ...) -> None: ...

class CalibrationOptions(_message.Message):
    __slots__ = ("gallery_id", "face_selection", "detection", "set_for", "source", "seed")
    GALLERY_ID_FIELD_NUMBER: _ClassVar[int]
    FACE_SELECTION_FIELD_NUMBER: _ClassVar[int]
    DETECTION_FIELD_NUMBER: _ClassVar[int]
    SET_FOR_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    gallery_id: str
    face_selection: _types_pb2.FaceSelection
    detection: _types_pb2.DetectionOptions
    set_for: CurveOwner
    source: str
    seed: int
    def __init__(self, gallery_id: _Optional[str] = ..., face_selection: _Optional[_Union[_types_pb2.FaceSelection, str]] = ..., detection: _Optional[_Union[_types_pb2.DetectionOptions, _Mapping]] = ..., set_for: _Optional[_Union[CurveOwner, _Mapping]] = ..., source: _Optional[str] = ..., seed: _Optional[int] = ...) -> None: ...

class LabelledPair(_message.Message):
    __slots__ = ("tag", "is_mated", "score", "samples", "identity_a", "identity_b")
    TAG_FIELD_NUMBER: _ClassVar[int]
    IS_MATED_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_A_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_B_FIELD_NUMBER: _ClassVar[int]
    tag: str
    is_mated: bool
    score: float
    samples: SamplePair
    identity_a: str
    identity_b: str
    def __init__(self, tag: _Optional[str] = ..., is_mated: bool = ..., score: _Optional[float] = ..., samples: _Optional[_Union[SamplePair, _Mapping]] = ..., identity_a: _Optional[str] = ..., identity_b: _Optional[str] = ...) -> None: ...

class SamplePair(_message.Message):
    __slots__ = ("a", "b")
    A_FIELD_NUMBER: _ClassVar[int]
    B_FIELD_NUMBER: _ClassVar[int]
    a: ComparedSample
    b: ComparedSample
    def __init__(self, a: _Optional[_Union[ComparedSample, _Mapping]] = ..., b: _Optional[_Union[ComparedSample, _Mapping]] = ...) -> None: ...

class ComparedSample(_message.Message):
    __slots__ = ("photo", "embedding")
    PHOTO_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    photo: _types_pb2.Photo
    embedding: _types_pb2.Embedding
    def __init__(self, photo: _Optional[_Union[_types_pb2.Photo, _Mapping]] = ..., embedding: _Optional[_Union[_types_pb2.Embedding, _Mapping]] = ...) -> None: ...

class CalibrateResponse(_message.Message):
    __slots__ = ("result", "calibration")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    result: PairResult
    calibration: Calibration
    def __init__(self, result: _Optional[_Union[PairResult, _Mapping]] = ..., calibration: _Optional[_Union[Calibration, _Mapping]] = ...) -> None: ...

class PairResult(_message.Message):
    __slots__ = ("tag", "score", "failure")
    TAG_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    tag: str
    score: float
    failure: PairFailure
    def __init__(self, tag: _Optional[str] = ..., score: _Optional[float] = ..., failure: _Optional[_Union[PairFailure, _Mapping]] = ...) -> None: ...

class PairFailure(_message.Message):
    __slots__ = ("reason", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Calibration(_message.Message):
    __slots__ = ("curve", "is_set", "lost_mated_count", "lost_non_mated_count", "unit", "unit_count", "equal_error", "rated_thresholds")
    CURVE_FIELD_NUMBER: _ClassVar[int]
    IS_SET_FIELD_NUMBER: _ClassVar[int]
    LOST_MATED_COUNT_FIELD_NUMBER: _ClassVar[int]
    LOST_NON_MATED_COUNT_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    UNIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    EQUAL_ERROR_FIELD_NUMBER: _ClassVar[int]
    RATED_THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    curve: Curve
    is_set: bool
    lost_mated_count: int
    lost_non_mated_count: int
    unit: CalibrationUnit
    unit_count: int
    equal_error: EqualErrorRate
    rated_thresholds: _containers.RepeatedCompositeFieldContainer[RatedThreshold]
    def __init__(self, curve: _Optional[_Union[Curve, _Mapping]] = ..., is_set: bool = ..., lost_mated_count: _Optional[int] = ..., lost_non_mated_count: _Optional[int] = ..., unit: _Optional[_Union[CalibrationUnit, str]] = ..., unit_count: _Optional[int] = ..., equal_error: _Optional[_Union[EqualErrorRate, _Mapping]] = ..., rated_thresholds: _Optional[_Iterable[_Union[RatedThreshold, _Mapping]]] = ...) -> None: ...

class EqualErrorRate(_message.Message):
    __slots__ = ("rate", "rate_low", "rate_high", "cosine")
    RATE_FIELD_NUMBER: _ClassVar[int]
    RATE_LOW_FIELD_NUMBER: _ClassVar[int]
    RATE_HIGH_FIELD_NUMBER: _ClassVar[int]
    COSINE_FIELD_NUMBER: _ClassVar[int]
    rate: float
    rate_low: float
    rate_high: float
    cosine: float
    def __init__(self, rate: _Optional[float] = ..., rate_low: _Optional[float] = ..., rate_high: _Optional[float] = ..., cosine: _Optional[float] = ...) -> None: ...

class RatedThreshold(_message.Message):
    __slots__ = ("fmr_max", "cosine", "comparisons_needed", "fmr", "fmr_low", "fmr_high", "fnmr", "fnmr_low", "fnmr_high")
    FMR_MAX_FIELD_NUMBER: _ClassVar[int]
    COSINE_FIELD_NUMBER: _ClassVar[int]
    COMPARISONS_NEEDED_FIELD_NUMBER: _ClassVar[int]
    FMR_FIELD_NUMBER: _ClassVar[int]
    FMR_LOW_FIELD_NUMBER: _ClassVar[int]
    FMR_HIGH_FIELD_NUMBER: _ClassVar[int]
    FNMR_FIELD_NUMBER: _ClassVar[int]
    FNMR_LOW_FIELD_NUMBER: _ClassVar[int]
    FNMR_HIGH_FIELD_NUMBER: _ClassVar[int]
    fmr_max: float
    cosine: float
    comparisons_needed: int
    fmr: float
    fmr_low: float
    fmr_high: float
    fnmr: float
    fnmr_low: float
    fnmr_high: float
    def __init__(self, fmr_max: _Optional[float] = ..., cosine: _Optional[float] = ..., comparisons_needed: _Optional[int] = ..., fmr: _Optional[float] = ..., fmr_low: _Optional[float] = ..., fmr_high: _Optional[float] = ..., fnmr: _Optional[float] = ..., fnmr_low: _Optional[float] = ..., fnmr_high: _Optional[float] = ...) -> None: ...

class SetCurveRequest(_message.Message):
    __slots__ = ("owner", "curve")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    CURVE_FIELD_NUMBER: _ClassVar[int]
    owner: CurveOwner
    curve: Curve
    def __init__(self, owner: _Optional[_Union[CurveOwner, _Mapping]] = ..., curve: _Optional[_Union[Curve, _Mapping]] = ...) -> None: ...

class SetCurveResponse(_message.Message):
    __slots__ = ("curve",)
    CURVE_FIELD_NUMBER: _ClassVar[int]
    curve: Curve
    def __init__(self, curve: _Optional[_Union[Curve, _Mapping]] = ...) -> None: ...

class GetCurveRequest(_message.Message):
    __slots__ = ("owner",)
    OWNER_FIELD_NUMBER: _ClassVar[int]
    owner: CurveOwner
    def __init__(self, owner: _Optional[_Union[CurveOwner, _Mapping]] = ...) -> None: ...

class GetCurveResponse(_message.Message):
    __slots__ = ("curve", "owner")
    CURVE_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    curve: Curve
    owner: CurveOwner
    def __init__(self, curve: _Optional[_Union[Curve, _Mapping]] = ..., owner: _Optional[_Union[CurveOwner, _Mapping]] = ...) -> None: ...

class DeleteCurveRequest(_message.Message):
    __slots__ = ("owner",)
    OWNER_FIELD_NUMBER: _ClassVar[int]
    owner: CurveOwner
    def __init__(self, owner: _Optional[_Union[CurveOwner, _Mapping]] = ...) -> None: ...

class DeleteCurveResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
