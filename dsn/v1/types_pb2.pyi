from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorDetail(_message.Message):
    __slots__ = ("code", "message", "hint", "retry_after_ms", "evidence")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    hint: str
    retry_after_ms: int
    evidence: bytes
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., hint: _Optional[str] = ..., retry_after_ms: _Optional[int] = ..., evidence: _Optional[bytes] = ...) -> None: ...

class Revision(_message.Message):
    __slots__ = ("deal", "number", "shards", "leaves", "holdings_root", "client_signature", "node_signature")
    DEAL_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    HOLDINGS_ROOT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    NODE_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    deal: bytes
    number: int
    shards: int
    leaves: int
    holdings_root: bytes
    client_signature: bytes
    node_signature: bytes
    def __init__(self, deal: _Optional[bytes] = ..., number: _Optional[int] = ..., shards: _Optional[int] = ..., leaves: _Optional[int] = ..., holdings_root: _Optional[bytes] = ..., client_signature: _Optional[bytes] = ..., node_signature: _Optional[bytes] = ...) -> None: ...

class RecordRefusal(_message.Message):
    __slots__ = ("index", "code")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    index: int
    code: str
    def __init__(self, index: _Optional[int] = ..., code: _Optional[str] = ...) -> None: ...
