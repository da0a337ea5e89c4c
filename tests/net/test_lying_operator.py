"""An operator that lies, with its real keys and a bribed quorum of its witnesses.

A witness that looks refuses to cosign, and a client that read the ledger before refuses to go on;
each keeps a file that convicts, judged by ``dsn ledger check --evidence`` in a process of its own
once everything else is shut down. What a client cannot know is what nobody proves to it: that an
entry follows from the rules is seen by those who replay the log, witnesses and ``dsn ledger
check``. Below, a client whose quorum is bribed believes minted credits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from dsn.dht.network import format_network
from dsn.errors import DsnError, PeerError
from dsn.ledger.bodies import Transfer
from dsn.ledger.checkpoint import format_note_key, parse_checkpoint
from dsn.ledger.entry import sign_entry
from dsn.ledger.log import LogLeaf
from dsn.ledger.state import Changes
from dsn.ledger.tiles import TILE_WIDTH, Tile, format_path
from dsn.ledger.trust import witness_key
from tests.net.local import Done, dsn
from tests.support.ledger_stage import located
from tests.support.ledger_world import KEYS, address
from tests.support.lying_operator import BRIBED, Liar, Scene, evidence_files, on_scene

MINTED = 10**9


def judged(folder: Path, file: Path, network: str = "network.toml") -> Done:
    """What a stranger's machine says of ``file``, with nothing but a network file."""
    words = ("ledger", "check", "--evidence", file, "--network", folder / network)
    return dsn("--json", *words, home=folder / "nobody")


def convicts(folder: Path, file: Path, fault: str, role: str = "operator") -> None:
    """``file`` convicts the operator or a bribed witness; changed, or elsewhere, nobody."""
    fields = judged(folder, file).check(0).fields
    accused = fields["accused"]
    assert (fields["ok"], fields["fault"], accused["role"]) == (True, fault, role)
    liar = Liar().trust.operator
    keys = [liar] if role == "operator" else [witness_key(key.public) for key in BRIBED]
    assert accused["key"] in map(format_note_key, keys)
    assert fields["size"] == len(file.read_bytes())

    raw, seed = bytearray(file.read_bytes()), f"{file.name} {fault}"
    random = Random(seed)
    at, bit = random.randrange(len(raw)), 1 << random.randrange(8)
    raw[at] ^= bit
    changed = folder / "changed"
    changed.write_bytes(raw)
    assert judged(folder, changed).code in (1, 4), f"seed {seed}: byte {at}, bit {bit}"

    elsewhere = Liar("elsewhere")
    network = located(elsewhere.genesis, "127.0.0.1:1")
    (folder / "elsewhere.toml").write_text(format_network(network))
    refused = judged(folder, file, "elsewhere.toml").check(4)
    assert refused.fields["error"]["code"] == "other_log"


async def believed(scene: Scene) -> int:
    """The size that a client believes, of all that is published."""
    newest = await scene.reader.light().refresh()
    assert newest == scene.liar.checkpoint()
    return newest.size


async def client_refuses(scene: Scene) -> PeerError:
    with pytest.raises(PeerError) as failure:
        await scene.reader.light().refresh()
    if failure.value.evidence:
        assert scene.evidence.read_bytes() == failure.value.evidence
    return failure.value


async def witness_refuses(scene: Scene, code: str) -> Path:
    """The file that the witness keeps of what is published; its answer brings it along."""
    known = scene.kept()
    error = await scene.refused()
    assert error.detail_code == code
    [file] = [each for each in scene.kept() if each not in known]
    assert file.read_bytes() == error.evidence
    return file


# two logs


async def test_a_fork_is_refused_and_convicts(tmp_path: Path) -> None:
    async with on_scene(tmp_path) as scene:
        liar, other = scene.liar, scene.liar.fork()
        liar.pay(3)
        await scene.agree()
        await believed(scene)
        liar.world = other
        liar.do("paul", Transfer(address("sam"), 7))
        liar.pay(2)
        file = await witness_refuses(scene, "forked_ledger")
        assert (await client_refuses(scene)).detail_code == "forked_ledger"
    convicts(tmp_path, file, "fork")
    convicts(tmp_path, scene.evidence, "fork")


async def test_a_fork_that_grew_is_refused_and_convicts(tmp_path: Path) -> None:
    async with on_scene(tmp_path) as scene:
        liar, other = scene.liar, scene.liar.fork()
        liar.pay(3)
        await scene.agree()
        await believed(scene)
        liar.world = other
        liar.do("paul", Transfer(address("sam"), 7))
        liar.pay(300)
        file = await witness_refuses(scene, "forked_ledger")
        assert (await client_refuses(scene)).detail_code == "forked_ledger"
    convicts(tmp_path, file, "history")
    convicts(tmp_path, scene.evidence, "history")


async def test_without_a_bribed_quorum_no_client_believes_anything_else(tmp_path: Path) -> None:
    async with on_scene(tmp_path) as scene:
        liar, other = scene.liar, scene.liar.fork()
        liar.pay(3)
        await scene.agree()
        size = await believed(scene)
        liar.world = other
        liar.do("paul", Transfer(address("sam"), 7))
        liar.pay(5)
        liar.published = (liar.snapshot(), liar.sign(liar.checkpoint(), BRIBED[:1]))
        assert (await client_refuses(scene)).detail_code == "forked_ledger"
        assert scene.reader.light().newest.size == size
        assert scene.evidence.exists()


# a shorter log


async def test_a_rewind_that_goes_on_otherwise_is_refused_and_convicts(tmp_path: Path) -> None:
    """The witness has the longer log and shows that it does not begin so; a client has only two
    checkpoints, and convicts whoever of the witnesses signed the shorter one later."""
    async with on_scene(tmp_path) as scene:
        liar, other = scene.liar, scene.liar.fork()
        liar.pay(5)
        await scene.agree()
        await believed(scene)
        liar.world = other
        liar.do("paul", Transfer(address("sam"), 7))
        liar.show(liar.checkpoint(), liar.now_s + 5)
        file = await witness_refuses(scene, "forked_ledger")
        assert (await client_refuses(scene)).detail_code == "forked_ledger"
    convicts(tmp_path, file, "history")
    convicts(tmp_path, scene.evidence, "rewind", role="witness")


async def test_a_plain_rewind_is_refused_and_convicts_nobody(tmp_path: Path) -> None:
    """That a log was shorter once is true: both checkpoints are, whenever they are shown."""
    async with on_scene(tmp_path) as scene:
        earlier, short = await scene.agree(), scene.liar.fork()
        scene.liar.pay(5)
        newest = await scene.agree()
        await believed(scene)
        scene.liar.published = (short, earlier)
        error = await scene.refused()
        assert error.detail_code == "ledger_behind"
        assert parse_checkpoint(error.evidence).checkpoint == newest.checkpoint
        with pytest.raises(DsnError) as refused:
            await scene.reader.light().refresh()
        assert refused.value.detail_code == "ledger_behind"
        assert (scene.kept(), scene.evidence.exists()) == ([], False)


async def test_an_epoch_that_falls_is_refused_and_convicts(tmp_path: Path) -> None:
    async with on_scene(tmp_path) as scene:
        await scene.agree()
        await believed(scene)
        scene.liar.pay(1)
        scene.liar.show(replace(scene.liar.checkpoint(), epoch=0))
        file = await witness_refuses(scene, "forked_ledger")
        assert (await client_refuses(scene)).detail_code == "forked_ledger"
    convicts(tmp_path, file, "rewind")
    convicts(tmp_path, scene.evidence, "rewind")


# a dropped entry


async def test_an_acknowledged_entry_that_is_dropped_convicts(tmp_path: Path) -> None:
    """No witness ever saw the entry, so the honest one cosigns; whoever has the promise does not
    believe it. A log that stops short of the entry breaks no promise, and convicts nobody."""
    async with on_scene(tmp_path) as scene:
        liar, without = scene.liar, scene.liar.fork()
        liar.auto = False
        account = scene.reader.account("alice")
        [index] = await account.send([Transfer(address("sam"), 5)], wait=False)
        await scene.reader.light().refresh()
        liar.world = without
        for _ in range(index + 1 - len(without.leaves)):
            liar.do("paul", Transfer(address("sam"), 7))
        await scene.agree()
        assert scene.kept() == []
        error = await client_refuses(scene)
        assert error.detail_code == "broken_promise"
    convicts(tmp_path, scene.evidence, "broken_promise")


async def test_a_published_entry_that_is_dropped_convicts(tmp_path: Path) -> None:
    async with on_scene(tmp_path) as scene:
        liar, without = scene.liar, scene.liar.fork()
        account = scene.reader.account("alice")
        [index] = await account.send([Transfer(address("sam"), 5)])
        await scene.agree()
        liar.world = without
        for _ in range(index + 3 - len(without.leaves)):
            liar.do("paul", Transfer(address("sam"), 7))
        file = await witness_refuses(scene, "forked_ledger")
        assert (await client_refuses(scene)).detail_code == "forked_ledger"
    convicts(tmp_path, file, "history")
    convicts(tmp_path, scene.evidence, "history")


# an entry that the rules do not allow


async def mint(scene: Scene) -> None:
    liar, honest = scene.liar, scene.liar.fork()
    honest.do("alice", Transfer(address("sam"), 1))
    own = honest.account("operator")
    richer = replace(own, available=own.available + MINTED)
    liar.world.state = honest.state.having(Changes.of([richer], {}))
    liar.world.add(replace(honest.leaves[-1], state_root=liar.world.state.root))


async def overdraw(scene: Scene) -> None:
    _enter(scene, "sam", Transfer(address("operator"), MINTED), by="sam")


async def forge(scene: Scene) -> None:
    _enter(scene, "alice", Transfer(address("operator"), 5), by="operator")


async def open_over_an_earlier_log(scene: Scene) -> None:
    liar, earlier = scene.liar, scene.liar.world.frontier.head
    await scene.agree()
    await scene.shut()
    liar.do("operator", liar.opening(earlier))


async def open_over_a_later_log(scene: Scene) -> None:
    """Every entry after the shut is another beacon to choose."""
    liar = scene.liar
    await scene.agree()
    await scene.shut()
    liar.pay(2)
    liar.do("operator", liar.opening(liar.world.frontier.head))


async def choose_a_beacon(scene: Scene) -> None:
    liar = scene.liar
    await scene.agree()
    await scene.shut()
    opening = liar.opening(liar.world.frontier.head)
    liar.do("operator", replace(opening, value=bytes(32)))


def _enter(scene: Scene, name: str, body: Transfer, *, by: str) -> None:
    world, domain = scene.liar.world, scene.liar.params.domain
    entry = world.entry(name, body)
    signature = sign_entry(entry, domain, KEYS[by]).signature
    world.add(LogLeaf(entry.encode(), signature, world.state.root))


@pytest.mark.parametrize(
    ("lie", "fault"),
    [
        (mint, "state_root_differs"),
        (overdraw, "not_enough_credit"),
        (forge, "invalid_signature"),
        (open_over_an_earlier_log, "bad_closed_log"),
        (open_over_a_later_log, "bad_closed_log"),
        (choose_a_beacon, "bad_beacon"),
    ],
)
async def test_a_step_that_the_rules_do_not_allow_is_refused_and_convicts(
    tmp_path: Path, lie: Callable[[Scene], Awaitable[None]], fault: str
) -> None:
    async with on_scene(tmp_path) as scene:
        scene.liar.pay(3)
        await scene.agree()
        await lie(scene)
        scene.liar.publish()
        file = await witness_refuses(scene, "wrong_entry")
        await believed(scene)
        assert not scene.evidence.exists()
    convicts(tmp_path, file, fault)


async def test_minted_credits_are_proven_to_who_believes_a_bribed_quorum(tmp_path: Path) -> None:
    async with on_scene(tmp_path) as scene:
        before = (await scene.reader.light().account(address("operator"))).available
        await mint(scene)
        scene.liar.publish()
        after = (await scene.reader.light().account(address("operator"))).available
        assert after == before + MINTED
        assert (await scene.refused()).detail_code == "wrong_entry"


async def test_a_state_of_the_checkpoints_own_is_refused_and_convicts(tmp_path: Path) -> None:
    async with on_scene(tmp_path) as scene:
        scene.liar.pay(3)
        scene.liar.show(replace(scene.liar.checkpoint(), state_root=bytes(32)))
        file = await witness_refuses(scene, "wrong_entry")
    convicts(tmp_path, file, "checkpoint_differs")


async def test_what_is_kept_convicts_even_if_the_operator_hides_its_log(tmp_path: Path) -> None:
    """Hashes that make no proof are refused, not kept: the next time may bring better ones."""
    async with on_scene(tmp_path) as scene:
        liar = scene.liar
        liar.pay(2)
        await mint(scene)
        liar.pay(300)
        liar.spoiled = {format_path(Tile(0, 0, TILE_WIDTH))}
        assert (await scene.refused()).detail_code == "wrong_leaves"
        assert scene.kept() == []
        liar.spoiled = set()
        file = await witness_refuses(scene, "wrong_entry")
    convicts(tmp_path, file, "state_root_differs")


# the honest


def test_what_an_honest_operator_signed_convicts_nobody(tmp_path: Path) -> None:
    liar = Liar()
    network = located(liar.genesis, "127.0.0.1:1")
    (tmp_path / "network.toml").write_text(format_network(network))
    for kind, raw in evidence_files(liar, guilty=False).items():
        (tmp_path / kind).write_bytes(raw)
        fields = judged(tmp_path, tmp_path / kind).check(1).fields
        assert (fields["ok"], fields["kind"], fields["code"]) == (False, kind, "no_fault")
        assert "accused" not in fields
