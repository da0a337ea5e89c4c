from dsn.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DhtContact(_message.Message):
    __slots__ = ("public_key", "address")
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    public_key: bytes
    address: str
    def __init__(self, public_key: _Optional[bytes] = ..., address: _Optional[str] = ...) -> None: ...

class PingRequest(_message.Message):
    __slots__ = ("address", "call_back", "hint")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CALL_BACK_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    address: str
    call_back: bool
    hint: DhtContact
    def __init__(self, address: _Optional[str] = ..., call_back: _Optional[bool] = ..., hint: _Optional[_Union[DhtContact, _Mapping]] = ...) -> None: ...

class PingReply(_message.Message):
    __slots__ = ("record", "reachable")
    RECORD_FIELD_NUMBER: _ClassVar[int]
    REACHABLE_FIELD_NUMBER: _ClassVar[int]
    record: bytes
    reachable: bool
    def __init__(self, record: _Optional[bytes] = ..., reachable: _Optional[bool] = ...) -> None: ...

class FindNodeRequest(_message.Message):
    __slots__ = ("address", "target")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    address: str
    target: bytes
    def __init__(self, address: _Optional[str] = ..., target: _Optional[bytes] = ...) -> None: ...

class FindNodeReply(_message.Message):
    __slots__ = ("contacts",)
    CONTACTS_FIELD_NUMBER: _ClassVar[int]
    contacts: _containers.RepeatedCompositeFieldContainer[DhtContact]
    def __init__(self, contacts: _Optional[_Iterable[_Union[DhtContact, _Mapping]]] = ...) -> None: ...

class FindValueRequest(_message.Message):
    __slots__ = ("address", "key")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    address: str
    key: bytes
    def __init__(self, address: _Optional[str] = ..., key: _Optional[bytes] = ...) -> None: ...

class FindValueReply(_message.Message):
    __slots__ = ("records", "contacts")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    CONTACTS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedScalarFieldContainer[bytes]
    contacts: _containers.RepeatedCompositeFieldContainer[DhtContact]
    def __init__(self, records: _Optional[_Iterable[bytes]] = ..., contacts: _Optional[_Iterable[_Union[DhtContact, _Mapping]]] = ...) -> None: ...

class StoreRequest(_message.Message):
    __slots__ = ("address", "entries", "batches")
    class Entry(_message.Message):
        __slots__ = ("key", "record")
        KEY_FIELD_NUMBER: _ClassVar[int]
        RECORD_FIELD_NUMBER: _ClassVar[int]
        key: bytes
        record: bytes
        def __init__(self, key: _Optional[bytes] = ..., record: _Optional[bytes] = ...) -> None: ...
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    address: str
    entries: _containers.RepeatedCompositeFieldContainer[StoreRequest.Entry]
    batches: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, address: _Optional[str] = ..., entries: _Optional[_Iterable[_Union[StoreRequest.Entry, _Mapping]]] = ..., batches: _Optional[_Iterable[bytes]] = ...) -> None: ...

class StoreReply(_message.Message):
    __slots__ = ("refusals",)
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    refusals: _containers.RepeatedCompositeFieldContainer[_types_pb2.RecordRefusal]
    def __init__(self, refusals: _Optional[_Iterable[_Union[_types_pb2.RecordRefusal, _Mapping]]] = ...) -> None: ...
