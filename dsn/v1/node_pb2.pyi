from dsn.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetTermsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Terms(_message.Message):
    __slots__ = ("version", "node_id", "free_bytes", "max_pending_bytes", "terms", "expires_s", "signature")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_PENDING_BYTES_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_S_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    version: str
    node_id: bytes
    free_bytes: int
    max_pending_bytes: int
    terms: bytes
    expires_s: int
    signature: bytes
    def __init__(self, version: _Optional[str] = ..., node_id: _Optional[bytes] = ..., free_bytes: _Optional[int] = ..., max_pending_bytes: _Optional[int] = ..., terms: _Optional[bytes] = ..., expires_s: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class OpenDealRequest(_message.Message):
    __slots__ = ("deal", "client_signature", "terms_expires_s")
    DEAL_FIELD_NUMBER: _ClassVar[int]
    CLIENT_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    TERMS_EXPIRES_S_FIELD_NUMBER: _ClassVar[int]
    deal: bytes
    client_signature: bytes
    terms_expires_s: int
    def __init__(self, deal: _Optional[bytes] = ..., client_signature: _Optional[bytes] = ..., terms_expires_s: _Optional[int] = ...) -> None: ...

class OpenDealReply(_message.Message):
    __slots__ = ("provider_signature",)
    PROVIDER_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    provider_signature: bytes
    def __init__(self, provider_signature: _Optional[bytes] = ...) -> None: ...

class ExtendDealRequest(_message.Message):
    __slots__ = ("extension", "client_signature")
    EXTENSION_FIELD_NUMBER: _ClassVar[int]
    CLIENT_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    extension: bytes
    client_signature: bytes
    def __init__(self, extension: _Optional[bytes] = ..., client_signature: _Optional[bytes] = ...) -> None: ...

class ExtendDealReply(_message.Message):
    __slots__ = ("provider_signature",)
    PROVIDER_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    provider_signature: bytes
    def __init__(self, provider_signature: _Optional[bytes] = ...) -> None: ...

class Voucher(_message.Message):
    __slots__ = ("credits", "signature", "by_delegate")
    CREDITS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    BY_DELEGATE_FIELD_NUMBER: _ClassVar[int]
    credits: int
    signature: bytes
    by_delegate: bool
    def __init__(self, credits: _Optional[int] = ..., signature: _Optional[bytes] = ..., by_delegate: _Optional[bool] = ...) -> None: ...

class PayRequest(_message.Message):
    __slots__ = ("deal", "voucher")
    DEAL_FIELD_NUMBER: _ClassVar[int]
    VOUCHER_FIELD_NUMBER: _ClassVar[int]
    deal: bytes
    voucher: Voucher
    def __init__(self, deal: _Optional[bytes] = ..., voucher: _Optional[_Union[Voucher, _Mapping]] = ...) -> None: ...

class PayReply(_message.Message):
    __slots__ = ("ingress_bytes", "egress_bytes", "voucher")
    INGRESS_BYTES_FIELD_NUMBER: _ClassVar[int]
    EGRESS_BYTES_FIELD_NUMBER: _ClassVar[int]
    VOUCHER_FIELD_NUMBER: _ClassVar[int]
    ingress_bytes: int
    egress_bytes: int
    voucher: Voucher
    def __init__(self, ingress_bytes: _Optional[int] = ..., egress_bytes: _Optional[int] = ..., voucher: _Optional[_Union[Voucher, _Mapping]] = ...) -> None: ...

class ListDealsRequest(_message.Message):
    __slots__ = ("after",)
    AFTER_FIELD_NUMBER: _ClassVar[int]
    after: bytes
    def __init__(self, after: _Optional[bytes] = ...) -> None: ...

class ListDealsReply(_message.Message):
    __slots__ = ("deals", "more")
    DEALS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    deals: _containers.RepeatedScalarFieldContainer[bytes]
    more: bool
    def __init__(self, deals: _Optional[_Iterable[bytes]] = ..., more: _Optional[bool] = ...) -> None: ...

class PutHeader(_message.Message):
    __slots__ = ("deal", "length", "small", "records", "voucher")
    DEAL_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    SMALL_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    VOUCHER_FIELD_NUMBER: _ClassVar[int]
    deal: bytes
    length: int
    small: _containers.RepeatedCompositeFieldContainer[SmallShard]
    records: _containers.RepeatedScalarFieldContainer[bytes]
    voucher: Voucher
    def __init__(self, deal: _Optional[bytes] = ..., length: _Optional[int] = ..., small: _Optional[_Iterable[_Union[SmallShard, _Mapping]]] = ..., records: _Optional[_Iterable[bytes]] = ..., voucher: _Optional[_Union[Voucher, _Mapping]] = ...) -> None: ...

class SmallShard(_message.Message):
    __slots__ = ("data", "commit")
    DATA_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    commit: bytes
    def __init__(self, data: _Optional[bytes] = ..., commit: _Optional[bytes] = ...) -> None: ...

class PutTrailer(_message.Message):
    __slots__ = ("commit",)
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    commit: bytes
    def __init__(self, commit: _Optional[bytes] = ...) -> None: ...

class PutReceipts(_message.Message):
    __slots__ = ("receipts",)
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    receipts: _containers.RepeatedCompositeFieldContainer[PutReceipt]
    def __init__(self, receipts: _Optional[_Iterable[_Union[PutReceipt, _Mapping]]] = ...) -> None: ...

class PutReceipt(_message.Message):
    __slots__ = ("commit", "leaf_count", "length", "keep_until_s", "signature")
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    LEAF_COUNT_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    KEEP_UNTIL_S_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    commit: bytes
    leaf_count: int
    length: int
    keep_until_s: int
    signature: bytes
    def __init__(self, commit: _Optional[bytes] = ..., leaf_count: _Optional[int] = ..., length: _Optional[int] = ..., keep_until_s: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class ReviseRequest(_message.Message):
    __slots__ = ("revision", "add", "drop", "voucher")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ADD_FIELD_NUMBER: _ClassVar[int]
    DROP_FIELD_NUMBER: _ClassVar[int]
    VOUCHER_FIELD_NUMBER: _ClassVar[int]
    revision: _types_pb2.Revision
    add: _containers.RepeatedScalarFieldContainer[bytes]
    drop: _containers.RepeatedScalarFieldContainer[bytes]
    voucher: Voucher
    def __init__(self, revision: _Optional[_Union[_types_pb2.Revision, _Mapping]] = ..., add: _Optional[_Iterable[bytes]] = ..., drop: _Optional[_Iterable[bytes]] = ..., voucher: _Optional[_Union[Voucher, _Mapping]] = ...) -> None: ...

class ReviseReply(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: _types_pb2.Revision
    def __init__(self, revision: _Optional[_Union[_types_pb2.Revision, _Mapping]] = ...) -> None: ...

class GetRevisionRequest(_message.Message):
    __slots__ = ("deal", "after", "limit")
    DEAL_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    deal: bytes
    after: bytes
    limit: int
    def __init__(self, deal: _Optional[bytes] = ..., after: _Optional[bytes] = ..., limit: _Optional[int] = ...) -> None: ...

class GetRevisionReply(_message.Message):
    __slots__ = ("revision", "holdings", "more")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    HOLDINGS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    revision: _types_pb2.Revision
    holdings: bytes
    more: bool
    def __init__(self, revision: _Optional[_Union[_types_pb2.Revision, _Mapping]] = ..., holdings: _Optional[bytes] = ..., more: _Optional[bool] = ...) -> None: ...

class GetShardRequest(_message.Message):
    __slots__ = ("commit", "start", "end", "first_frame", "deal", "voucher")
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    FIRST_FRAME_FIELD_NUMBER: _ClassVar[int]
    DEAL_FIELD_NUMBER: _ClassVar[int]
    VOUCHER_FIELD_NUMBER: _ClassVar[int]
    commit: bytes
    start: int
    end: int
    first_frame: int
    deal: bytes
    voucher: Voucher
    def __init__(self, commit: _Optional[bytes] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., first_frame: _Optional[int] = ..., deal: _Optional[bytes] = ..., voucher: _Optional[_Union[Voucher, _Mapping]] = ...) -> None: ...

class ChallengeRequest(_message.Message):
    __slots__ = ("nonce", "commits", "root", "leaves", "deadline_ms")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    COMMITS_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    commits: _containers.RepeatedScalarFieldContainer[bytes]
    root: bytes
    leaves: int
    deadline_ms: int
    def __init__(self, nonce: _Optional[bytes] = ..., commits: _Optional[_Iterable[bytes]] = ..., root: _Optional[bytes] = ..., leaves: _Optional[int] = ..., deadline_ms: _Optional[int] = ...) -> None: ...

class ChallengeReply(_message.Message):
    __slots__ = ("outcome", "openings", "answer_root", "signature", "lost")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[ChallengeReply.Outcome]
        OUTCOME_ANSWERED: _ClassVar[ChallengeReply.Outcome]
        OUTCOME_UNKNOWN: _ClassVar[ChallengeReply.Outcome]
        OUTCOME_LOST: _ClassVar[ChallengeReply.Outcome]
    OUTCOME_UNSPECIFIED: ChallengeReply.Outcome
    OUTCOME_ANSWERED: ChallengeReply.Outcome
    OUTCOME_UNKNOWN: ChallengeReply.Outcome
    OUTCOME_LOST: ChallengeReply.Outcome
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    OPENINGS_FIELD_NUMBER: _ClassVar[int]
    ANSWER_ROOT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    outcome: ChallengeReply.Outcome
    openings: _containers.RepeatedScalarFieldContainer[bytes]
    answer_root: bytes
    signature: bytes
    lost: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, outcome: _Optional[_Union[ChallengeReply.Outcome, str]] = ..., openings: _Optional[_Iterable[bytes]] = ..., answer_root: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., lost: _Optional[_Iterable[bytes]] = ...) -> None: ...

class GetAnswerRequest(_message.Message):
    __slots__ = ("epoch", "places")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PLACES_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    places: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, epoch: _Optional[int] = ..., places: _Optional[_Iterable[int]] = ...) -> None: ...

class GetAnswerReply(_message.Message):
    __slots__ = ("link", "openings")
    LINK_FIELD_NUMBER: _ClassVar[int]
    OPENINGS_FIELD_NUMBER: _ClassVar[int]
    link: bytes
    openings: _containers.RepeatedCompositeFieldContainer[PlacedOpening]
    def __init__(self, link: _Optional[bytes] = ..., openings: _Optional[_Iterable[_Union[PlacedOpening, _Mapping]]] = ...) -> None: ...

class PlacedOpening(_message.Message):
    __slots__ = ("opening", "path")
    OPENING_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    opening: bytes
    path: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, opening: _Optional[bytes] = ..., path: _Optional[_Iterable[bytes]] = ...) -> None: ...

class PutLeafRequest(_message.Message):
    __slots__ = ("commit", "leaves")
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    commit: bytes
    leaves: _containers.RepeatedCompositeFieldContainer[Leaf]
    def __init__(self, commit: _Optional[bytes] = ..., leaves: _Optional[_Iterable[_Union[Leaf, _Mapping]]] = ...) -> None: ...

class Leaf(_message.Message):
    __slots__ = ("index", "data")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    index: int
    data: bytes
    def __init__(self, index: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class PutLeafReply(_message.Message):
    __slots__ = ("rotten", "more")
    ROTTEN_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    rotten: _containers.RepeatedScalarFieldContainer[int]
    more: bool
    def __init__(self, rotten: _Optional[_Iterable[int]] = ..., more: _Optional[bool] = ...) -> None: ...

class PutPointerRequest(_message.Message):
    __slots__ = ("records",)
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, records: _Optional[_Iterable[bytes]] = ...) -> None: ...

class PutPointerReply(_message.Message):
    __slots__ = ("refusals",)
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    refusals: _containers.RepeatedCompositeFieldContainer[_types_pb2.RecordRefusal]
    def __init__(self, refusals: _Optional[_Iterable[_Union[_types_pb2.RecordRefusal, _Mapping]]] = ...) -> None: ...

class GetPointerRequest(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    def __init__(self, key: _Optional[bytes] = ...) -> None: ...

class GetPointerReply(_message.Message):
    __slots__ = ("record",)
    RECORD_FIELD_NUMBER: _ClassVar[int]
    record: bytes
    def __init__(self, record: _Optional[bytes] = ...) -> None: ...
