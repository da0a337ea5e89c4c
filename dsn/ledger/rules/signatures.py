"""Who must have signed what: the entry itself, and everything that its body brings along."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dsn.core import tags
from dsn.core.codec import Writer
from dsn.core.keys import verify_signature
from dsn.ids import ID_BYTES, NetworkId
from dsn.ledger.binding import verify_binding
from dsn.ledger.bodies import SALT_BYTES, Agreed, Bind, Claim, CloseDeal, Open, ShutEpoch, TopUp
from dsn.ledger.cells import CellKind, DealCell
from dsn.ledger.deal import Close, Deal, Extension
from dsn.ledger.entry import Entry, SignedEntry
from dsn.ledger.log import MAX_ENTRY_BYTES
from dsn.ledger.refusal import refuse
from dsn.ledger.settlement import Address, recover
from dsn.ledger.state import State
from dsn.ledger.typed import Typed, check_signer, digest, verify_typed


class Needed(NamedTuple):
    """``signer`` must have signed ``message`` so."""

    message: Typed
    signature: bytes
    signer: Address


def salt_preimage(network: NetworkId, epoch: int, salt: bytes) -> bytes:
    """What a witness signs, with its Ed25519 key, when it gives ``salt`` to an epoch's shut."""
    writer = Writer().raw(tags.SALT, tags.TAG_BYTES).raw(network, ID_BYTES).u64(epoch)
    return writer.raw(salt, SALT_BYTES).done()


def check_signatures(
    state: State, signed: SignedEntry, found: Address | None = None, *, identities: bool = True
) -> None:
    """Check the network, the size and every signature of ``signed`` (untrusted).

    Args:
        state: After the last entry.
        signed: Untrusted.
        found: Whose the entry's own signature is, if that was recovered already.
        identities: Whether those by Ed25519 keys are looked at, which no chain can do.

    Raises:
        EntryRefused: ``wrong_network``, ``entry_too_large``, ``unknown_deal``.
        InvalidSignature: ``invalid_signature``, ``malleated_signature``.
        PeerError: ``other_network``: a key binding.

    Cost: about 0.1 ms a signature.
    """
    entry, domain = signed.entry, state.params.domain
    check_network(state, entry)
    size = len(entry.encode())
    if size > MAX_ENTRY_BYTES:
        raise refuse("entry_too_large", f"{size} bytes, at most {MAX_ENTRY_BYTES} allowed")
    check_signer(entry, found or recover(digest(domain, entry), signed.signature), entry.signer)
    match entry.body:
        case Bind(signed=binding):
            verify_binding(binding, domain, identity=identities)
        case ShutEpoch(epoch=epoch, salts=salts):
            for salt in salts if identities else ():
                preimage = salt_preimage(domain.network, epoch, salt.salt)
                verify_signature(salt.witness, preimage, salt.signature)
        case _:
            for message, signature, signer in _needed(state, entry):
                verify_typed(message, domain, signature, signer)


def check_network(state: State, entry: Entry) -> None:
    """Raises ``wrong_network`` unless the entry is for the state's network."""
    if entry.network != state.params.domain.network:
        raise refuse("wrong_network", "the entry is for another network")


def _needed(state: State, entry: Entry) -> Iterator[Needed]:
    """The signatures of clients, delegates and providers that the body brings along."""
    match entry.body:
        case Open(agreed=deal):
            yield from _by_both(deal, deal.statement)
        case TopUp(deal=deal_id, extension=Agreed() as extension):
            yield from _by_both(extension, _terms(state, deal_id))
        case CloseDeal(deal=deal_id, agreed=Agreed() as agreed):
            yield from _by_both(agreed, _terms(state, deal_id))
        case Claim() as claim:
            terms = _terms(state, claim.deal)
            if claim.revision is not None:
                pledge, author = claim.revision.pledge, _author(terms, claim.revision.by_delegate)
                yield Needed(pledge, claim.revision.signature, author)
                yield Needed(pledge, claim.revision.provider_signature, terms.provider)
            if claim.voucher is not None:
                author = _author(terms, claim.voucher.by_delegate)
                yield Needed(claim.voucher.voucher, claim.voucher.signature, author)


def _by_both(
    agreed: Agreed[Deal] | Agreed[Extension] | Agreed[Close], terms: Deal
) -> Iterator[Needed]:
    yield Needed(agreed.statement, agreed.client_signature, terms.client)
    yield Needed(agreed.statement, agreed.provider_signature, terms.provider)


def _author(terms: Deal, by_delegate: bool) -> Address:
    return terms.delegate if by_delegate else terms.client


def _terms(state: State, deal: bytes) -> Deal:
    cell = state.cell(CellKind.DEAL, deal)
    if not isinstance(cell, DealCell):
        raise refuse("unknown_deal", f"there is no deal {deal.hex()}")
    return cell.terms
