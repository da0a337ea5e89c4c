"""A drand chain of our own: a key, rounds when they are due, and a relay over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import py_arkworks_bls12381 as bls

from dsn.core.hashing import sha256
from dsn.ports import Clock
from dsn.proofs.drand import DrandChain

SUITE = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"
SECRET = bls.Scalar(0x5EC2E7)


def own_chain(genesis_s: int, period_s: int) -> DrandChain:
    """A chain whose key is known here."""
    return DrandChain((bls.G2Point() * SECRET).to_compressed_bytes(), genesis_s, period_s)


def sign_round(number: int) -> bytes:
    """What drand's signers would make together of round ``number``."""
    message = bls.G1Point.hash_to_curve(sha256(number.to_bytes(8, "big")), SUITE)
    return bytes((message * SECRET).to_compressed_bytes())


class Relay:
    """Serves rounds that are due; tells lies while ``lies``."""

    def __init__(self, chain: DrandChain, clock: Clock) -> None:
        self.lies, self.asked = False, list[int]()
        relay = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                number = int(self.path.rpartition("/")[2])
                relay.asked.append(number)
                if chain.due_ms(number) > clock.now_s() * 1_000:
                    self.send_error(425)
                    return
                signature = sign_round(number + relay.lies)
                raw = json.dumps({"round": number, "signature": signature.hex()}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: tests are quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/chain"


@contextmanager
def relay(chain: DrandChain, clock: Clock) -> Iterator[Relay]:
    """A relay of ``chain`` while the block runs."""
    serving = Relay(chain, clock)
    thread = threading.Thread(target=serving.server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield serving
    finally:
        serving.server.shutdown()
        serving.server.server_close()
        thread.join()
