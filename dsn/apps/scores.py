"""What verifiers say of nodes: fetched, remembered, and made into one figure a node, here.

The figure is ``machines.scoring``'s, by the verdicts of all verifiers that this home trusts: one
half where nothing is known. A node that was ever found wrong gets a thousandth of it: no honest
node is, so it is chosen when nobody else is left.

Spec: docs/guide/audit.md#verdicts-in-placement
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

from dsn.apps.results import NoticeSink
from dsn.core.keys import SIGNATURE_BYTES, IdentityKeys, SigningKey, node_id_of
from dsn.dht.contact import Contact, check_contact
from dsn.errors import DsnError, InvalidSignature, MalformedMessage, UsageError
from dsn.ids import NetworkId, NodeId, format_base32, parse_base32
from dsn.machines.scoring import score
from dsn.ports import Clock
from dsn.proofs.verdict import Outcome, SignedVerdict, Verdict, verify_verdict
from dsn.rpc.channel import Connections
from dsn.rpc.verifier import MOST_VERDICTS, VerifierPeer
from dsn.store.files import write_atomic
from dsn.store.home import Home
from dsn.v1 import verifier_pb2

LIAR_FACTOR: Final = 1 / 1_024
MOST_KEPT: Final = 4_096
"""Verdicts remembered of one verifier: the newest, and those that say wrong."""
MOST_PAGES: Final = 4
"""Replies fetched of one verifier in one command."""
ANSWER_S: Final = 4.0
"""Longest wait for all verifiers together."""


def parse_verifier(text: str) -> Contact:
    """The verifier that ``KEY@HOST:PORT`` (untrusted) names; the key is the one it must prove.

    Raises:
        UsageError: ``bad_verifier``.
    """
    key, _, address = text.partition("@")
    try:
        return check_contact(parse_base32(key), address)
    except (MalformedMessage, UsageError) as error:
        raise UsageError(
            f"'{text}' is no verifier: {error.message}",
            hint="write it as KEY@HOST:PORT, as 'dsn verifier run' prints it",
            code="bad_verifier",
        ) from error


def weigh(verdicts: Sequence[Verdict], now_s: float) -> float:
    """How a node that these verdicts are on weighs in placement, above 0 and at most 1.

    Args:
        verdicts: Verified.
        now_s: Unix seconds.
    """
    found = score(verdicts, now_s)
    return found.value * (LIAR_FACTOR if found.wrong else 1)


def check_verdict(
    message: verifier_pb2.SignedVerdict, verifier: bytes, network: NetworkId
) -> Verdict:
    """The verdict in a message (untrusted), if ``verifier`` signed it for ``network``.

    Raises:
        MalformedMessage: It is none.
        InvalidSignature: Somebody else's, of another network, or not signed by its verifier.
    """
    if len(message.signature) != SIGNATURE_BYTES:
        raise MalformedMessage(f"a verdict's signature of {len(message.signature)} bytes")
    signed = SignedVerdict(Verdict.decode(message.verdict), message.signature)
    verdict = signed.verdict
    if (verdict.verifier, verdict.network) != (verifier, network):
        raise InvalidSignature("a verdict of another verifier or another network")
    verify_verdict(signed)
    return verdict


async def verdicts_on(
    peer: VerifierPeer, network: NetworkId, node: NodeId
) -> AsyncIterator[Verdict]:
    """All that a verifier says of one node, in its order, with its signatures verified.

    Raises:
        MalformedMessage: Something in it is no verdict.
        InvalidSignature: One is somebody else's, or of another network.
        DsnError: The verifier is away, too late, or refuses.
    """
    after, more = 0, True
    while more:
        reply = await peer.get_verdicts(after, node)
        for message in reply.verdicts:
            verdict = check_verdict(message, peer.contact.public_key, network)
            if verdict.node == node:
                yield verdict
        more, after = bool(reply.verdicts) and reply.next > after, reply.next


async def own_scores(
    home: Home, root: bytes, verifiers: Sequence[str], clock: Clock, notice: NoticeSink
) -> dict[str, float]:
    """What verifiers' verdicts on the node of ``home`` come to, by verifier.

    Args:
        home: The provider's.
        root: Its 32 secret bytes.
        verifiers: As ``KEY@HOST:PORT``; those that cannot be asked are named in a notice.
        clock: By which old verdicts fade.
        notice: For people.

    Raises:
        UsageError: ``bad_verifier``.
    """
    identity = SigningKey(IdentityKeys.derive(root).identity_seed)
    network, me = home.network().network_id, node_id_of(identity.public)
    contacts, scores = {text: parse_verifier(text) for text in verifiers}, dict[str, float]()
    async with Connections(identity, network) as connections:
        for text, contact in contacts.items():
            peer = VerifierPeer(connections.line(contact))
            try:
                async with asyncio.timeout(ANSWER_S):
                    verdicts = [each async for each in verdicts_on(peer, network, me)]
            except (DsnError, TimeoutError) as error:
                notice(_unanswered(contact, error))
            else:
                scores[text] = round(score(verdicts, clock.now_s()).value, 3)
    return scores


def _unanswered(verifier: Contact, error: DsnError | TimeoutError) -> str:
    why = error.message if isinstance(error, DsnError) else "no answer in time"
    return f"verifier {verifier.address} gives no verdicts: {why}"


class _Kept:
    """What one verifier said so far, in a file of the home."""

    def __init__(self, path: Path) -> None:
        """Read ``path``; a file that does not read is as good as none: all is asked again."""
        self._path, self.after = path, 0
        self.verdicts: list[Verdict] = []
        try:
            stored = json.loads(path.read_text())
            self.verdicts = [Verdict.decode(b64decode(each)) for each in stored["verdicts"]]
            self.after = int(stored["after"])
        except (OSError, ValueError, KeyError, TypeError, MalformedMessage):
            self.verdicts.clear()

    def add(self, verdicts: Iterable[Verdict], after: int) -> None:
        """Keep ``verdicts``; the next fetch goes on from number ``after``."""
        self.verdicts += verdicts
        old = self.verdicts[:-MOST_KEPT]
        liars = [each for each in old if each.outcome is Outcome.WRONG][-MOST_KEPT:]
        self.verdicts = liars + self.verdicts[-MOST_KEPT:]
        self.after = after

    def save(self) -> None:
        """Write the file."""
        texts = [b64encode(each.encode()).decode() for each in self.verdicts]
        text = json.dumps({"after": self.after, "verdicts": texts})
        write_atomic(self._path, text.encode(), 0o600)


class Scores:
    """The scores of nodes by the verdicts of the verifiers that this home trusts."""

    def __init__(
        self,
        verifiers: Sequence[str],
        folder: Path,
        connections: Connections,
        network: NetworkId,
        clock: Clock,
        notice: NoticeSink,
    ) -> None:
        """Ask ``verifiers`` (``KEY@HOST:PORT``), and remember in ``folder`` what they said.

        Raises:
            UsageError: ``bad_verifier``.
        """
        self._verifiers = [parse_verifier(text) for text in verifiers]
        self._folder, self._connections, self._network = folder, connections, network
        self._clock, self._notice = clock, notice

    async def rate(self) -> dict[NodeId, float]:
        """The score of every node that a verifier gave a verdict on.

        Verifiers that cannot be asked count by what they said before, and are named in a notice.
        """
        if not self._verifiers:
            return {}
        kept = await asyncio.gather(*map(self._update, self._verifiers))
        by_node: defaultdict[NodeId, list[Verdict]] = defaultdict(list)
        for verdict in chain.from_iterable(each.verdicts for each in kept):
            by_node[verdict.node].append(verdict)
        now_s = self._clock.now_s()
        return {node: weigh(verdicts, now_s) for node, verdicts in by_node.items()}

    async def _update(self, verifier: Contact) -> _Kept:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        kept = _Kept(self._folder / f"{format_base32(verifier.public_key)}.json")
        before = kept.after
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._fetch(verifier, kept)
        except (DsnError, TimeoutError) as error:
            self._notice(_unanswered(verifier, error))
        if kept.after != before:
            kept.save()
        return kept

    async def _fetch(self, verifier: Contact, kept: _Kept) -> None:
        peer = VerifierPeer(self._connections.line(verifier))
        for _ in range(MOST_PAGES):
            reply = await peer.get_verdicts(kept.after)
            count = len(reply.verdicts)
            if count > MOST_VERDICTS or reply.next < kept.after + count:
                raise MalformedMessage(f"{count} verdicts, and then number {reply.next}")
            kept.add(self._checked(reply.verdicts, verifier), reply.next)
            if not reply.verdicts:
                break

    def _checked(
        self, messages: Iterable[verifier_pb2.SignedVerdict], verifier: Contact
    ) -> list[Verdict]:
        return [check_verdict(each, verifier.public_key, self._network) for each in messages]
