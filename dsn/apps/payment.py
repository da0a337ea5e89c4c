"""What people type and paste about payments: amounts, addresses, and lines that ask for one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote

from dsn.core.codec import U64_MAX
from dsn.errors import ConfigError, UsageError
from dsn.ids import NetworkId, format_base32, network_id, parse_base32
from dsn.ledger.settlement import Address, format_address, parse_address

SCHEME: Final = "dsn:pay?"
MAX_NOTE_CHARS: Final = 200
_MAX_LINE_CHARS: Final = 2_000
_FIELDS: Final = ("to", "amount", "network", "note")
_AMOUNT: Final = re.compile("[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class PaymentRequest:
    """Somebody on ``network`` asks for ``amount`` base units; ``note`` says what for."""

    to: Address
    amount: int
    network: NetworkId
    note: str = ""


def format_request(request: PaymentRequest) -> str:
    """One line to send to whoever is to pay; ``parse_request`` reads it."""
    line = (
        f"{SCHEME}to={format_address(request.to)}&amount={request.amount}"
        f"&network={format_base32(request.network)}"
    )
    return line + (f"&note={quote(request.note, safe='')}" if request.note else "")


def parse_request(line: str) -> PaymentRequest:
    """Read what ``format_request`` wrote, and nothing else.

    Args:
        line: Untrusted.

    Raises:
        UsageError: ``bad_request``, ``bad_settlement_address``, ``bad_amount``.
    """
    try:
        pairs = parse_qsl(
            line.removeprefix(SCHEME), strict_parsing=True, max_num_fields=len(_FIELDS)
        )
        fields = dict(pairs)
        network = network_id(parse_base32(fields["network"]))
        to, amount = parse_address(fields["to"]), parse_amount(fields["amount"])
        request = PaymentRequest(to, amount, network, check_note(fields.get("note", "")))
    except (ValueError, KeyError) as error:
        raise _bad(line) from error
    if len(line) > _MAX_LINE_CHARS or format_request(request) != line:
        raise _bad(line)
    return request


def check_network(request: PaymentRequest, mine: NetworkId) -> None:
    """Raises ``other_network`` unless the request is for the reader's network."""
    if request.network != mine:
        theirs, own = (format_base32(each)[:10] for each in (request.network, mine))
        raise ConfigError(
            f"the request is for network {theirs}, this home is on {own}",
            code="other_network",
            hint="pay it from a home that has joined that network",
        )


def parse_amount(text: str) -> int:
    """A number of credits that a person typed.

    Raises:
        UsageError: ``bad_amount``: no whole number from 1 on, or beyond 2^64.
    """
    if not _AMOUNT.fullmatch(text) or not 0 < int(text) <= U64_MAX:
        raise UsageError(
            f"'{text[:40]}' is no amount",
            code="bad_amount",
            hint="credits are whole numbers from 1 on, in digits alone: 25000",
        )
    return int(text)


def check_note(text: str) -> str:
    """A note that is safe to print, and short.

    Raises:
        UsageError: ``bad_note``.
    """
    if len(text) > MAX_NOTE_CHARS or not text.isprintable():
        raise UsageError(
            f"a note of {len(text)} characters",
            code="bad_note",
            hint=f"at most {MAX_NOTE_CHARS} printable characters, on one line",
        )
    return text


def _bad(line: str) -> UsageError:
    return UsageError(
        f"'{line[:60]}' asks for no payment",
        code="bad_request",
        hint="copy the whole line as 'dsn wallet request' printed it",
    )
