from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FaceSelection(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FACE_SELECTION_UNSPECIFIED: _ClassVar[FaceSelection]
    FACE_SELECTION_LARGEST: _ClassVar[FaceSelection]
    FACE_SELECTION_CENTER: _ClassVar[FaceSelection]
    FACE_SELECTION_EXACTLY_ONE: _ClassVar[FaceSelection]
    FACE_SELECTION_ALL: _ClassVar[FaceSelection]

class ThresholdSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    THRESHOLD_SOURCE_UNSPECIFIED: _ClassVar[ThresholdSource]
    THRESHOLD_SOURCE_REQUEST: _ClassVar[ThresholdSource]
    THRESHOLD_SOURCE_GALLERY: _ClassVar[ThresholdSource]
    THRESHOLD_SOURCE_PACK: _ClassVar[ThresholdSource]
    THRESHOLD_SOURCE_UNCALIBRATED_DEFAULT: _ClassVar[ThresholdSource]
    THRESHOLD_SOURCE_CURVE: _ClassVar[ThresholdSource]

class ThresholdWarning(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    THRESHOLD_WARNING_UNSPECIFIED: _ClassVar[ThresholdWarning]
    THRESHOLD_WARNING_GALLERY_OUTGREW_CURVE: _ClassVar[ThresholdWarning]
    THRESHOLD_WARNING_CURVE_TOO_SMALL: _ClassVar[ThresholdWarning]

class SearchPath(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEARCH_PATH_UNSPECIFIED: _ClassVar[SearchPath]
    SEARCH_PATH_EXACT: _ClassVar[SearchPath]
    SEARCH_PATH_GRAPH: _ClassVar[SearchPath]
FACE_SELECTION_UNSPECIFIED: FaceSelection
FACE_SELECTION_LARGEST: FaceSelection
FACE_SELECTION_CENTER: FaceSelection
FACE_SELECTION_EXACTLY_ONE: FaceSelection
FACE_SELECTION_ALL: FaceSelection
THRESHOLD_SOURCE_UNSPECIFIED: ThresholdSource
THRESHOLD_SOURCE_REQUEST: ThresholdSource
THRESHOLD_SOURCE_GALLERY: ThresholdSource
THRESHOLD_SOURCE_PACK: ThresholdSource
THRESHOLD_SOURCE_UNCALIBRATED_DEFAULT: ThresholdSource
THRESHOLD_SOURCE_CURVE: ThresholdSource
THRESHOLD_WARNING_UNSPECIFIED: ThresholdWarning
THRESHOLD_WARNING_GALLERY_OUTGREW_CURVE: ThresholdWarning
THRESHOLD_WARNING_CURVE_TOO_SMALL: ThresholdWarning
SEARCH_PATH_UNSPECIFIED: SearchPath
SEARCH_PATH_EXACT: SearchPath
SEARCH_PATH_GRAPH: SearchPath

class Photo(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class Point(_message.Message):
    __slots__ = ("x_px", "y_px")
    X_PX_FIELD_NUMBER: _ClassVar[int]
    Y_PX_FIELD_NUMBER: _ClassVar[int]
    x_px: float
    y_px: float
    def __init__(self, x_px: _Optional[float] = ..., y_px: _Optional[float] = ...) -> None: ...

class Box(_message.Message):
    __slots__ = ("x_min_px", "y_min_px", "x_max_px", "y_max_px")
    X_MIN_PX_FIELD_NUMBER: _ClassVar[int]
    Y_MIN_PX_FIELD_NUMBER: _ClassVar[int]
    X_MAX_PX_FIELD_NUMBER: _ClassVar[int]
    Y_MAX_PX_FIELD_NUMBER: _ClassVar[int]
    x_min_px: float
    y_min_px: float
    x_max_px: float
    y_max_px: float
    def __init__(self, x_min_px: _Optional[float] = ..., y_min_px: _Optional[float] = ..., x_max_px: _Optional[float] = ..., y_max_px: _Optional[float] = ...) -> None: ...

class Face(_message.Message):
    __slots__ = ("box", "detection_score", "landmarks", "eye_distance_px", "quality")
    BOX_FIELD_NUMBER: _ClassVar[int]
    DETECTION_SCORE_FIELD_NUMBER: _ClassVar[int]
    LANDMARKS_FIELD_NUMBER: _ClassVar[int]
    EYE_DISTANCE_PX_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    box: Box
    detection_score: float
    landmarks: _containers.RepeatedCompositeFieldContainer[Point]
    eye_distance_px: float
    quality: FaceQuality
    def __init__(self, box: _Optional[_Union[Box, _Mapping]] = ..., detection_score: _Optional[float] = ..., landmarks: _Optional[_Iterable[_Union[Point, _Mapping]]] = ..., eye_distance_px: _Optional[float] = ..., quality: _Optional[_Union[FaceQuality, _Mapping]] = ...) -> None: ...

class FaceQuality(_message.Message):
    __slots__ = ("face_side_px", "sharpness", "brightness", "contrast", "clipped_share", "yaw_degrees", "pitch_degrees", "roll_degrees", "weight")
    FACE_SIDE_PX_FIELD_NUMBER: _ClassVar[int]
    SHARPNESS_FIELD_NUMBER: _ClassVar[int]
    BRIGHTNESS_FIELD_NUMBER: _ClassVar[int]
    CONTRAST_FIELD_NUMBER: _ClassVar[int]
    CLIPPED_SHARE_FIELD_NUMBER: _ClassVar[int]
    YAW_DEGREES_FIELD_NUMBER: _ClassVar[int]
    PITCH_DEGREES_FIELD_NUMBER: _ClassVar[int]
    ROLL_DEGREES_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    face_side_px: float
    sharpness: float
    brightness: float
    contrast: float
    clipped_share: float
    yaw_degrees: float
    pitch_degrees: float
    roll_degrees: float
    weight: float
    def __init__(self, face_side_px: _Optional[float] = ..., sharpness: _Optional[float] = ..., brightness: _Optional[float] = ..., contrast: _Optional[float] = ..., clipped_share: _Optional[float] = ..., yaw_degrees: _Optional[float] = ..., pitch_degrees: _Optional[float] = ..., roll_degrees: _Optional[float] = ..., weight: _Optional[float] = ...) -> None: ...

class Embedding(_message.Message):
    __slots__ = ("values", "pack_id")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    PACK_ID_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    pack_id: str
    def __init__(self, values: _Optional[_Iterable[float]] = ..., pack_id: _Optional[str] = ...) -> None: ...

class DetectionOptions(_message.Message):
    __slots__ = ("input_sides_px", "score_min")
    INPUT_SIDES_PX_FIELD_NUMBER: _ClassVar[int]
    SCORE_MIN_FIELD_NUMBER: _ClassVar[int]
    input_sides_px: _containers.RepeatedScalarFieldContainer[int]
    score_min: float
    def __init__(self, input_sides_px: _Optional[_Iterable[int]] = ..., score_min: _Optional[float] = ...) -> None: ...

class FaceChoice(_message.Message):
    __slots__ = ("faces", "chosen_index", "selection")
    FACES_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_INDEX_FIELD_NUMBER: _ClassVar[int]
    SELECTION_FIELD_NUMBER: _ClassVar[int]
    faces: _containers.RepeatedCompositeFieldContainer[Face]
    chosen_index: int
    selection: FaceSelection
    def __init__(self, faces: _Optional[_Iterable[_Union[Face, _Mapping]]] = ..., chosen_index: _Optional[int] = ..., selection: _Optional[_Union[FaceSelection, str]] = ...) -> None: ...

class OperatingPoint(_message.Message):
    __slots__ = ("cosine", "fmr", "fpir")
    COSINE_FIELD_NUMBER: _ClassVar[int]
    FMR_FIELD_NUMBER: _ClassVar[int]
    FPIR_FIELD_NUMBER: _ClassVar[int]
    cosine: float
    fmr: float
    fpir: float
    def __init__(self, cosine: _Optional[float] = ..., fmr: _Optional[float] = ..., fpir: _Optional[float] = ...) -> None: ...

class AppliedThreshold(_message.Message):
    __slots__ = ("cosine", "source", "estimated_error_rate", "estimated_error_rate_low", "estimated_error_rate_high", "curve_id", "warning")
    COSINE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_ERROR_RATE_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_ERROR_RATE_LOW_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_ERROR_RATE_HIGH_FIELD_NUMBER: _ClassVar[int]
    CURVE_ID_FIELD_NUMBER: _ClassVar[int]
    WARNING_FIELD_NUMBER: _ClassVar[int]
    cosine: float
    source: ThresholdSource
    estimated_error_rate: float
    estimated_error_rate_low: float
    estimated_error_rate_high: float
    curve_id: str
    warning: ThresholdWarning
    def __init__(self, cosine: _Optional[float] = ..., source: _Optional[_Union[ThresholdSource, str]] = ..., estimated_error_rate: _Optional[float] = ..., estimated_error_rate_low: _Optional[float] = ..., estimated_error_rate_high: _Optional[float] = ..., curve_id: _Optional[str] = ..., warning: _Optional[_Union[ThresholdWarning, str]] = ...) -> None: ...

class MetadataValue(_message.Message):
    __slots__ = ("string_value", "number_value", "bool_value", "time_value")
    STRING_VALUE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_VALUE_FIELD_NUMBER: _ClassVar[int]
    BOOL_VALUE_FIELD_NUMBER: _ClassVar[int]
    TIME_VALUE_FIELD_NUMBER: _ClassVar[int]
    string_value: str
    number_value: float
    bool_value: bool
    time_value: _timestamp_pb2.Timestamp
    def __init__(self, string_value: _Optional[str] = ..., number_value: _Optional[float] = ..., bool_value: bool = ..., time_value: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
