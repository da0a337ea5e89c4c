"""A DNS server on loopback, UDP and TCP, and the node records that it may serve."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import Any

from dnslib import QTYPE, RCODE, RR, TXT, DNSRecord
from dnslib.server import BaseResolver, DNSHandler, DNSLogger, DNSServer

from dsn.core.keys import SigningKey
from dsn.dht.node_record import NodeRecord, sign_node_record
from dsn.ids import NetworkId

NOW_S = 1_700_000_000
DATAGRAM_BYTES = 1_232
POLL_S = 0.01


def node_record(
    number: int, network: NetworkId, *, now_s: int = NOW_S, life_s: int = 3_600, **fields: Any
) -> NodeRecord:
    """What node ``number`` says of itself at ``now_s``."""
    key = SigningKey(number.to_bytes(32, "big"))
    said = {"addresses": [f"127.0.0.{number}:7077"], "region": "eu", **fields}
    return sign_node_record(
        key.sign,
        network=network,
        public_key=key.public,
        sequence=now_s * 1_000_000,
        issued_s=now_s,
        expires_s=now_s + life_s,
        **said,
    )


class _Zone(BaseResolver):
    """Answers from a table of texts, each a list of strings; other names do not exist."""

    def __init__(self, texts: Mapping[str, Sequence[Sequence[bytes]]]) -> None:
        self._texts = {f"{name}.": list(map(list, each)) for name, each in texts.items()}

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:
        reply, name = request.reply(), str(request.q.qname)
        if name not in self._texts:
            reply.header.rcode = RCODE.NXDOMAIN
        for strings in self._texts.get(name, ()):
            reply.add_answer(RR(name, QTYPE.TXT, rdata=TXT(strings), ttl=60))
        return reply


class _Handler(DNSHandler):
    """As servers do: what is too long for a datagram is to be asked for over TCP."""

    def get_reply(self, data: bytes) -> bytes:
        raw: bytes = super().get_reply(data)
        if self.protocol == "tcp" or len(raw) <= DATAGRAM_BYTES:
            return raw
        reply = DNSRecord.parse(data).reply()
        reply.header.tc = 1
        short: bytes = reply.pack()
        return short


@contextmanager
def serving(texts: Mapping[str, Sequence[Sequence[bytes]]]) -> Iterator[str]:
    """Serve ``texts``; gives the server's ``address:port``."""
    quiet = DNSLogger("-request,-reply,-truncated,-error")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    servers = [
        DNSServer(_Zone(texts), "127.0.0.1", port, tcp=tcp, logger=quiet, handler=_Handler).server
        for tcp in (False, True)
    ]
    threads = [Thread(target=server.serve_forever, args=(POLL_S,)) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


@contextmanager
def answering(reply: Callable[[bytes], bytes]) -> Iterator[str]:
    """A UDP server whose answer to any datagram is ``reply`` of it; empty ones are not sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        address = server.getsockname()

        def serve() -> None:
            while (question := server.recvfrom(4_096))[0] != b"stop":
                if answer := reply(question[0]):
                    server.sendto(answer, question[1])

        thread = Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{address[1]}"
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stop:
                stop.sendto(b"stop", address)
            thread.join()


def noise(seed: int) -> Callable[[bytes], bytes]:
    """Answers that begin like a reply to the question and go on at random."""
    draw = random.Random(seed)

    def reply(question: bytes) -> bytes:
        kept = draw.choice((0, 2, 12, len(question)))
        head = bytearray(question[:kept])
        if kept > 2:
            head[2] |= 0x80
            head[6:8] = draw.randrange(4).to_bytes(2, "big")
        return bytes(head) + draw.randbytes(draw.randrange(600))

    return reply
