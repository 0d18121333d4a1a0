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

class IfExists(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IF_EXISTS_UNSPECIFIED: _ClassVar[IfExists]
    IF_EXISTS_REFUSE: _ClassVar[IfExists]
    IF_EXISTS_ADD: _ClassVar[IfExists]

class FindingKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINDING_KIND_UNSPECIFIED: _ClassVar[FindingKind]
    FINDING_KIND_DUPLICATE_IDENTITY: _ClassVar[FindingKind]
    FINDING_KIND_UNLIKE_IDENTITY: _ClassVar[FindingKind]

class BulkEnrollOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BULK_ENROLL_OUTCOME_UNSPECIFIED: _ClassVar[BulkEnrollOutcome]
    BULK_ENROLL_OUTCOME_ENROLLED: _ClassVar[BulkEnrollOutcome]
    BULK_ENROLL_OUTCOME_ALREADY_ENROLLED: _ClassVar[BulkEnrollOutcome]
    BULK_ENROLL_OUTCOME_REFUSED: _ClassVar[BulkEnrollOutcome]
    BULK_ENROLL_OUTCOME_FAILED: _ClassVar[BulkEnrollOutcome]
IF_EXISTS_UNSPECIFIED: IfExists
IF_EXISTS_REFUSE: IfExists
IF_EXISTS_ADD: IfExists
FINDING_KIND_UNSPECIFIED: FindingKind
FINDING_KIND_DUPLICATE_IDENTITY: FindingKind
FINDING_KIND_UNLIKE_IDENTITY: FindingKind
BULK_ENROLL_OUTCOME_UNSPECIFIED: BulkEnrollOutcome
BULK_ENROLL_OUTCOME_ENROLLED: BulkEnrollOutcome
BULK_ENROLL_OUTCOME_ALREADY_ENROLLED: BulkEnrollOutcome
BULK_ENROLL_OUTCOME_REFUSED: BulkEnrollOutcome
BULK_ENROLL_OUTCOME_FAILED: BulkEnrollOutcome

class Identity(_message.Message):
    __slots__ = ("identity_id", "display_name", "metadata", "templates", "create_time", "update_time", "damaged")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _types_pb2.MetadataValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_types_pb2.MetadataValue, _Mapping]] = ...) -> None: ...
    IDENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    TEMPLATES_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    DAMAGED_FIELD_NUMBER: _ClassVar[int]
    identity_id: str
    display_name: str
    metadata: _containers.MessageMap[str, _types_pb2.MetadataValue]
    templates: _containers.RepeatedCompositeFieldContainer[Template]
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    damaged: bool
    def __init__(self, identity_id: _Optional[str] = ..., display_name: _Optional[str] = ..., metadata: _Optional[_Mapping[str, _types_pb2.MetadataValue]] = ..., templates: _Optional[_Iterable[_Union[Template, _Mapping]]] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., damaged: bool = ...) -> None: ...

class Template(_message.Message):
    __slots__ = ("template_id", "pack_id", "create_time", "face", "embedding", "has_chip")
    TEMPLATE_ID_FIELD_NUMBER: _ClassVar[int]
    PACK_ID_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    FACE_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    HAS_CHIP_FIELD_NUMBER: _ClassVar[int]
    template_id: str
    pack_id: str
    create_time: _timestamp_pb2.Timestamp
    face: _types_pb2.Face
    embedding: _types_pb2.Embedding
    has_chip: bool
    def __init__(self, template_id: _Optional[str] = ..., pack_id: _Optional[str] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., face: _Optional[_Union[_types_pb2.Face, _Mapping]] = ..., embedding: _Optional[_Union[_types_pb2.Embedding, _Mapping]] = ..., has_chip: bool = ...) -> None: ...

class EnrollRequest(_message.Message):
    __slots__ = ("gallery_id", "identity_id", "display_name", "metadata", "samples", "if_exists", "face_selection", "detection")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _types_pb2.MetadataValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_types_pb2.MetadataValue, _Mapping]] = ...) -> None: ...
    GALLERY_ID_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    IF_EXISTS_FIELD_NUMBER: _ClassVar[int]
    FACE_SELECTION_FIELD_NUMBER: _ClassVar[int]
    DETECTION_FIELD_NUMBER: _ClassVar[int]
    gallery_id: str
    identity_id: str
    display_name: str
    metadata: _containers.MessageMap[str, _types_pb2.MetadataValue]
    samples: _containers.RepeatedCompositeFieldContainer[Sample]
    if_exists: IfExists
    face_selection: _types_pb2.FaceSelection
    detection: _types_pb2.DetectionOptions
    def __init__(self, gallery_id: _Optional[str] = ..., identity_id: _Optional[str] = ..., display_name: _Optional[str] = ..., metadata: _Optional[_Mapping[str, _types_pb2.MetadataValue]] = ..., samples: _Optional[_Iterable[_Union[Sample, _Mapping]]] = ..., if_exists: _Optional[_Union[IfExists, str]] = ..., face_selection: _Optional[_Union[_types_pb2.FaceSelection, str]] = ..., detection: _Optional[_Union[_types_pb2.DetectionOptions, _Mapping]] = ...) -> None: ...

class Sample(_message.Message):
    __slots__ = ("photo", "embedding", "template_id")
    PHOTO_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_ID_FIELD_NUMBER: _ClassVar[int]
    photo: _types_pb2.Photo
    embedding: _types_pb2.Embedding
    template_id: str
    def __init__(self, photo: _Optional[_Union[_types_pb2.Photo, _Mapping]] = ..., embedding: _Optional[_Union[_types_pb2.Embedding, _Mapping]] = ..., template_id: _Optional[str] = ...) -> None: ...

class EnrollResponse(_message.Message):
    __slots__ = ("identity", "results", "created")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    identity: Identity
    results: _containers.RepeatedCompositeFieldContainer[SampleResult]
    created: bool
    def __init__(self, identity: _Optional[_Union[Identity, _Mapping]] = ..., results: _Optional[_Iterable[_Union[SampleResult, _Mapping]]] = ..., created: bool = ...) -> None: ...

class SampleResult(_message.Message):
    __slots__ = ("template", "failure", "already_enrolled", "face_choice", "warnings")
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    ALREADY_ENROLLED_FIELD_NUMBER: _ClassVar[int]
    FACE_CHOICE_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    template: Template
    failure: SampleFailure
    already_enrolled: bool
    face_choice: _types_pb2.FaceChoice
    warnings: _containers.RepeatedCompositeFieldContainer[EnrollmentFinding]
    def __init__(self, template: _Optional[_Union[Template, _Mapping]] = ..., failure: _Optional[_Union[SampleFailure, _Mapping]] = ..., already_enrolled: bool = ..., face_choice: _Optional[_Union[_types_pb2.FaceChoice, _Mapping]] = ..., warnings: _Optional[_Iterable[_Union[EnrollmentFinding, _Mapping]]] = ...) -> None: ...

class SampleFailure(_message.Message):
    __slots__ = ("reason", "message", "shortfalls", "finding")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SHORTFALLS_FIELD_NUMBER: _ClassVar[int]
    FINDING_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    shortfalls: _containers.RepeatedCompositeFieldContainer[QualityShortfall]
    finding: EnrollmentFinding
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ..., shortfalls: _Optional[_Iterable[_Union[QualityShortfall, _Mapping]]] = ..., finding: _Optional[_Union[EnrollmentFinding, _Mapping]] = ...) -> None: ...

class EnrollmentFinding(_message.Message):
    __slots__ = ("kind", "identity_id", "score", "cosine")
    KIND_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    COSINE_FIELD_NUMBER: _ClassVar[int]
    kind: FindingKind
    identity_id: str
    score: float
    cosine: float
    def __init__(self, kind: _Optional[_Union[FindingKind, str]] = ..., identity_id: _Optional[str] = ..., score: _Optional[float] = ..., cosine: _Optional[float] = ...) -> None: ...

class QualityShortfall(_message.Message):
    __slots__ = ("measure", "value", "limit_name", "limit")
    MEASURE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_NAME_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    measure: str
    value: float
    limit_name: str
    limit: float
    def __init__(self, measure: _Optional[str] = ..., value: _Optional[float] = ..., limit_name: _Optional[str] = ..., limit: _Optional[float] = ...) -> None: ...

class BulkEnrollRequest(_message.Message):
    __slots__ = ("options", "item")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    options: BulkEnrollOptions
    item: BulkEnrollItem
    def __init__(self, options: _Optional[_Union[BulkEnrollOptions, _Mapping]] = ..., item: _Optional[_Union[BulkEnrollItem, _Mapping]] = ...) -> None: ...

class BulkEnrollOptions(_message.Message):
    __slots__ = ("gallery_id", "if_exists", "face_selection", "detection")
    GALLERY_ID_FIELD_NUMBER: _ClassVar[int]
    IF_EXISTS_FIELD_NUMBER: _ClassVar[int]
    FACE_SELECTION_FIELD_NUMBER: _ClassVar[int]
    DETECTION_FIELD_NUMBER: _ClassVar[int]
    gallery_id: str
    if_exists: IfExists
    face_selection: _types_pb2.FaceSelection
    detection: _types_pb2.DetectionOptions
    def __init__(self, gallery_id: _Optional[str] = ..., if_exists: _Optional[_Union[IfExists, str]] = ..., face_selection: _Optional[_Union[_types_pb2.FaceSelection, str]] = ..., detection: _Optional[_Union[_types_pb2.DetectionOptions, _Mapping]] = ...) -> None: ...

class BulkEnrollItem(_message.Message):
    __slots__ = ("idempotency_key", "identity_id", "display_name", "metadata", "photo", "embedding")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _types_pb2.MetadataValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_types_pb2.MetadataValue, _Mapping]] = ...) -> None: ...
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    PHOTO_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    idempotency_key: str
    identity_id: str
    display_name: str
    metadata: _containers.MessageMap[str, _types_pb2.MetadataValue]
    photo: _types_pb2.Photo
    embedding: _types_pb2.Embedding
    def __init__(self, idempotency_key: _Optional[str] = ..., identity_id: _Optional[str] = ..., display_name: _Optional[str] = ..., metadata: _Optional[_Mapping[str, _types_pb2.MetadataValue]] = ..., photo: _Optional[_Union[_types_pb2.Photo, _Mapping]] = ..., embedding: _Optional[_Union[_types_pb2.Embedding, _Mapping]] = ...) -> None: ...

class BulkEnrollResponse(_message.Message):
    __slots__ = ("result", "summary")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    result: BulkEnrollResult
    summary: BulkEnrollSummary
    def __init__(self, result: _Optional[_Union[BulkEnrollResult, _Mapping]] = ..., summary: _Optional[_Union[BulkEnrollSummary, _Mapping]] = ...) -> None: ...

class BulkEnrollResult(_message.Message):
    __slots__ = ("idempotency_key", "identity_id", "outcome", "created", "failure", "face_choice", "warnings")
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    FACE_CHOICE_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    idempotency_key: str
    identity_id: str
    outcome: BulkEnrollOutcome
    created: bool
    failure: SampleFailure
    face_choice: _types_pb2.FaceChoice
    warnings: _containers.RepeatedCompositeFieldContainer[EnrollmentFinding]
    def __init__(self, idempotency_key: _Optional[str] = ..., identity_id: _Optional[str] = ..., outcome: _Optional[_Union[BulkEnrollOutcome, str]] = ..., created: bool = ..., failure: _Optional[_Union[SampleFailure, _Mapping]] = ..., face_choice: _Optional[_Union[_types_pb2.FaceChoice, _Mapping]] = ..., warnings: _Optional[_Iterable[_Union[EnrollmentFinding, _Mapping]]] = ...) -> None: ...

class BulkEnrollSummary(_message.Message):
    __slots__ = ("item_count", "enrolled_count", "already_enrolled_count", "refused_count", "failed_count", "failure_to_acquire_count", "reason_counts")
    class ReasonCountsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ITEM_COUNT_FIELD_NUMBER: _ClassVar[int]
    ENROLLED_COUNT_FIELD_NUMBER: _ClassVar[int]
    ALREADY_ENROLLED_COUNT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_COUNT_FIELD_NUMBER: _ClassVar[int]
    FAILED_COUNT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_TO_ACQUIRE_COUNT_FIELD_NUMBER: _ClassVar[int]
    REASON_COUNTS_FIELD_NUMBER: _ClassVar[int]
    item_count: int
    enrolled_count: int
    already_enrolled_count: int
    refused_count: int
    failed_count: int
    failure_to_acquire_count: int
    reason_counts: _containers.ScalarMap[str, int]
    def __init__(self, item_count: _Optional[int] = ..., enrolled_count: _Optional[int] = ..., already_enrolled_count: _Optional[int] = ..., refused_count: _Optional[int] = ..., failed_count: _Optional[int] = ..., failure_to_acquire_count: _Optional[int] = ..., reason_counts: _Optional[_Mapping[str, int]] = ...) -> None: ...

class GetIdentityRequest(_message.Message):
    __slots__ = ("gallery_id", "identity_id", "include_embeddings")
    GALLERY_ID_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    gallery_id: str
    identity_id: str
    include_embeddings: bool
    def __init__(self, gallery_id: _Optional[str] = ..., identity_id: _Optional[str] = ..., include_embeddings: bool = ...) -> None: ...

class GetIdentityResponse(_message.Message):
    __slots__ = ("identity",)
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    identity: Identity
    def __init__(self, identity: _Optional[_Union[Identity, _Mapping]] = ...) -> None: ...

class ListIdentitiesRequest(_message.Message):
    __slots__ = ("gallery_id", "page_size", "page_token")
    GALLERY_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    gallery_id: str
    page_size: int
    page_token: str
    def __init__(self, gallery_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListIdentitiesResponse(_message.Message):
    __slots__ = ("identities", "next_page_token")
    IDENTITIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    identities: _containers.RepeatedCompositeFieldContainer[Identity]
    next_page_token: str
    def __init__(self, identities: _Optional[_Iterable[_Union[Identity, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateIdentityRequest(_message.Message):
    __slots__ = ("gallery_id", "identity", "update_mask")
    GALLERY_ID_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    gallery_id: str
    identity: Identity
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, gallery_id: _Optional[str] = ..., identity: _Optional[_Union[Identity, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class UpdateIdentityResponse(_message.Message):
    __slots__ = ("identity",)
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    identity: Identity
    def __init__(self, identity: _Optional[_Union[Identity, _Mapping]] = ...) -> None: ...

class DeleteIdentityRequest(_message.Message):
    __slots__ = ("gallery_id", "identity_id")
    GALLERY_ID_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    gallery_id: str
    identity_id: str
    def __init__(self, gallery_id: _Optional[str] = ..., identity_id: _Optional[str] = ...) -> None: ...

class DeleteIdentityResponse(_message.Message):
    __slots__ = ("sequence", "delete_time")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DELETE_TIME_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    delete_time: _timestamp_pb2.Timestamp
    def __init__(self, sequence: _Optional[int] = ..., delete_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class DeleteTemplateRequest(_message.Message):
    __slots__ = ("gallery_id", "identity_id", "template_id")
    GALLERY_ID_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_ID_FIELD_NUMBER: _ClassVar[int]
    gallery_id: str
    identity_id: str
    template_id: str
    def __init__(self, gallery_id: _Optional[str] = ..., identity_id: _Optional[str] = ..., template_id: _Optional[str] = ...) -> None: ...

class DeleteTemplateResponse(_message.Message):
    __slots__ = ("sequence", "delete_time")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DELETE_TIME_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    delete_time: _timestamp_pb2.Timestamp
    def __init__(self, sequence: _Optional[int] = ..., delete_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
