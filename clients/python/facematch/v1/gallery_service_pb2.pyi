from facematch.v1 import types_pb2 as _types_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SearchPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEARCH_POLICY_UNSPECIFIED: _ClassVar[SearchPolicy]
    SEARCH_POLICY_EXACT: _ClassVar[SearchPolicy]
    SEARCH_POLICY_GRAPH: _ClassVar[SearchPolicy]
    SEARCH_POLICY_AUTO: _ClassVar[SearchPolicy]

class CheckPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHECK_POLICY_UNSPECIFIED: _ClassVar[CheckPolicy]
    CHECK_POLICY_OFF: _ClassVar[CheckPolicy]
    CHECK_POLICY_WARN: _ClassVar[CheckPolicy]
    CHECK_POLICY_REJECT: _ClassVar[CheckPolicy]

class Fusion(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FUSION_UNSPECIFIED: _ClassVar[Fusion]
    FUSION_MAX: _ClassVar[Fusion]
    FUSION_MEAN: _ClassVar[Fusion]
    FUSION_QUALITY_WEIGHTED_MEAN: _ClassVar[Fusion]
SEARCH_POLICY_UNSPECIFIED: SearchPolicy
SEARCH_POLICY_EXACT: SearchPolicy
SEARCH_POLICY_GRAPH: SearchPolicy
SEARCH_POLICY_AUTO: SearchPolicy
CHECK_POLICY_UNSPECIFIED: CheckPolicy
CHECK_POLICY_OFF: CheckPolicy
CHECK_POLICY_WARN: CheckPolicy
CHECK_POLICY_REJECT: CheckPolicy
FUSION_UNSPECIFIED: Fusion
FUSION_MAX: Fusion
FUSION_MEAN: Fusion
FUSION_QUALITY_WEIGHTED_MEAN: Fusion

class Gallery(_message.Message):
    __slots__ = ("gallery_id", "display_name", "search_policy", "ambiguity_margin", "identification_cosine", "pack_id", "identity_count", "template_count", "create_time", "update_time", "damaged_identity_count", "search_path", "graph_build_progress", "graph_recall", "quality_gate", "fusion", "duplicate_policy", "duplicate_cosine", "consistency_policy", "consistency_cosine", "graph_recall_target", "keep_chips")
    GALLERY_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    SEARCH_POLICY_FIELD_NUMBER: _ClassVar[int]
    AMBIGUITY_MARGIN_FIELD_NUMBER: _ClassVar[int]
    IDENTIFICATION_COSINE_FIELD_NUMBER: _ClassVar[int]
    PACK_ID_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_COUNT_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_COUNT_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    DAMAGED_IDENTITY_COUNT_FIELD_NUMBER: _ClassVar[int]
    SEARCH_PATH_FIELD_NUMBER: _ClassVar[int]
    GRAPH_BUILD_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    GRAPH_RECALL_FIELD_NUMBER: _ClassVar[int]
    QUALITY_GATE_FIELD_NUMBER: _ClassVar[int]
    FUSION_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_POLICY_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_COSINE_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_POLICY_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_COSINE_FIELD_NUMBER: _ClassVar[int]
    GRAPH_RECALL_TARGET_FIELD_NUMBER: _ClassVar[int]
    KEEP_CHIPS_FIELD_NUMBER: _ClassVar[int]
    gallery_id: str
    display_name: str
    search_policy: SearchPolicy
    ambiguity_margin: float
    identification_cosine: float
    pack_id: str
    identity_count: int
    template_count: int
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    damaged_identity_count: int
    search_path: _types_pb2.SearchPath
    graph_build_progress: float
    graph_recall: GraphRecall
    quality_gate: QualityGate
    fusion: Fusion
    duplicate_policy: CheckPolicy
    duplicate_cosine: float
    consistency_policy: CheckPolicy
    consistency_cosine: float
    graph_recall_target: float
    keep_chips: bool
    def __init__(self, gallery_id: _Optional[str] = ..., display_name: _Optional[str] = ..., search_policy: _Optional[_Union[SearchPolicy, str]] = ..., ambiguity_margin: _Optional[float] = ..., identification_cosine: _Optional[float] = ..., pack_id: _Optional[str] = ..., identity_count: _Optional[int] = ..., template_count: _Optional[int] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., damaged_identity_count: _Optional[int] = ..., search_path: _Optional[_Union[_types_pb2.SearchPath, str]] = ..., graph_build_progress: _Optional[float] = ..., graph_recall: _Optional[_Union[GraphRecall, _Mapping]] = ..., quality_gate: _Optional[_Union[QualityGate, _Mapping]] = ..., fusion: _Optional[_Union[Fusion, str]] = ..., duplicate_policy: _Optional[_Union[CheckPolicy, str]] = ..., duplicate_cosine: _Optional[float] = ..., consistency_policy: _Optional[_Union[CheckPolicy, str]] = ..., consistency_cosine: _Optional[float] = ..., graph_recall_target: _Optional[float] = ..., keep_chips: bool = ...) -> None: ...

class QualityGate(_message.Message):
    __slots__ = ("eye_distance_px_min", "face_side_px_min", "detection_score_min", "sharpness_min", "brightness_min", "brightness_max", "contrast_min", "clipped_share_max", "yaw_degrees_max", "pitch_degrees_max", "roll_degrees_max")
    EYE_DISTANCE_PX_MIN_FIELD_NUMBER: _ClassVar[int]
    FACE_SIDE_PX_MIN_FIELD_NUMBER: _ClassVar[int]
    DETECTION_SCORE_MIN_FIELD_NUMBER: _ClassVar[int]
    SHARPNESS_MIN_FIELD_NUMBER: _ClassVar[int]
    BRIGHTNESS_MIN_FIELD_NUMBER: _ClassVar[int]
    BRIGHTNESS_MAX_FIELD_NUMBER: _ClassVar[int]
    CONTRAST_MIN_FIELD_NUMBER: _ClassVar[int]
    CLIPPED_SHARE_MAX_FIELD_NUMBER: _ClassVar[int]
    YAW_DEGREES_MAX_FIELD_NUMBER: _ClassVar[int]
    PITCH_DEGREES_MAX_FIELD_NUMBER: _ClassVar[int]
    ROLL_DEGREES_MAX_FIELD_NUMBER: _ClassVar[int]
    eye_distance_px_min: float
    face_side_px_min: float
    detection_score_min: float
    sharpness_min: float
    brightness_min: float
    brightness_max: float
    contrast_min: float
    clipped_share_max: float
    yaw_degrees_max: float
    pitch_degrees_max: float
    roll_degrees_max: float
    def __init__(self, eye_distance_px_min: _Optional[float] = ..., face_side_px_min: _Optional[float] = ..., detection_score_min: _Optional[float] = ..., sharpness_min: _Optional[float] = ..., brightness_min: _Optional[float] = ..., brightness_max: _Optional[float] = ..., contrast_min: _Optional[float] = ..., clipped_share_max: _Optional[float] = ..., yaw_degrees_max: _Optional[float] = ..., pitch_degrees_max: _Optional[float] = ..., roll_degrees_max: _Optional[float] = ...) -> None: ...

class GraphRecall(_message.Message):
    __slots__ = ("probe_count", "missed_count", "miss_rate", "miss_rate_low", "miss_rate_high", "expansion", "measure_time")
    PROBE_COUNT_FIELD_NUMBER: _ClassVar[int]
    MISSED_COUNT_FIELD_NUMBER: _ClassVar[int]
    MISS_RATE_FIELD_NUMBER: _ClassVar[int]
    MISS_RATE_LOW_FIELD_NUMBER: _ClassVar[int]
    MISS_RATE_HIGH_FIELD_NUMBER: _ClassVar[int]
    EXPANSION_FIELD_NUMBER: _ClassVar[int]
    MEASURE_TIME_FIELD_NUMBER: _ClassVar[int]
    probe_count: int
    missed_count: int
    miss_rate: float
    miss_rate_low: float
    miss_rate_high: float
    expansion: int
    measure_time: _timestamp_pb2.Timestamp
    def __init__(self, probe_count: _Optional[int] = ..., missed_count: _Optional[int] = ..., miss_rate: _Optional[float] = ..., miss_rate_low: _Optional[float] = ..., miss_rate_high: _Optional[float] = ..., expansion: _Optional[int] = ..., measure_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CreateGalleryRequest(_message.Message):
    __slots__ = ("gallery",)
    GALLERY_FIELD_NUMBER: _ClassVar[int]
    gallery: Gallery
    def __init__(self, gallery: _Optional[_Union[Gallery, _Mapping]] = ...) -> None: ...

class CreateGalleryResponse(_message.Message):
    __slots__ = ("gallery",)
    GALLERY_FIELD_NUMBER: _ClassVar[int]
    gallery: Gallery
    def __init__(self, gallery: _Optional[_Union[Gallery, _Mapping]] = ...) -> None: ...

class GetGalleryRequest(_message.Message):
    __slots__ = ("gallery_id",)
    GALLERY_ID_FIELD_NUMBER: _ClassVar[int]
    gallery_id: str
    def __init__(self, gallery_id: _Optional[str] = ...) -> None: ...

class GetGalleryResponse(_message.Message):
    __slots__ = ("gallery",)
    GALLERY_FIELD_NUMBER: _ClassVar[int]
    gallery: Gallery
    def __init__(self, gallery: _Optional[_Union[Gallery, _Mapping]] = ...) -> None: ...

class ListGalleriesRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListGalleriesResponse(_message.Message):
    __slots__ = ("galleries", "next_page_token")
    GALLERIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    galleries: _containers.RepeatedCompositeFieldContainer[Gallery]
    next_page_token: str
    def __init__(self, galleries: _Optional[_Iterable[_Union[Gallery, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateGalleryRequest(_message.Message):
    __slots__ = ("gallery", "update_mask")
    GALLERY_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    gallery: Gallery
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, gallery: _Optional[_Union[Gallery, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class UpdateGalleryResponse(_message.Message):
    __slots__ = ("gallery",)
    GALLERY_FIELD_NUMBER: _ClassVar[int]
    gallery: Gallery
    def __init__(self, gallery: _Optional[_Union[Gallery, _Mapping]] = ...) -> None: ...

class DeleteGalleryRequest(_message.Message):
    __slots__ = ("gallery_id", "force")
    GALLERY_ID_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    gallery_id: str
    force: bool
    def __init__(self, gallery_id: _Optional[str] = ..., force: bool = ...) -> None: ...

class DeleteGalleryResponse(_message.Message):
    __slots__ = ("sequence", "delete_time")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DELETE_TIME_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    delete_time: _timestamp_pb2.Timestamp
    def __init__(self, sequence: _Optional[int] = ..., delete_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ExportGalleryRequest(_message.Message):
    __slots__ = ("gallery_id",)
    GALLERY_ID_FIELD_NUMBER: _ClassVar[int]
    gallery_id: str
    def __init__(self, gallery_id: _Optional[str] = ...) -> None: ...

class ExportGalleryResponse(_message.Message):
    __slots__ = ("data", "identity_count", "identity_total", "damaged_identity_count")
    DATA_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_COUNT_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_TOTAL_FIELD_NUMBER: _ClassVar[int]
    DAMAGED_IDENTITY_COUNT_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    identity_count: int
    identity_total: int
    damaged_identity_count: int
    def __init__(self, data: _Optional[bytes] = ..., identity_count: _Optional[int] = ..., identity_total: _Optional[int] = ..., damaged_identity_count: _Optional[int] = ...) -> None: ...

class ImportGalleryRequest(_message.Message):
    __slots__ = ("gallery_id", "offset", "data")
    GALLERY_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    gallery_id: str
    offset: int
    data: bytes
    def __init__(self, gallery_id: _Optional[str] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class ImportGalleryResponse(_message.Message):
    __slots__ = ("gallery",)
    GALLERY_FIELD_NUMBER: _ClassVar[int]
    gallery: Gallery
    def __init__(self, gallery: _Optional[_Union[Gallery, _Mapping]] = ...) -> None: ...

class GetImportRequest(_message.Message):
    __slots__ = ("gallery_id",)
    GALLERY_ID_FIELD_NUMBER: _ClassVar[int]
    gallery_id: str
    def __init__(self, gallery_id: _Optional[str] = ...) -> None: ...

class GetImportResponse(_message.Message):
    __slots__ = ("export_id", "offset")
    EXPORT_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    export_id: str
    offset: int
    def __init__(self, export_id: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class CompactGalleriesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CompactGalleriesResponse(_message.Message):
    __slots__ = ("identity_count", "identity_total", "bytes_before", "bytes_after")
    IDENTITY_COUNT_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_TOTAL_FIELD_NUMBER: _ClassVar[int]
    BYTES_BEFORE_FIELD_NUMBER: _ClassVar[int]
    BYTES_AFTER_FIELD_NUMBER: _ClassVar[int]
    identity_count: int
    identity_total: int
    bytes_before: int
    bytes_after: int
    def __init__(self, identity_count: _Optional[int] = ..., identity_total: _Optional[int] = ..., bytes_before: _Optional[int] = ..., bytes_after: _Optional[int] = ...) -> None: ...

class MoveGalleryRequest(_message.Message):
    __slots__ = ("gallery_id", "to", "as_it_was", "only_server")
    GALLERY_ID_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    AS_IT_WAS_FIELD_NUMBER: _ClassVar[int]
    ONLY_SERVER_FIELD_NUMBER: _ClassVar[int]
    gallery_id: str
    to: str
    as_it_was: bool
    only_server: bool
    def __init__(self, gallery_id: _Optional[str] = ..., to: _Optional[str] = ..., as_it_was: bool = ..., only_server: bool = ...) -> None: ...

class MoveGalleryResponse(_message.Message):
    __slots__ = ("identity_count", "identity_total", "compared_count", "switched")
    IDENTITY_COUNT_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_TOTAL_FIELD_NUMBER: _ClassVar[int]
    COMPARED_COUNT_FIELD_NUMBER: _ClassVar[int]
    SWITCHED_FIELD_NUMBER: _ClassVar[int]
    identity_count: int
    identity_total: int
    compared_count: int
    switched: bool
    def __init__(self, identity_count: _Optional[int] = ..., identity_total: _Optional[int] = ..., compared_count: _Optional[int] = ..., switched: bool = ...) -> None: ...

class DeleteGalleryCopyRequest(_message.Message):
    __slots__ = ("gallery_id",)
    GALLERY_ID_FIELD_NUMBER: _ClassVar[int]
    gallery_id: str
    def __init__(self, gallery_id: _Optional[str] = ...) -> None: ...

class DeleteGalleryCopyResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MigrateGalleryRequest(_message.Message):
    __slots__ = ("gallery_id", "pack", "loss_max", "trial")
    GALLERY_ID_FIELD_NUMBER: _ClassVar[int]
    PACK_FIELD_NUMBER: _ClassVar[int]
    LOSS_MAX_FIELD_NUMBER: _ClassVar[int]
    TRIAL_FIELD_NUMBER: _ClassVar[int]
    gallery_id: str
    pack: str
    loss_max: float
    trial: bool
    def __init__(self, gallery_id: _Optional[str] = ..., pack: _Optional[str] = ..., loss_max: _Optional[float] = ..., trial: bool = ...) -> None: ...

class MigrateGalleryResponse(_message.Message):
    __slots__ = ("identity_count", "identity_total", "comparison", "switched")
    IDENTITY_COUNT_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_TOTAL_FIELD_NUMBER: _ClassVar[int]
    COMPARISON_FIELD_NUMBER: _ClassVar[int]
    SWITCHED_FIELD_NUMBER: _ClassVar[int]
    identity_count: int
    identity_total: int
    comparison: MigrationComparison
    switched: bool
    def __init__(self, identity_count: _Optional[int] = ..., identity_total: _Optional[int] = ..., comparison: _Optional[_Union[MigrationComparison, _Mapping]] = ..., switched: bool = ...) -> None: ...

class MigrationComparison(_message.Message):
    __slots__ = ("probe_count", "found_before_count", "found_after_count")
    PROBE_COUNT_FIELD_NUMBER: _ClassVar[int]
    FOUND_BEFORE_COUNT_FIELD_NUMBER: _ClassVar[int]
    FOUND_AFTER_COUNT_FIELD_NUMBER: _ClassVar[int]
    probe_count: int
    found_before_count: int
    found_after_count: int
    def __init__(self, probe_count: _Optional[int] = ..., found_before_count: _Optional[int] = ..., found_after_count: _Optional[int] = ...) -> None: ...
