"""``LedgerService``: each call checked on its own, then answered from the desk or the views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dsn.apps.ledger.batch import Accepted, Outcome, Submission
from dsn.apps.ledgerd.desk import Desk, Operator
from dsn.apps.ledgerd.faucet import Faucet
from dsn.apps.ledgerd.views import Views
from dsn.errors import MalformedMessage
from dsn.ids import ID_BYTES
from dsn.ledger.cells import CellKind, cell_key
from dsn.ledger.checkpoint import format_checkpoint
from dsn.ledger.log import leaf_hash
from dsn.ledger.promise import sign_promise
from dsn.ledger.settlement import ADDRESS_BYTES, Address
from dsn.ledger.tiles import parse_path
from dsn.rpc.ledger import (
    LEDGER_SERVICE,
    MOST_CELLS,
    MOST_ENTRIES,
    check_tile_size,
    too_many_bytes,
)
from dsn.rpc.limits import check_count
from dsn.rpc.server import Method, Unary
from dsn.rpc.tls import Caller
from dsn.units import MIB
from dsn.v1 import ledger_pb2
from dsn.wire.ledger import cell_to_wire

MOST_SUBMITTED_BYTES: Final = MIB
MOST_HELD: Final = 4_096


class LedgerService:
    """The ledger's calls."""

    def __init__(self, desk: Desk, views: Views, operator: Operator, faucet: Faucet) -> None:
        """Answer from ``views``, enter at ``desk``."""
        self._desk, self._views, self._operator, self._faucet = desk, views, operator, faucet

    def methods(self) -> tuple[Method, ...]:
        """Every call by its path."""
        at, v1 = f"/{LEDGER_SERVICE}/", ledger_pb2
        return (
            Unary(at + "Submit", v1.SubmitRequest, self._submit),
            Unary(at + "GetCheckpoint", v1.GetCheckpointRequest, self._get_checkpoint),
            Unary(at + "GetAccount", v1.GetAccountRequest, self._get_account),
            Unary(at + "GetDeal", v1.GetDealRequest, self._get_deal),
            Unary(at + "GetInventory", v1.GetInventoryRequest, self._get_inventory),
            Unary(at + "GetProof", v1.GetProofRequest, self._get_proof),
            Unary(at + "GetTile", v1.GetTileRequest, self._get_tile),
            Unary(at + "Draw", v1.DrawRequest, self._draw),
        )

    async def _submit(
        self, caller: Caller, request: ledger_pb2.SubmitRequest
    ) -> ledger_pb2.SubmitReply:
        check_count("entries", request.entries, MOST_ENTRIES)
        submissions = [Submission(each.entry, each.signature) for each in request.entries]
        if not submissions:
            return ledger_pb2.SubmitReply()
        size = sum(len(each.entry) + len(each.signature) for each in submissions)
        _check_size("entries", size, MOST_SUBMITTED_BYTES)
        outcomes = await self._desk.submit(caller.node_id, submissions)
        return ledger_pb2.SubmitReply(outcomes=map(self._outcome, outcomes))

    async def _get_checkpoint(
        self, caller: Caller, request: ledger_pb2.GetCheckpointRequest
    ) -> ledger_pb2.GetCheckpointReply:
        signed, old_size = self._views.published(), request.old_size
        size, path = signed.checkpoint.size, list[bytes]()
        if 0 < old_size < size:
            path = await self._desk.ask(self._desk.books.consistency, old_size, size)
        return ledger_pb2.GetCheckpointReply(checkpoint=format_checkpoint(signed), consistency=path)

    async def _get_account(
        self, caller: Caller, request: ledger_pb2.GetAccountRequest
    ) -> ledger_pb2.CellsReply:
        check_count("cells", (*request.addresses, *request.nodes), MOST_CELLS)
        _check_lengths("address", request.addresses, ADDRESS_BYTES)
        _check_lengths("node id", request.nodes, ID_BYTES)
        keys = [cell_key(CellKind.ACCOUNT, each) for each in request.addresses]
        keys += [cell_key(CellKind.NODE, each) for each in request.nodes]
        if request.network:
            keys.append(cell_key(CellKind.NETWORK, self._operator.params.domain.network))
        return self._cells(keys)

    async def _get_deal(
        self, caller: Caller, request: ledger_pb2.GetDealRequest
    ) -> ledger_pb2.CellsReply:
        check_count("cells", request.deals, MOST_CELLS)
        _check_lengths("deal id", request.deals, ID_BYTES)
        return self._cells([cell_key(CellKind.DEAL, each) for each in request.deals])

    async def _get_inventory(
        self, caller: Caller, request: ledger_pb2.GetInventoryRequest
    ) -> ledger_pb2.GetInventoryReply:
        _check_lengths("address", [request.provider], ADDRESS_BYTES)
        _check_lengths("deal id", [request.after] if request.after else [], ID_BYTES)
        self._views.readable()
        provider = Address(request.provider)
        held, more = self._views.inventory(provider, request.after, MOST_HELD)
        entries = (
            ledger_pb2.InventoryEntry(
                deal=each.deal, number=each.number, root=each.holdings_root, leaves=each.leaves
            )
            for each in held
        )
        return ledger_pb2.GetInventoryReply(entries=entries, more=more)

    async def _get_proof(
        self, caller: Caller, request: ledger_pb2.GetProofRequest
    ) -> ledger_pb2.GetProofReply:
        ask, books = self._desk.ask, self._desk.books
        match request.WhichOneof("what"):
            case "index":
                leaf, path = await ask(books.inclusion, request.index, request.size)
                return ledger_pb2.GetProofReply(path=path, leaf=leaf.encode())
            case "old_size":
                path = await ask(books.consistency, request.old_size, request.size)
                return ledger_pb2.GetProofReply(path=path)
        raise MalformedMessage("a proof of nothing: an index or an old size is needed")

    async def _get_tile(
        self, caller: Caller, request: ledger_pb2.GetTileRequest
    ) -> ledger_pb2.GetTileReply:
        data = await self._desk.ask(self._desk.books.resource, parse_path(request.path))
        check_tile_size(request.path, data)
        return ledger_pb2.GetTileReply(data=data)

    async def _draw(self, caller: Caller, request: ledger_pb2.DrawRequest) -> ledger_pb2.DrawReply:
        return ledger_pb2.DrawReply(amount=await self._faucet.draw(caller, request.binding))

    def _outcome(self, outcome: Outcome) -> ledger_pb2.EntryOutcome:
        if not isinstance(outcome, Accepted):
            error = outcome.error
            return ledger_pb2.EntryOutcome(
                index=outcome.index, code=error.detail_code, message=error.message
            )
        network, digest = self._operator.params.domain.network, leaf_hash(outcome.leaf.encode())
        promise = sign_promise(network, outcome.index, digest, self._operator.log_key.sign)
        return ledger_pb2.EntryOutcome(
            index=outcome.index, promise=promise.signature, state_root=outcome.leaf.state_root
        )

    def _cells(self, keys: Sequence[bytes]) -> ledger_pb2.CellsReply:
        signed = self._views.readable()
        return ledger_pb2.CellsReply(
            checkpoint=format_checkpoint(signed),
            cells=(cell_to_wire(*self._views.prove(key)) for key in keys),
        )


def _check_lengths(what: str, names: Sequence[bytes], size: int) -> None:
    for name in names:
        if len(name) != size:
            raise MalformedMessage(f"a {what} of {len(name)} bytes, {size} needed")


def _check_size(what: str, size_bytes: int, most: int) -> None:
    if size_bytes > most:
        raise too_many_bytes(what, size_bytes, most)
