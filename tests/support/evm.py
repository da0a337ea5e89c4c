"""A real EVM node in a process of its own (anvil), and contracts deployed on it.

Everything goes over JSON-RPC, one keep-alive connection a node. Accounts are addresses as bytes;
the node lets any of them send, so that tests need no second set of keys.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields, replace
from functools import cache
from http.client import HTTPConnection
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final, NamedTuple

import pytest

from dsn.kernels.keccak import keccak256
from dsn.ledger.binding import LedgerRoot
from dsn.ledger.params import LedgerParams, check_params
from dsn.ledger.settlement import Address, SettlementKey
from dsn.ledger.state import genesis
from dsn.ledger.typed import Domain, sign_typed
from tests.support.fraud_world import SIGNED_PARAMS
from tests.support.ledger_world import COSIGNERS, KEYS

REPOSITORY = Path(__file__).parents[2]
SOURCES = REPOSITORY / "contracts"
ARTEFACTS = REPOSITORY / "dsn" / "rpc" / "contracts"
CHAIN_ID: Final = 31_337
START_S: Final = 60
ANSWER_S: Final = 120
MOST_LOOKS: Final = 100_000
"""How long the node may take to start, and to answer."""
GAS_LIMIT: Final = 30_000_000
"""Of a block, and so of a call: what the larger chains allow."""
ETHER: Final = 10**18
DEPLOYER: Final = SettlementKey(b"\xde" * 32).address
_NEEDED = (
    "needs vyper, web3 and anvil: pip install 'dsn[chain,contracts]' and "
    "npm install --prefix contracts"
)
FRAUDS: Final = (
    *("FraudAccounts", "FraudDeals", "FraudEnds"),
    *("FraudClaims", "FraudDemands", "FraudLog"),
)
RULES: Final = sorted(path.stem for path in SOURCES.glob("*Rules.vy"))
"""What others of the fraud family have their rules from, where they have no room for them."""
OPERATOR: Final = KEYS["operator"]
WITNESSES: Final = sorted(COSIGNERS, key=lambda key: key.address)
"""The witnesses' settlement keys, by address."""
_ERROR, _PANIC = keccak256(b"Error(string)")[:4], keccak256(b"Panic(uint256)")[:4]
_LISTENING = re.compile(rb"Listening on 127\.0\.0\.1:(\d+)")


class Reverted(Exception):
    """A call or a transaction was undone; ``reason`` is what the contract said, if anything."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RpcError(Exception):
    """The node would not do what it was asked for."""


class Receipt(NamedTuple):
    """What became of a transaction; ``logs`` as the node has them."""

    gas: int
    block: int
    logs: list[dict[str, Any]]


def anvil_program() -> str | None:
    """Where anvil is: named by ``DSN_ANVIL``, in the path, or installed by npm here."""
    if found := os.environ.get("DSN_ANVIL") or shutil.which("anvil"):
        return found
    places = (parent / "node_modules" / ".bin" / "anvil" for parent in (SOURCES, REPOSITORY))
    return next((str(each) for each in places if each.exists()), None)


def missing() -> str:
    """One line on what tests on a chain lack here; empty if nothing."""
    found = anvil_program() and all(map(find_spec, ("vyper", "web3", "eth_abi")))
    return "" if found else _NEEDED


@contextmanager
def running_evm(*options: str) -> Iterator[Evm]:
    """A node of its own; skips the test where there can be none."""
    if lacking := missing():
        pytest.skip(lacking)
    program = anvil_program()
    assert program is not None
    words = ("--port", "0", "--chain-id", str(CHAIN_ID), "--hardfork", "cancun")
    words += ("--gas-limit", str(GAS_LIMIT), "--auto-impersonate", "--accounts", "1", *options)
    with TemporaryFile() as said:
        process = subprocess.Popen(
            [program, *words], stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            with closing(Evm(_port(process, said))) as evm:
                evm.fund(DEPLOYER)
                yield evm
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # npm's anvil is a script around the program
            process.wait()


def _port(process: subprocess.Popen[bytes], said: IO[bytes]) -> int:
    """The port that the node says it listens on."""
    end_s = time.monotonic() + START_S
    while True:
        text = os.pread(said.fileno(), 1 << 16, 0)
        if found := _LISTENING.search(text):
            return int(found[1])
        assert process.poll() is None and time.monotonic() < end_s, text.decode()
        time.sleep(0.02)


class Evm:
    """One node, and what its chain is made to do."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._connection = HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
        self._count = 0

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def rpc(self, method: str, *params: Any) -> Any:
        """Ask the node."""
        self._count += 1
        asked = {"jsonrpc": "2.0", "id": self._count, "method": method, "params": params}
        self._connection.request(
            "POST", "/", json.dumps(asked), {"Content-Type": "application/json"}
        )
        answer = json.loads(self._connection.getresponse().read())
        if "error" not in answer:
            return answer["result"]
        error = answer["error"]
        if error.get("code") == 3 or "revert" in error["message"].lower():
            raise Reverted(_reason(error.get("data") or "0x", error["message"]))
        raise RpcError(f"{method}: {error['message']}")

    # transactions

    def call(self, to: Address, data: bytes, sender: Address = DEPLOYER, wei: int = 0) -> bytes:
        """What ``data`` sent to ``to`` would return in the newest block."""
        return _raw(self.rpc("eth_call", _transaction(to, data, sender, wei), "latest"))

    def send(self, to: Address | None, data: bytes, sender: Address, wei: int = 0) -> Receipt:
        """Send, and mine a block with it alone.

        Raises:
            Reverted: It was undone; it is in a block all the same.
        """
        sent = self.rpc("eth_sendTransaction", _transaction(to, data, sender, wei))
        receipt = next(filter(None, (self._receipt(sent) for _ in range(MOST_LOOKS))), None)
        if receipt is None:
            raise RpcError(f"{sent} is not mined after {MOST_LOOKS} looks")
        if receipt["status"] != "0x1":
            at = hex(int(receipt["blockNumber"], 16) - 1)
            self.rpc("eth_call", _transaction(to, data, sender, wei), at)
            raise Reverted("out of gas, or undone for no reason that repeats")
        gas, block = int(receipt["gasUsed"], 16), int(receipt["blockNumber"], 16)
        return Receipt(gas, block, receipt["logs"])

    def _receipt(self, sent: str) -> Any:
        """What became of a transaction; nothing before the node has come to it."""
        return self.rpc("eth_getTransactionReceipt", sent)

    def simulate(self, to: Address, data: bytes, sender: Address) -> Receipt:
        """As ``send``, but nothing comes of it."""
        call = _transaction(to, data, sender, 0)
        (block,) = self.rpc("eth_simulateV1", {"blockStateCalls": [{"calls": [call]}]}, "latest")
        (done,) = block["calls"]
        if done["status"] != "0x1":
            error = done["error"]
            raise Reverted(_reason(error.get("data") or done["returnData"], error["message"]))
        return Receipt(int(done["gasUsed"], 16), int(block["number"], 16), done["logs"])

    def nonce(self, sender: Address) -> int:
        """Transactions that ``sender`` sent."""
        return int(self.rpc("eth_getTransactionCount", _hex(sender), "latest"), 16)

    def balance(self, account: Address) -> int:
        """Wei."""
        return int(self.rpc("eth_getBalance", _hex(account), "latest"), 16)

    def fund(self, *accounts: Address, wei: int = 1_000 * ETHER) -> None:
        """Give each ``wei``, to pay for gas and bonds with."""
        for account in accounts:
            self.rpc("anvil_setBalance", _hex(account), hex(wei))

    # time

    @property
    def height(self) -> int:
        """Number of the newest block."""
        return int(self.rpc("eth_blockNumber"), 16)

    @property
    def time_s(self) -> int:
        """Time of the newest block."""
        return int(self.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def pass_time(self, seconds: int) -> None:
        """Mine a block so much later."""
        self.rpc("evm_increaseTime", hex(seconds))
        self.mine()

    def mine(self, blocks: int = 1) -> None:
        """Mine empty blocks."""
        self.rpc("anvil_mine", hex(blocks))

    def reorganise(self, depth: int) -> None:
        """Drop the newest ``depth`` blocks for as many empty ones."""
        self.rpc("anvil_reorg", depth, [])

    def snapshot(self) -> str:
        """A point to go back to, once."""
        return str(self.rpc("evm_snapshot"))

    def revert(self, snapshot: str) -> None:
        """Go back to ``snapshot``, which is used up by that.

        A busy node takes a transaction out of its pool some time after it is in a block. Undone
        before that it would be valid again, and be in the next block.
        """
        self.rpc("anvil_dropAllTransactions")
        assert self.rpc("evm_revert", snapshot)

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Whatever the block does is undone at its end."""
        snapshot = self.snapshot()
        try:
            yield
        finally:
            self.revert(snapshot)

    # contracts

    def next_address(self, sender: Address = DEPLOYER, ahead: int = 0) -> Address:
        """Where the contract will be that ``sender`` deploys after ``ahead`` more transactions."""
        import rlp

        return Address(keccak256(rlp.encode([sender, self.nonce(sender) + ahead]))[12:])

    def deploy(self, name: str, *args: Any, sender: Address = DEPLOYER) -> Contract:
        """The contract ``name`` of this repository, deployed with ``args``."""
        built, address = build(name), self.next_address(sender)
        gas = self.send(None, built.bytecode + _encode(built.inputs, args), sender).gas
        return Contract(self, name, address, built.abi, gas)

    def deploy_named(self, name: str, known: Mapping[str, Any]) -> Contract:
        """As ``deploy``, with those of ``known`` that the constructor names."""
        return self.deploy(name, *_pick(build(name).inputs, known))


class Contract:
    """A deployed contract: functions by name, arguments as in Python."""

    def __init__(
        self, evm: Evm, name: str, address: Address, abi: list[dict[str, Any]], gas: int = 0
    ) -> None:
        self.evm, self.name, self.address, self.deploy_gas = evm, name, address, gas
        self.functions = _by_name(abi, "function")
        self.events = _by_name(abi, "event")

    def data(self, function: str, *args: Any) -> bytes:
        """What is sent for ``function(*args)``."""
        described = self._function(function, len(args))
        return _selector(described)[:4] + _encode(described["inputs"], args)

    def call(self, function: str, *args: Any, sender: Address = DEPLOYER, wei: int = 0) -> Any:
        """What ``function`` returns; one value, a tuple of several, or ``None``.

        Raises:
            Reverted: With the contract's reason.
        """
        raw = self.evm.call(self.address, self.data(function, *args), sender, wei)
        return _decode(self._function(function, len(args))["outputs"], raw)

    def tried(self, function: str, *args: Any, sender: Address = DEPLOYER) -> Receipt:
        """What would become of ``function`` if it were sent; raises ``Reverted``."""
        return self.evm.simulate(self.address, self.data(function, *args), sender)

    def send(self, function: str, *args: Any, sender: Address = DEPLOYER, wei: int = 0) -> Receipt:
        """Have ``function`` done; raises ``Reverted``."""
        return self.evm.send(self.address, self.data(function, *args), sender, wei)

    def logged(self, receipt: Receipt, event: str) -> list[dict[str, Any]]:
        """The events of this name that this contract logged in a transaction, by field."""
        (described,) = self.events[event]
        mine = (each for each in receipt.logs if _raw(each["address"]) == self.address)
        topic = _hex(_selector(described))
        return [_event(described, each) for each in mine if each["topics"][0] == topic]

    def _function(self, name: str, count: int) -> dict[str, Any]:
        """The one of this name, and of ``count`` arguments where defaults make several."""
        return next(each for each in self.functions[name] if len(each["inputs"]) == count)


class Built(NamedTuple):
    """What a contract was compiled to."""

    abi: list[dict[str, Any]]
    bytecode: bytes

    @property
    def inputs(self) -> list[dict[str, Any]]:
        """What the constructor takes."""
        return next((each["inputs"] for each in self.abi if each["type"] == "constructor"), [])


@cache
def build(name: str) -> Built:
    """The shipped artefact, or a fresh one where a source is newer."""
    artefact = ARTEFACTS / f"{name}.json"
    sources = (*SOURCES.glob(f"{name}.*"), *(SOURCES / "lib").glob("*.vy"))
    newest = max(path.stat().st_mtime for path in sources)
    if artefact.exists() and artefact.stat().st_mtime >= newest:
        built = json.loads(artefact.read_text("utf-8"))
        return Built(built["abi"], _raw(built["bytecode"]))
    built = _compiler().compiled(name)[artefact]
    return Built(built["abi"], _raw(built["bytecode"]))


@cache
def _compiler() -> Any:
    """The module ``contracts/build.py``."""
    spec = spec_from_file_location("dsn_contracts_build", SOURCES / "build.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Times(NamedTuple):
    """Spans of the vault, in seconds."""

    challenge_s: int = 7 * 86_400
    escape_s: int = 3 * 86_400
    voucher_s: int = 2 * 86_400
    inclusion_s: int = 3 * 86_400


USUAL_TIMES: Final = Times()


class Settled(NamedTuple):
    """A network's contracts on a chain, and the parameters of the ledger that settles there."""

    params: LedgerParams
    credit: Contract
    vault: Contract
    dispute: Contract
    frauds: Mapping[str, Contract]

    @property
    def evm(self) -> Evm:
        """The node."""
        return self.vault.evm

    def contract(self, name: str) -> Contract:
        """By its name in the repository."""
        known = (self.credit, self.vault, self.dispute, *self.frauds.values())
        return next(each for each in known if each.name == name)

    def signatures(self, root: LedgerRoot, signers: Sequence[SettlementKey]) -> list[bytes]:
        """Of ``signers`` over ``root``, in that order."""
        return [sign_typed(root, self.params.domain, key) for key in signers]

    def anchor(self, root: LedgerRoot, signers: Sequence[SettlementKey] = WITNESSES) -> int:
        """Anchor ``root`` as the operator and ``signers`` signed it; the anchor's number."""
        number = self.vault.call("anchor_count")
        (operator,) = self.signatures(root, [OPERATOR])
        said = tuple(root.values())
        self.vault.send("anchor", said, operator, self.signatures(root, signers))
        return int(number)

    def mint(self, account: Address, amount: int) -> None:
        """Give ``account`` units of the ERC-20, and gas to move them with."""
        self.evm.fund(account)
        self.credit.send("mint", account, amount)

    def deposit(self, account: Address, amount: int) -> Receipt:
        """Have ``account`` pay units of its own into the vault, for itself."""
        self.mint(account, amount)
        self.credit.send("approve", self.vault.address, amount, sender=account)
        return self.vault.send("deposit", account, amount, sender=account)


def deploy_world(
    evm: Evm,
    params: LedgerParams = SIGNED_PARAMS,
    *,
    times: Times = USUAL_TIMES,
    bond_wei: int = ETHER // 100,
    answer_s: int = 8 * 86_400,
) -> Settled:
    """Deploy all contracts of a network, which know one another from the start.

    Args:
        evm: The node.
        params: The ledger's; what is of the chain in them is put there, the allocation goes.
        times: The vault's spans.
        bond_wei: What a demand on chain puts at stake.
        answer_s: How long a provider has to answer one.
    """
    names = ("TestCredit", "Vault", "Dispute", *FRAUDS, *RULES)
    at = {name: evm.next_address(ahead=place) for place, name in enumerate(names)}
    domain = Domain(params.domain.network, CHAIN_ID, at["Vault"])
    params = replace(params, domain=domain)
    check_params(params)
    known = {name: getattr(params, name) for name in (each.name for each in fields(params))}
    known |= times._asdict() | {"bond_wei": bond_wei, "answer_s": answer_s}
    known |= {
        "erc20": at["TestCredit"],
        "network": domain.network,
        "vault": domain.vault,
        "dispute": at["Dispute"],
        "judges": [at[name] for name in FRAUDS],
        "genesis_root": genesis(params).root,
        "drand": params.drand is not None,
        "witnesses": sorted(params.witnesses),
    }
    known |= {f"{name.removesuffix('Rules').lower()}_rules": at[name] for name in RULES}
    addresses = {"witnesses": [key.address for key in WITNESSES]}
    made = {
        name: evm.deploy_named(name, known | (addresses if name == "Vault" else {}))
        for name in names
    }
    assert {name: each.address for name, each in made.items()} == at
    frauds = {name: made[name] for name in FRAUDS}
    return Settled(params, made["TestCredit"], made["Vault"], made["Dispute"], frauds)


def _transaction(to: Address | None, data: bytes, sender: Address, wei: int) -> dict[str, str]:
    sent = {"from": _hex(sender), "data": _hex(data), "value": hex(wei), "gas": hex(GAS_LIMIT)}
    return sent if to is None else sent | {"to": _hex(to)}


def _hex(raw: bytes) -> str:
    return "0x" + raw.hex()


def _raw(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _reason(data: str, message: str) -> str:
    """The text that a contract reverted with, or what can be said instead."""
    import eth_abi

    raw = _raw(data)
    if raw[:4] == _ERROR:
        return str(eth_abi.decode(["string"], raw[4:])[0])
    if raw[:4] == _PANIC:
        return f"panic {int.from_bytes(raw[4:], 'big'):#x}"
    return raw.hex() or message


def _by_name(abi: list[dict[str, Any]], kind: str) -> Mapping[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for each in abi:
        if each["type"] == kind:
            found.setdefault(each["name"], []).append(each)
    return found


def _type(described: Mapping[str, Any]) -> str:
    """The ABI's type: of a struct, its members' in brackets."""
    kind = str(described["type"])
    if not kind.startswith("tuple"):
        return kind
    members = ",".join(_type(each) for each in described["components"])
    return f"({members}){kind.removeprefix('tuple')}"


def _types(described: Sequence[Mapping[str, Any]]) -> list[str]:
    return [_type(each) for each in described]


def _selector(described: Mapping[str, Any]) -> bytes:
    """The hash that an event has as its topic; a function has the first four bytes."""
    return keccak256(f"{described['name']}({','.join(_types(described['inputs']))})".encode())


def _encode(described: Sequence[Mapping[str, Any]], values: Sequence[Any]) -> bytes:
    import eth_abi

    return bytes(eth_abi.encode(_types(described), values))


def _pick(described: Sequence[Mapping[str, Any]], known: Mapping[str, Any]) -> tuple[Any, ...]:
    """Those of ``known`` that are described; a struct's members by their own names."""
    return tuple(
        _pick(each["components"], known)
        if each["type"] == "tuple"
        else known[each["name"].rstrip("_")]
        for each in described
    )


def _decode(described: Sequence[Mapping[str, Any]], raw: bytes) -> Any:
    import eth_abi

    values = [
        _value(kind, value)
        for kind, value in zip(described, eth_abi.decode(_types(described), raw), strict=True)
    ]
    return tuple(values) if len(values) > 1 else next(iter(values), None)


def _value(described: Mapping[str, Any], value: Any) -> Any:
    """As the library decoded it, but addresses are bytes."""
    kind = described["type"]
    if kind.endswith("]"):
        inner = {**described, "type": kind[: kind.rindex("[")]}
        return [_value(inner, each) for each in value]
    if kind == "tuple":
        pairs = zip(described["components"], value, strict=True)
        return tuple(_value(each, part) for each, part in pairs)
    return Address(_raw(value)) if kind == "address" else value


def _event(described: Mapping[str, Any], logged: Mapping[str, Any]) -> dict[str, Any]:
    """The fields by name, those that are indexed and the rest."""
    inputs = described["inputs"]
    indexed = [each for each in inputs if each["indexed"]]
    rest = [each for each in inputs if not each["indexed"]]
    topics = b"".join(map(_raw, logged["topics"][1:]))
    found: dict[str, Any] = {}
    for part, raw in ((indexed, topics), (rest, _raw(logged["data"]))):
        values = _decode(part, raw)
        several = values if len(part) > 1 else (values,)
        found |= zip((each["name"] for each in part), several, strict=False)
    return found
