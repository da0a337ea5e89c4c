"""One JSON-RPC endpoint of an EVM chain: asked within bounds, and not believed.

web3 carries the requests. What comes back is a stranger's: its size, its form and the range of
every number are checked here, before anything else looks at it. An address of an endpoint often
holds the key that pays for it, so no error or log line shows more of it than where it is.

Spec: docs/spec/chain.md#endpoint; EIP-1474.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from web3 import AsyncHTTPProvider
from web3.types import RPCEndpoint

from dsn.errors import ConfigError, Unreachable
from dsn.ledger.settlement import Address
from dsn.rpc.evm_values import (
    HASH_BYTES,
    U256_MAX,
    data,
    fields,
    hexed,
    malformed,
    printable,
    quantity,
)

MAX_ANSWER_BYTES: Final = 16 << 20
_SHOWN_CHARS: Final = 120
_SECRET_CHARS: Final = 8
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 5.0
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses that a moment may lift."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things may take, in seconds.

    Attributes:
        call_s: One request.
        away_s: An endpoint that answered before, until it is given up.
        poll_s: Between two looks at what was sent.
        stuck_s: Until a call that no miner takes is paid for better.
        mined_s: Until one that is still not taken is given up.
    """

    call_s: float = 10.0
    away_s: float = 120.0
    poll_s: float = 1.0
    stuck_s: float = 60.0
    mined_s: float = 3_600.0


class Refused(Exception):
    """The endpoint answers that it would not; never leaves ``dsn.rpc``."""

    def __init__(self, text: str, data: bytes, reverted: bool) -> None:
        """Keep what it says (untrusted), and whether it is the contract that refuses.

        Args:
            text: Printable, cut.
            data: What the contract reverted with, if it is known.
            reverted: Whether the call was run, and reverted.
        """
        super().__init__(text)
        self.text, self.data, self.reverted = text, data, reverted


@dataclass(frozen=True, slots=True)
class Head:
    """The newest block: its number, its time in Unix seconds and what it takes for gas, in wei."""

    number: int
    time_s: int
    base_fee: int


@dataclass(frozen=True, slots=True)
class Mined:
    """Where a sent call stands, whether it did what it should, and its gas."""

    number: int
    succeeded: bool
    gas: int


@dataclass(frozen=True, slots=True)
class Log:
    """One event as the chain stores it."""

    topics: tuple[bytes, ...]
    data: bytes
    number: int


class Endpoint:
    """A connection to the endpoint at ``url``; ``close`` it, or use it by ``async with``."""

    def __init__(self, url: str, pace: Pace) -> None:
        """Name the endpoint; nothing is asked yet.

        Raises:
            ConfigError: ``bad_setting``: it is no http address.
        """
        self.place, self.pace = shown(url), pace
        self._secrets = _secrets(url)
        self._http = _Http(url, pace.call_s)
        self._answered = False

    async def close(self) -> None:
        """Let the connection go."""
        await self._http.disconnect()

    async def chain_id(self) -> int:
        """Of the chain behind it."""
        return quantity(await self._learn("eth_chainId"), U256_MAX)

    async def head(self) -> Head:
        """The newest block.

        Raises:
            ConfigError: ``wrong_chain``: it has no base fee (EIP-1559).
        """
        found = fields(await self._learn("eth_getBlockByNumber", "latest", False))
        if "baseFeePerGas" not in found:
            raise ConfigError(
                f"the chain at {self.place} has no base fee (EIP-1559)", code="wrong_chain"
            )
        return Head(
            quantity(found.get("number")),
            quantity(found.get("timestamp")),
            quantity(found["baseFeePerGas"], U256_MAX),
        )

    async def tip(self) -> int:
        """What miners get on top of the base fee, in wei a gas, as the endpoint suggests."""
        return quantity(await self._learn("eth_maxPriorityFeePerGas"))

    async def balance(self, account: Address) -> int:
        """Wei that ``account`` has."""
        answer = await self._learn("eth_getBalance", hexed(account), "latest")
        return quantity(answer, U256_MAX)

    async def count(self, account: Address, *, pending: bool = False) -> int:
        """How many calls ``account`` sent that were mined, or wait for it: its next nonce."""
        at = "pending" if pending else "latest"
        return quantity(await self._learn("eth_getTransactionCount", hexed(account), at))

    async def has_code(self, account: Address, number: int | None = None) -> bool:
        """Whether a contract stands at the address, after block ``number`` or now."""
        at = "latest" if number is None else hex(number)
        return bool(data(await self._learn("eth_getCode", hexed(account), at)))

    async def call(self, request: dict[str, str], number: int | None = None) -> bytes:
        """What a contract returns, by the state after block ``number`` or now.

        Raises:
            Refused: It reverts.
        """
        at = "latest" if number is None else hex(number)
        return data(await self.ask("eth_call", request, at))

    async def estimate(self, request: dict[str, str]) -> int:
        """The gas that a call takes now.

        Raises:
            Refused: It reverts.
        """
        return quantity(await self.ask("eth_estimateGas", request, "latest"))

    async def send(self, raw: bytes) -> None:
        """Hand a signed call to the network.

        Raises:
            Refused: It is not taken, perhaps because it is known already.
        """
        await self.ask("eth_sendRawTransaction", hexed(raw))

    async def knows(self, digest: bytes) -> bool:
        """Whether the signed call with this hash waits or was mined."""
        return await self._learn("eth_getTransactionByHash", hexed(digest)) is not None

    async def mined(self, digest: bytes) -> Mined | None:
        """What became of the signed call with this hash; ``None`` while it is in no block."""
        answer = await self._learn("eth_getTransactionReceipt", hexed(digest))
        if answer is None:
            return None
        found = fields(answer)
        if data(found.get("transactionHash"), HASH_BYTES) != digest:
            raise malformed("a receipt of another call")
        if found.get("blockNumber") is None:
            return None
        return Mined(
            quantity(found["blockNumber"]),
            quantity(found.get("status"), 1) == 1,
            quantity(found.get("gasUsed")),
        )

    async def logs(self, account: Address, topic: bytes, first: int, last: int) -> list[Log]:
        """The events of a contract whose first topic is ``topic``, in blocks first to last.

        Raises:
            Refused: So many are more than it gives at once.
        """
        wanted = {
            "address": hexed(account),
            "topics": [hexed(topic)],
            "fromBlock": hex(first),
            "toBlock": hex(last),
        }
        answer = await self.ask("eth_getLogs", wanted)
        if not isinstance(answer, list):
            raise malformed("events that are no list")
        found = [_log(each, account, topic) for each in answer]
        if not all(first <= each.number <= last for each in found):
            raise malformed("an event of a block that was not asked for")
        return found

    async def _learn(self, method: str, *params: object) -> Any:
        """As ``ask``, of what every node knows; one that gives an error does not serve."""
        try:
            return await self.ask(method, *params)
        except Refused as refused:
            raise self.unreachable(refused.text) from None

    async def ask(self, method: str, *params: object) -> Any:
        """The result of one method (untrusted), asked again while the endpoint is away.

        Raises:
            Refused: It answers with an error.
            Unreachable: ``chain_unreachable``: nobody answers, for ``away_s`` if it did before.
            MalformedMessage: It answers what no node would.
        """
        clock = asyncio.get_running_loop().time
        deadline_s = clock() + (self.pace.away_s if self._answered else 0.0)
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                answer = await self._http.make_request(RPCEndpoint(method), params)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                problem = _problem(error)
                if clock() >= deadline_s or not _passes(error):
                    raise self.unreachable(problem) from None  # its text may hold the URL
            except (ValueError, RecursionError):
                raise malformed("an answer that is not JSON, or too long") from None
            else:
                self._answered = True
                return self._result(answer)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _result(self, answer: object) -> Any:
        """What a JSON-RPC answer (untrusted) holds.

        Raises:
            Refused: An error.
        """
        found = fields(answer)
        error = found.get("error")
        if error is None:
            if "result" not in found:
                raise malformed("an answer without a result")
            return found["result"]
        said = error if isinstance(error, dict) else {"message": error}
        text = str(said.get("message", ""))
        for secret in self._secrets:
            text = text.replace(secret, "***")
        raw = _revert_data(said.get("data"))
        reverted = bool(raw) or said.get("code") == 3 or "revert" in text.lower()
        raise Refused(printable(text), raw, reverted)

    def unreachable(self, problem: str) -> Unreachable:
        """The error that the endpoint does not serve, and why."""
        return Unreachable(
            f"the chain at {self.place} does not answer: {problem}",
            code="chain_unreachable",
            hint="name another endpoint: [chain] rpc in dsn.toml",
        )


class _Http(AsyncHTTPProvider):
    """web3's provider with one session of its own and a bound on what an answer weighs."""

    def __init__(self, url: str, call_s: float) -> None:
        super().__init__(url, exception_retry_configuration=None)
        self._timeout = aiohttp.ClientTimeout(total=call_s)
        self._session: aiohttp.ClientSession | None = None

    async def _make_request(self, method: RPCEndpoint, request_data: bytes) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        asked = self._session.post(
            str(self.endpoint_uri),
            data=request_data,
            headers=self.get_request_headers(),
            allow_redirects=False,
        )
        async with asked as response:
            response.raise_for_status()
            answer = bytearray()
            async for part in response.content.iter_any():
                answer += part
                if len(answer) > MAX_ANSWER_BYTES:
                    raise ValueError("too long")
            return bytes(answer)

    async def disconnect(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


def _secrets(url: str) -> list[str]:
    """All words of an address that may be secret, the longest first: an error may repeat them."""
    parts = urlsplit(url)
    user, _, _ = parts.netloc.rpartition("@")
    found = re.split("[/?&=:@]+", f"{user}/{parts.path}/{parts.query}")
    return sorted((word for word in found if len(word) >= _SECRET_CHARS), key=len, reverse=True)


def shown(url: str) -> str:
    """Scheme, host and port of an endpoint: all of it that may be printed.

    Raises:
        ConfigError: ``bad_setting``: it is no http address.
    """
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        parts, port = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            "the chain's endpoint is no http address",
            code="bad_setting",
            hint="[chain] rpc in dsn.toml: https://HOST/...",
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}"


def _log(value: object, account: Address, topic: bytes) -> Log:
    found = fields(value)
    topics = found.get("topics")
    if not isinstance(topics, list) or not topics:
        raise malformed("an event without topics")
    log = Log(
        tuple(data(each, HASH_BYTES) for each in topics),
        data(found.get("data")),
        quantity(found.get("blockNumber")),
    )
    if data(found.get("address")) != account or log.topics[0] != topic:
        raise malformed("an event that was not asked for")
    return log


def _revert_data(value: object) -> bytes:
    """What a contract reverted with, wherever a node puts it; empty if it is nowhere."""
    if isinstance(value, dict):
        value = value.get("data")
    if not isinstance(value, str):
        return b""
    try:
        return bytes.fromhex(value.removeprefix("Reverted ").removeprefix("0x"))
    except ValueError:
        return b""


def _problem(error: Exception) -> str:
    """Why a request failed, without the address that an error's own text may hold."""
    match error:
        case aiohttp.ClientResponseError():
            return f"HTTP status {error.status}"
        case TimeoutError():
            return "no answer in time"
        case aiohttp.ClientConnectorError():
            return (error.os_error.strerror or "no connection").lower()
    return "the connection broke"


def _passes(error: Exception) -> bool:
    """Whether it may be gone a moment later."""
    return not isinstance(error, aiohttp.ClientResponseError) or error.status in _TRANSIENT
