"""The contracts as the package ships them: how their calls, answers and events are written.

What is decoded comes from an endpoint and is untrusted: a type that its bytes do not fit is
``malformed_message``. Addresses are 20 bytes on our side of it.

Spec: the Solidity ABI specification.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, Final

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils.abi import collapse_if_tuple

from dsn.errors import ChainRefused, NotFound
from dsn.kernels.keccak import keccak256
from dsn.rpc.evm_values import malformed, printable

_SELECTOR_BYTES: Final = 4
_REASON: Final = keccak256(b"Error(string)")[:_SELECTOR_BYTES]
_CODE: Final = re.compile("[a-z][a-z0-9_]{2,47}")
"""A reason that is a stable code, and not a sentence of somebody else's contract."""


class Artefact:
    """One contract's interface and the code that makes it."""

    def __init__(self, abi: Sequence[Mapping[str, Any]], bytecode: bytes) -> None:
        """Sort the interface; ours, so what is missing in it is a bug."""
        self.bytecode = bytecode
        self._functions = {each["name"]: each for each in abi if each["type"] == "function"}
        self._events = {each["name"]: each for each in abi if each["type"] == "event"}
        makers = [each["inputs"] for each in abi if each["type"] == "constructor"]
        self._makes: Sequence[Any] = makers[0] if makers else ()

    def call(self, function: str, args: Sequence[Any]) -> bytes:
        """The data of a call of ``function``."""
        inputs = self._functions[function]["inputs"]
        types = _types(inputs)
        signature = f"{function}({','.join(types)})"
        return keccak256(signature.encode())[:_SELECTOR_BYTES] + encode(types, list(args))

    def answer(self, function: str, raw: bytes) -> Any:
        """What a call returned, by its data (untrusted): one value, or a tuple of several.

        Raises:
            MalformedMessage: It does not fit.
        """
        outputs = self._functions[function]["outputs"]
        values = _decode(outputs, raw)
        return values[0] if len(outputs) == 1 else values

    def topic(self, event: str) -> bytes:
        """What the event's logs have as their first topic."""
        signature = f"{event}({','.join(_types(self._events[event]['inputs']))})"
        return keccak256(signature.encode())

    def event(self, event: str, topics: Sequence[bytes], raw: bytes) -> dict[str, Any]:
        """The values of one event (untrusted), by name.

        Raises:
            MalformedMessage: It does not fit.
        """
        inputs = self._events[event]["inputs"]
        indexed = [each for each in inputs if each["indexed"]]
        rest = [each for each in inputs if not each["indexed"]]
        if len(topics) != 1 + len(indexed):
            raise malformed(f"an event of {len(topics)} topics, {1 + len(indexed)} expected")
        values = dict(zip((each["name"] for each in rest), _decode(rest, raw), strict=True))
        for each, topic in zip(indexed, topics[1:], strict=True):
            (values[each["name"]],) = _decode([each], topic)
        return values

    def creation(self, values: Mapping[str, Any]) -> bytes:
        """The data that makes the contract; ``values`` has what its constructor asks for, by name.

        A struct's members are looked up by their names, too.
        """
        args = [_named(each, values) for each in self._makes]
        return self.bytecode + encode(_types(self._makes), args)


@cache
def artefact(name: str) -> Artefact:
    """The contract called ``name`` that comes with the package.

    Raises:
        NotFound: ``no_such_contract``.
    """
    file = resources.files("dsn.rpc") / "contracts" / f"{name}.json"
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFound(
            f"no contract {name} comes with this package", code="no_such_contract"
        ) from None
    return Artefact(read["abi"], bytes.fromhex(read["bytecode"].removeprefix("0x")))


def rules() -> dict[str, str]:
    """What judges ask for rules that they have no room for: names, by what constructors say."""
    files = (resources.files("dsn.rpc") / "contracts").iterdir()
    names = sorted(file.name.removesuffix(".json") for file in files)
    return {_snake(name): name for name in names if name.endswith("Rules")}


def refusal(text: str, raw: bytes) -> ChainRefused:
    """The error behind a call that reverted.

    Args:
        text: What the endpoint says of it (untrusted), printable.
        raw: What the contract reverted with (untrusted); empty if that is not known.
    """
    reason = text
    if raw[:_SELECTOR_BYTES] == _REASON:
        try:
            reason = str(decode(["string"], raw[_SELECTOR_BYTES:])[0])
        except (DecodingError, UnicodeDecodeError, OverflowError):
            reason = "an unreadable reason"
    if _CODE.fullmatch(reason):
        return ChainRefused(f"the chain refuses the call: {reason}", code=reason)
    return ChainRefused(f"the chain refuses the call: {printable(reason) or 'without a reason'}")


def _types(inputs: Sequence[Mapping[str, Any]]) -> list[str]:
    return [collapse_if_tuple(dict(each)) for each in inputs]


def _decode(outputs: Sequence[Mapping[str, Any]], raw: bytes) -> tuple[Any, ...]:
    try:
        values = decode(_types(outputs), raw)
    except (DecodingError, ValueError, OverflowError) as error:
        raise malformed(f"{len(raw)} bytes that do not fit their type") from error
    pairs = zip(outputs, values, strict=True)
    return tuple(_ours(each["type"], each.get("components", ()), value) for each, value in pairs)


def _ours(kind: str, members: Sequence[Mapping[str, Any]], value: Any) -> Any:
    """``value`` with addresses as bytes, and lists for arrays."""
    if kind.endswith("]"):
        return [_ours(kind[: kind.rindex("[")], members, each) for each in value]
    if kind == "tuple":
        pairs = zip(members, value, strict=True)
        return tuple(_ours(each["type"], each.get("components", ()), one) for each, one in pairs)
    return bytes.fromhex(value[2:]) if kind == "address" else value


def _snake(name: str) -> str:
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _named(wanted: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    """The argument ``wanted``; a constructor's names have a ``_`` where a view has the same."""
    name = wanted["name"].rstrip("_")
    if wanted["type"] == "tuple" and name not in values:
        return tuple(_named(each, values) for each in wanted["components"])
    return values[name]
