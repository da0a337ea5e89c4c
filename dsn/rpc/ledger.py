"""The ledger and its witnesses as others see them: one method a call.

Replies come as they were sent, of the right type and nothing more: what they say is untrusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from google.protobuf.message import Message

from dsn.errors import LimitReached
from dsn.rpc.line import Line
from dsn.units import MIB
from dsn.v1 import ledger_pb2, witness_pb2

LEDGER_SERVICE: Final = "dsn.v1.LedgerService"
WITNESS_SERVICE: Final = "dsn.v1.WitnessService"
MOST_ENTRIES: Final = 256
"""In one Submit."""
MOST_CELLS: Final = 256
"""In one GetAccount or GetDeal."""
MOST_TILE_BYTES: Final = MIB
"""In one GetTile, of a ledger or a witness."""
TIMEOUT_S: Final = 10.0
_Reply = TypeVar("_Reply", bound=Message)


class LedgerPeer:
    """Calls on a ledger."""

    def __init__(self, line: Line) -> None:
        """Speak over ``line``."""
        self._line = line

    async def submit(
        self, entries: Iterable[tuple[bytes, bytes]], *, timeout_s: float = TIMEOUT_S
    ) -> Sequence[ledger_pb2.EntryOutcome]:
        """Enter (entry, signature) pairs, in order; at most ``MOST_ENTRIES``, 1 MiB in all."""
        request = ledger_pb2.SubmitRequest()
        for entry, signature in entries:
            request.entries.add(entry=entry, signature=signature)
        reply = await self._unary("Submit", request, ledger_pb2.SubmitReply, timeout_s)
        return reply.outcomes

    async def get_checkpoint(self, old_size: int = 0) -> ledger_pb2.GetCheckpointReply:
        """The newest cosigned checkpoint, and how the log of ``old_size`` entries grew to it."""
        request = ledger_pb2.GetCheckpointRequest(old_size=old_size)
        return await self._unary("GetCheckpoint", request, ledger_pb2.GetCheckpointReply)

    async def get_accounts(
        self,
        addresses: Iterable[bytes] = (),
        nodes: Iterable[bytes] = (),
        *,
        network: bool = False,
    ) -> ledger_pb2.CellsReply:
        """Account cells, then node cells, then perhaps the network's, each with a proof."""
        request = ledger_pb2.GetAccountRequest(addresses=addresses, nodes=nodes, network=network)
        return await self._unary("GetAccount", request, ledger_pb2.CellsReply)

    async def get_deals(self, deals: Iterable[bytes]) -> ledger_pb2.CellsReply:
        """Deal cells, each with a proof."""
        request = ledger_pb2.GetDealRequest(deals=deals)
        return await self._unary("GetDeal", request, ledger_pb2.CellsReply)

    async def get_inventory(
        self, provider: bytes, after: bytes = b""
    ) -> ledger_pb2.GetInventoryReply:
        """A page of what stands behind a provider's live root."""
        request = ledger_pb2.GetInventoryRequest(provider=provider, after=after)
        return await self._unary("GetInventory", request, ledger_pb2.GetInventoryReply)

    async def get_inclusion(self, index: int, size: int) -> ledger_pb2.GetProofReply:
        """Entry ``index`` and that it is in the log of ``size`` entries."""
        request = ledger_pb2.GetProofRequest(size=size, index=index)
        return await self._unary("GetProof", request, ledger_pb2.GetProofReply)

    async def get_consistency(self, old_size: int, size: int) -> ledger_pb2.GetProofReply:
        """That the log of ``size`` entries begins with the one of ``old_size``."""
        request = ledger_pb2.GetProofRequest(size=size, old_size=old_size)
        return await self._unary("GetProof", request, ledger_pb2.GetProofReply)

    async def get_tile(self, path: str) -> bytes:
        """A hash tile or a bundle of leaves, by its path."""
        request = ledger_pb2.GetTileRequest(path=path)
        reply = await self._unary("GetTile", request, ledger_pb2.GetTileReply)
        return reply.data

    async def draw(self, binding: bytes) -> int:
        """Ask the faucet for a new identity's first credits; gives what it paid, perhaps 0."""
        request = ledger_pb2.DrawRequest(binding=binding)
        return (await self._unary("Draw", request, ledger_pb2.DrawReply)).amount

    async def _unary(
        self, method: str, request: Message, reply: type[_Reply], timeout_s: float = TIMEOUT_S
    ) -> _Reply:
        return await self._line.unary(f"/{LEDGER_SERVICE}/{method}", request, reply, timeout_s)


class WitnessPeer:
    """Calls on a witness."""

    def __init__(self, line: Line) -> None:
        """Speak over ``line``."""
        self._line = line

    async def cosign(
        self, checkpoint: bytes, *, timeout_s: float = TIMEOUT_S
    ) -> witness_pb2.CosignReply:
        """Have a checkpoint, signed by the operator, cosigned: the witness's line under it."""
        request = witness_pb2.CosignRequest(checkpoint=checkpoint)
        path = f"/{WITNESS_SERVICE}/Cosign"
        return await self._line.unary(path, request, witness_pb2.CosignReply, timeout_s)

    async def get_tile(self, path: str) -> bytes:
        """A hash tile or a bundle of leaves of the witness's own copy, by its path.

        ``leaf/<index>`` is a single leaf: some bundles are too large for a message.
        """
        request = ledger_pb2.GetTileRequest(path=path)
        at = f"/{WITNESS_SERVICE}/GetTile"
        return (await self._line.unary(at, request, ledger_pb2.GetTileReply, TIMEOUT_S)).data

    async def get_salt(self, epoch: int) -> witness_pb2.GetSaltReply:
        """The witness's salt for an epoch."""
        request = witness_pb2.GetSaltRequest(epoch=epoch)
        path = f"/{WITNESS_SERVICE}/GetSalt"
        return await self._line.unary(path, request, witness_pb2.GetSaltReply, TIMEOUT_S)


def check_tile_size(path: str, data: bytes) -> None:
    """Raises ``too_many_bytes`` if ``data`` is more than one message takes."""
    if len(data) > MOST_TILE_BYTES:
        raise too_many_bytes(path, len(data), MOST_TILE_BYTES)


def too_many_bytes(what: str, size_bytes: int, most: int) -> LimitReached:
    """The refusal of a call with too much in it, or in its reply."""
    return LimitReached(
        f"{what[:100]}: {size_bytes} bytes, {most} at most",
        code="too_many_bytes",
        hint="send or ask for less at a time; GetProof gives a single entry",
    )
