from facematch.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class VerifyDecision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERIFY_DECISION_UNSPECIFIED: _ClassVar[VerifyDecision]
    VERIFY_DECISION_MATCH: _ClassVar[VerifyDecision]
    VERIFY_DECISION_NO_MATCH: _ClassVar[VerifyDecision]
VERIFY_DECISION_UNSPECIFIED: VerifyDecision
VERIFY_DECISION_MATCH: VerifyDecision
VERIFY_DECISION_NO_MATCH: VerifyDecision

class DetectRequest(_message.Message):
    __slots__ = ("photo", "detection")
    PHOTO_FIELD_NUMBER: _ClassVar[int]
    DETECTION_FIELD_NUMBER: _ClassVar[int]
    photo: _types_pb2.Photo
    detection: _types_pb2.DetectionOptions
    def __init__(self, photo: _Optional[_Union[_types_pb2.Photo, _Mapping]] = ..., detection: _Optional[_Union[_types_pb2.DetectionOptions, _Mapping]] = ...) -> None: ...

class DetectResponse(_message.Message):
    __slots__ = ("faces", "width_px", "height_px", "input_sides_px", "pack_id")
    FACES_FIELD_NUMBER: _ClassVar[int]
    WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    INPUT_SIDES_PX_FIELD_NUMBER: _ClassVar[int]
    PACK_ID_FIELD_NUMBER: _ClassVar[int]
    faces: _containers.RepeatedCompositeFieldContainer[_types_pb2.Face]
    width_px: int
    height_px: int
    input_sides_px: _containers.RepeatedScalarFieldContainer[int]
    pack_id: str
    def __init__(self, faces: _Optional[_Iterable[_Union[_types_pb2.Face, _Mapping]]] = ..., width_px: _Optional[int] = ..., height_px: _Optional[int] = ..., input_sides_px: _Optional[_Iterable[int]] = ..., pack_id: _Optional[str] = ...) -> None: ...

class EmbedRequest(_message.Message):
    __slots__ = ("photo", "detection", "face_selection")
    PHOTO_FIELD_NUMBER: _ClassVar[int]
    DETECTION_FIELD_NUMBER: _ClassVar[int]
    FACE_SELECTION_FIELD_NUMBER: _ClassVar[int]
    photo: _types_pb2.Photo
    detection: _types_pb2.DetectionOptions
    face_selection: _types_pb2.FaceSelection
    def __init__(self, photo: _Optional[_Union[_types_pb2.Photo, _Mapping]] = ..., detection: _Optional[_Union[_types_pb2.DetectionOptions, _Mapping]] = ..., face_selection: _Optional[_Union[_types_pb2.FaceSelection, str]] = ...) -> None: ...

class EmbedResponse(_message.Message):
    __slots__ = ("embedded_faces", "faces", "face_selection")
    EMBEDDED_FACES_FIELD_NUMBER: _ClassVar[int]
    FACES_FIELD_NUMBER: _ClassVar[int]
    FACE_SELECTION_FIELD_NUMBER: _ClassVar[int]
    embedded_faces: _containers.RepeatedCompositeFieldContainer[EmbeddedFace]
    faces: _containers.RepeatedCompositeFieldContainer[_types_pb2.Face]
    face_selection: _types_pb2.FaceSelection
    def __init__(self, embedded_faces: _Optional[_Iterable[_Union[EmbeddedFace, _Mapping]]] = ..., faces: _Optional[_Iterable[_Union[_types_pb2.Face, _Mapping]]] = ..., face_selection: _Optional[_Union[_types_pb2.FaceSelection, str]] = ...) -> None: ...

class EmbeddedFace(_message.Message):
    __slots__ = ("face_index", "embedding")
    FACE_INDEX_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    face_index: int
    embedding: _types_pb2.Embedding
    def __init__(self, face_index: _Optional[int] = ..., embedding: _Optional[_Union[_types_pb2.Embedding, _Mapping]] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ("a", "b", "operating_point", "detection", "face_selection")
    A_FIELD_NUMBER: _ClassVar[int]
    B_FIELD_NUMBER: _ClassVar[int]
    OPERATING_POINT_FIELD_NUMBER: _ClassVar[int]
    DETECTION_FIELD_NUMBER: _ClassVar[int]
    FACE_SELECTION_FIELD_NUMBER: _ClassVar[int]
    a: VerifySide
    b: VerifySide
    operating_point: _types_pb2.OperatingPoint
    detection: _types_pb2.DetectionOptions
    face_selection: _types_pb2.FaceSelection
    def __init__(self, a: _Optional[_Union[VerifySide, _Mapping]] = ..., b: _Optional[_Union[VerifySide, _Mapping]] = ..., operating_point: _Optional[_Union[_types_pb2.OperatingPoint, _Mapping]] = ..., detection: _Optional[_Union[_types_pb2.DetectionOptions, _Mapping]] = ..., face_selection: _Optional[_Union[_types_pb2.FaceSelection, str]] = ...) -> None: ...

class VerifySide(_message.Message):
    __slots__ = ("photo", "embedding", "template", "identity")
    PHOTO_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    photo: _types_pb2.Photo
    embedding: _types_pb2.Embedding
    template: TemplateReference
    identity: IdentityReference
    def __init__(self, photo: _Optional[_Union[_types_pb2.Photo, _Mapping]] = ..., embedding: _Optional[_Union[_types_pb2.Embedding, _Mapping]] = ..., template: _Optional[_Union[TemplateReference, _Mapping]] = ..., identity: _Optional[_Union[IdentityReference, _Mapping]] = ...) -> None: ...

class TemplateReference(_message.Message):
    __slots__ = ("gallery_id", "identity_id", "template_id")
    GALLERY_ID_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_ID_FIELD_NUMBER: _ClassVar[int]
    gallery_id: str
    identity_id: str
    template_id: str
    def __init__(self, gallery_id: _Optional[str] = ..., identity_id: _Optional[str] = ..., template_id: _Optional[str] = ...) -> None: ...

class IdentityReference(_message.Message):
    __slots__ = ("gallery_id", "identity_id")
    GALLERY_ID_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    gallery_id: str
    identity_id: str
    def __init__(self, gallery_id: _Optional[str] = ..., identity_id: _Optional[str] = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("decision", "score", "threshold", "face_a", "face_b", "pack_id")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    FACE_A_FIELD_NUMBER: _ClassVar[int]
    FACE_B_FIELD_NUMBER: _ClassVar[int]
    PACK_ID_FIELD_NUMBER: _ClassVar[int]
    decision: VerifyDecision
    score: float
    threshold: _types_pb2.AppliedThreshold
    face_a: _types_pb2.FaceChoice
    face_b: _types_pb2.FaceChoice
    pack_id: str
    def __init__(self, decision: _Optional[_Union[VerifyDecision, str]] = ..., score: _Optional[float] = ..., threshold: _Optional[_Union[_types_pb2.AppliedThreshold, _Mapping]] = ..., face_a: _Optional[_Union[_types_pb2.FaceChoice, _Mapping]] = ..., face_b: _Optional[_Union[_types_pb2.FaceChoice, _Mapping]] = ..., pack_id: _Optional[str] = ...) -> None: ...
