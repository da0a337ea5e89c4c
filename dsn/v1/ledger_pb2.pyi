from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SignedEntry(_message.Message):
    __slots__ = ("entry", "signature")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    entry: bytes
    signature: bytes
    def __init__(self, entry: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class SubmitRequest(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[SignedEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[SignedEntry, _Mapping]]] = ...) -> None: ...

class SubmitReply(_message.Message):
    __slots__ = ("outcomes",)
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[EntryOutcome]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[EntryOutcome, _Mapping]]] = ...) -> None: ...

class EntryOutcome(_message.Message):
    __slots__ = ("index", "promise", "code", "message", "state_root")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    PROMISE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    STATE_ROOT_FIELD_NUMBER: _ClassVar[int]
    index: int
    promise: bytes
    code: str
    message: str
    state_root: bytes
    def __init__(self, index: _Optional[int] = ..., promise: _Optional[bytes] = ..., code: _Optional[str] = ..., message: _Optional[str] = ..., state_root: _Optional[bytes] = ...) -> None: ...

class GetCheckpointRequest(_message.Message):
    __slots__ = ("old_size",)
    OLD_SIZE_FIELD_NUMBER: _ClassVar[int]
    old_size: int
    def __init__(self, old_size: _Optional[int] = ...) -> None: ...

class GetCheckpointReply(_message.Message):
    __slots__ = ("checkpoint", "consistency")
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    checkpoint: bytes
    consistency: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, checkpoint: _Optional[bytes] = ..., consistency: _Optional[_Iterable[bytes]] = ...) -> None: ...

class GetAccountRequest(_message.Message):
    __slots__ = ("addresses", "nodes", "network")
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    addresses: _containers.RepeatedScalarFieldContainer[bytes]
    nodes: _containers.RepeatedScalarFieldContainer[bytes]
    network: bool
    def __init__(self, addresses: _Optional[_Iterable[bytes]] = ..., nodes: _Optional[_Iterable[bytes]] = ..., network: _Optional[bool] = ...) -> None: ...

class GetDealRequest(_message.Message):
    __slots__ = ("deals",)
    DEALS_FIELD_NUMBER: _ClassVar[int]
    deals: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, deals: _Optional[_Iterable[bytes]] = ...) -> None: ...

class CellsReply(_message.Message):
    __slots__ = ("checkpoint", "cells")
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    checkpoint: bytes
    cells: _containers.RepeatedCompositeFieldContainer[ProvenCell]
    def __init__(self, checkpoint: _Optional[bytes] = ..., cells: _Optional[_Iterable[_Union[ProvenCell, _Mapping]]] = ...) -> None: ...

class ProvenCell(_message.Message):
    __slots__ = ("cell", "nearest_key", "nearest_digest", "steps")
    CELL_FIELD_NUMBER: _ClassVar[int]
    NEAREST_KEY_FIELD_NUMBER: _ClassVar[int]
    NEAREST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    cell: bytes
    nearest_key: bytes
    nearest_digest: bytes
    steps: _containers.RepeatedCompositeFieldContainer[CellStep]
    def __init__(self, cell: _Optional[bytes] = ..., nearest_key: _Optional[bytes] = ..., nearest_digest: _Optional[bytes] = ..., steps: _Optional[_Iterable[_Union[CellStep, _Mapping]]] = ...) -> None: ...

class CellStep(_message.Message):
    __slots__ = ("bit", "sibling")
    BIT_FIELD_NUMBER: _ClassVar[int]
    SIBLING_FIELD_NUMBER: _ClassVar[int]
    bit: int
    sibling: bytes
    def __init__(self, bit: _Optional[int] = ..., sibling: _Optional[bytes] = ...) -> None: ...

class GetInventoryRequest(_message.Message):
    __slots__ = ("provider", "after")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    provider: bytes
    after: bytes
    def __init__(self, provider: _Optional[bytes] = ..., after: _Optional[bytes] = ...) -> None: ...

class GetInventoryReply(_message.Message):
    __slots__ = ("entries", "more")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[InventoryEntry]
    more: bool
    def __init__(self, entries: _Optional[_Iterable[_Union[InventoryEntry, _Mapping]]] = ..., more: _Optional[bool] = ...) -> None: ...

class InventoryEntry(_message.Message):
    __slots__ = ("deal", "number", "root", "leaves")
    DEAL_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    deal: bytes
    number: int
    root: bytes
    leaves: int
    def __init__(self, deal: _Optional[bytes] = ..., number: _Optional[int] = ..., root: _Optional[bytes] = ..., leaves: _Optional[int] = ...) -> None: ...

class GetProofRequest(_message.Message):
    __slots__ = ("size", "index", "old_size")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    OLD_SIZE_FIELD_NUMBER: _ClassVar[int]
    size: int
    index: int
    old_size: int
    def __init__(self, size: _Optional[int] = ..., index: _Optional[int] = ..., old_size: _Optional[int] = ...) -> None: ...

class GetProofReply(_message.Message):
    __slots__ = ("path", "leaf")
    PATH_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    path: _containers.RepeatedScalarFieldContainer[bytes]
    leaf: bytes
    def __init__(self, path: _Optional[_Iterable[bytes]] = ..., leaf: _Optional[bytes] = ...) -> None: ...

class GetTileRequest(_message.Message):
    __slots__ = ("path",)
    PATH_FIELD_NUMBER: _ClassVar[int]
    path: str
    def __init__(self, path: _Optional[str] = ...) -> None: ...

class GetTileReply(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class DrawRequest(_message.Message):
    __slots__ = ("binding",)
    BINDING_FIELD_NUMBER: _ClassVar[int]
    binding: bytes
    def __init__(self, binding: _Optional[bytes] = ...) -> None: ...

class DrawReply(_message.Message):
    __slots__ = ("amount",)
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    amount: int
    def __init__(self, amount: _Optional[int] = ...) -> None: ...
