from dsn.v1 import ledger_pb2 as _ledger_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class CosignRequest(_message.Message):
    __slots__ = ("checkpoint",)
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    checkpoint: bytes
    def __init__(self, checkpoint: _Optional[bytes] = ...) -> None: ...

class CosignReply(_message.Message):
    __slots__ = ("name", "key_id", "signature", "root_signature")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    ROOT_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    name: str
    key_id: bytes
    signature: bytes
    root_signature: bytes
    def __init__(self, name: _Optional[str] = ..., key_id: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., root_signature: _Optional[bytes] = ...) -> None: ...

class GetSaltRequest(_message.Message):
    __slots__ = ("epoch",)
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    def __init__(self, epoch: _Optional[int] = ...) -> None: ...

class GetSaltReply(_message.Message):
    __slots__ = ("salt", "signature")
    SALT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    salt: bytes
    signature: bytes
    def __init__(self, salt: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...
