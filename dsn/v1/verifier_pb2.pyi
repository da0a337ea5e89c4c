from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetVerdictsRequest(_message.Message):
    __slots__ = ("after", "node", "limit")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    after: int
    node: bytes
    limit: int
    def __init__(self, after: _Optional[int] = ..., node: _Optional[bytes] = ..., limit: _Optional[int] = ...) -> None: ...

class GetVerdictsReply(_message.Message):
    __slots__ = ("verdicts", "next")
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    verdicts: _containers.RepeatedCompositeFieldContainer[SignedVerdict]
    next: int
    def __init__(self, verdicts: _Optional[_Iterable[_Union[SignedVerdict, _Mapping]]] = ..., next: _Optional[int] = ...) -> None: ...

class SignedVerdict(_message.Message):
    __slots__ = ("verdict", "signature")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    verdict: bytes
    signature: bytes
    def __init__(self, verdict: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class GetBundleRequest(_message.Message):
    __slots__ = ("evidence", "start")
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    evidence: bytes
    start: int
    def __init__(self, evidence: _Optional[bytes] = ..., start: _Optional[int] = ...) -> None: ...

class GetBundleReply(_message.Message):
    __slots__ = ("bundle", "size")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    bundle: bytes
    size: int
    def __init__(self, bundle: _Optional[bytes] = ..., size: _Optional[int] = ...) -> None: ...

class AuditRequest(_message.Message):
    __slots__ = ("capability", "leaves")
    CAPABILITY_FIELD_NUMBER: _ClassVar[int]
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    capability: str
    leaves: int
    def __init__(self, capability: _Optional[str] = ..., leaves: _Optional[int] = ...) -> None: ...

class AuditReply(_message.Message):
    __slots__ = ("verdicts", "evidence")
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    verdicts: _containers.RepeatedCompositeFieldContainer[SignedVerdict]
    evidence: bytes
    def __init__(self, verdicts: _Optional[_Iterable[_Union[SignedVerdict, _Mapping]]] = ..., evidence: _Optional[bytes] = ...) -> None: ...

class AppealRequest(_message.Message):
    __slots__ = ("verdict",)
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    verdict: bytes
    def __init__(self, verdict: _Optional[bytes] = ...) -> None: ...

class AppealReply(_message.Message):
    __slots__ = ("verdict",)
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    verdict: SignedVerdict
    def __init__(self, verdict: _Optional[_Union[SignedVerdict, _Mapping]] = ...) -> None: ...
