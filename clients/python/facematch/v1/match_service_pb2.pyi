from facematch.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class IdentifyDecision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IDENTIFY_DECISION_UNSPECIFIED: _ClassVar[IdentifyDecision]
    IDENTIFY_DECISION_MATCH: _ClassVar[IdentifyDecision]
    IDENTIFY_DECISION_NO_MATCH: _ClassVar[IdentifyDecision]
    IDENTIFY_DECISION_AMBIGUOUS: _ClassVar[IdentifyDecision]
    IDENTIFY_DECISION_NOT_SEARCHABLE: _ClassVar[IdentifyDecision]
IDENTIFY_DECISION_UNSPECIFIED: IdentifyDecision
IDENTIFY_DECISION_MATCH: IdentifyDecision
IDENTIFY_DECISION_NO_MATCH: IdentifyDecision
IDENTIFY_DECISION_AMBIGUOUS: IdentifyDecision
IDENTIFY_DECISION_NOT_SEARCHABLE: IdentifyDecision

class IdentifyRequest(_message.Message):
    __slots__ = ("gallery_id", "probe", "top_k", "operating_point", "ambiguity_margin", "exact", "face_selection", "detection", "filter", "candidate_identity_ids", "each_identity_once")
    GALLERY_ID_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    OPERATING_POINT_FIELD_NUMBER: _ClassVar[int]
    AMBIGUITY_MARGIN_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    FACE_SELECTION_FIELD_NUMBER: _ClassVar[int]
    DETECTION_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_IDENTITY_IDS_FIELD_NUMBER: _ClassVar[int]
    EACH_IDENTITY_ONCE_FIELD_NUMBER: _ClassVar[int]
    gallery_id: str
    probe: Probe
    top_k: int
    operating_point: _types_pb2.OperatingPoint
    ambiguity_margin: float
    exact: bool
    face_selection: _types_pb2.FaceSelection
    detection: _types_pb2.DetectionOptions
    filter: str
    candidate_identity_ids: _containers.RepeatedScalarFieldContainer[str]
    each_identity_once: bool
    def __init__(self, gallery_id: _Optional[str] = ..., probe: _Optional[_Union[Probe, _Mapping]] = ..., top_k: _Optional[int] = ..., operating_point: _Optional[_Union[_types_pb2.OperatingPoint, _Mapping]] = ..., ambiguity_margin: _Optional[float] = ..., exact: bool = ..., face_selection: _Optional[_Union[_types_pb2.FaceSelection, str]] = ..., detection: _Optional[_Union[_types_pb2.DetectionOptions, _Mapping]] = ..., filter: _Optional[str] = ..., candidate_identity_ids: _Optional[_Iterable[str]] = ..., each_identity_once: bool = ...) -> None: ...

class Probe(_message.Message):
    __slots__ = ("photo", "embedding")
    PHOTO_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    photo: _types_pb2.Photo
    embedding: _types_pb2.Embedding
    def __init__(self, photo: _Optional[_Union[_types_pb2.Photo, _Mapping]] = ..., embedding: _Optional[_Union[_types_pb2.Embedding, _Mapping]] = ...) -> None: ...

class IdentifyResponse(_message.Message):
    __slots__ = ("decision", "candidates", "threshold", "identity_count", "search_path", "face_choice", "not_searchable_reason", "pack_id", "searched_identity_count", "face_answers")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_COUNT_FIELD_NUMBER: _ClassVar[int]
    SEARCH_PATH_FIELD_NUMBER: _ClassVar[int]
    FACE_CHOICE_FIELD_NUMBER: _ClassVar[int]
    NOT_SEARCHABLE_REASON_FIELD_NUMBER: _ClassVar[int]
    PACK_ID_FIELD_NUMBER: _ClassVar[int]
    SEARCHED_IDENTITY_COUNT_FIELD_NUMBER: _ClassVar[int]
    FACE_ANSWERS_FIELD_NUMBER: _ClassVar[int]
    decision: IdentifyDecision
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    threshold: _types_pb2.AppliedThreshold
    identity_count: int
    search_path: _types_pb2.SearchPath
    face_choice: _types_pb2.FaceChoice
    not_searchable_reason: str
    pack_id: str
    searched_identity_count: int
    face_answers: _containers.RepeatedCompositeFieldContainer[FaceAnswer]
    def __init__(self, decision: _Optional[_Union[IdentifyDecision, str]] = ..., candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ..., threshold: _Optional[_Union[_types_pb2.AppliedThreshold, _Mapping]] = ..., identity_count: _Optional[int] = ..., search_path: _Optional[_Union[_types_pb2.SearchPath, str]] = ..., face_choice: _Optional[_Union[_types_pb2.FaceChoice, _Mapping]] = ..., not_searchable_reason: _Optional[str] = ..., pack_id: _Optional[str] = ..., searched_identity_count: _Optional[int] = ..., face_answers: _Optional[_Iterable[_Union[FaceAnswer, _Mapping]]] = ...) -> None: ...

class FaceAnswer(_message.Message):
    __slots__ = ("face_index", "decision", "candidates", "not_searchable_reason")
    FACE_INDEX_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    NOT_SEARCHABLE_REASON_FIELD_NUMBER: _ClassVar[int]
    face_index: int
    decision: IdentifyDecision
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    not_searchable_reason: str
    def __init__(self, face_index: _Optional[int] = ..., decision: _Optional[_Union[IdentifyDecision, str]] = ..., candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ..., not_searchable_reason: _Optional[str] = ...) -> None: ...

class IdentifyStreamRequest(_message.Message):
    __slots__ = ("search", "probe")
    SEARCH_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    search: IdentifyRequest
    probe: TaggedProbe
    def __init__(self, search: _Optional[_Union[IdentifyRequest, _Mapping]] = ..., probe: _Optional[_Union[TaggedProbe, _Mapping]] = ...) -> None: ...

class TaggedProbe(_message.Message):
    __slots__ = ("tag", "probe")
    TAG_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    tag: str
    probe: Probe
    def __init__(self, tag: _Optional[str] = ..., probe: _Optional[_Union[Probe, _Mapping]] = ...) -> None: ...

class IdentifyStreamResponse(_message.Message):
    __slots__ = ("tag", "response", "failure")
    TAG_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    tag: str
    response: IdentifyResponse
    failure: ProbeFailure
    def __init__(self, tag: _Optional[str] = ..., response: _Optional[_Union[IdentifyResponse, _Mapping]] = ..., failure: _Optional[_Union[ProbeFailure, _Mapping]] = ...) -> None: ...

class ProbeFailure(_message.Message):
    __slots__ = ("reason", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("identity_id", "display_name", "score", "template_id", "matches")
    IDENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_ID_FIELD_NUMBER: _ClassVar[int]
    MATCHES_FIELD_NUMBER: _ClassVar[int]
    identity_id: str
    display_name: str
    score: float
    template_id: str
    matches: bool
    def __init__(self, identity_id: _Optional[str] = ..., display_name: _Optional[str] = ..., score: _Optional[float] = ..., template_id: _Optional[str] = ..., matches: bool = ...) -> None: ...
