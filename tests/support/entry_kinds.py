"""A body of every kind, with something in each of its fields."""

from __future__ import annotations

from dsn.ids import DealId
from dsn.ledger import bodies, disputes
from dsn.ledger.binding import KeyBinding, SignedBinding
from dsn.ledger.bodies import Agreed, Salt, SignedPledge, SignedVoucher
from dsn.ledger.deal import Close, Extension
from dsn.ledger.entry import Body
from dsn.ledger.log import LogLeaf, TreeHead
from dsn.ledger.pledge import Pledge
from dsn.ledger.voucher import Voucher
from dsn.proofs.post import Link
from tests.support.ledger_world import NETWORK, address, terms

A, B, C = (bytes([n]) * 65 for n in (1, 2, 3))
H, G, J = (bytes([n]) * 32 for n in (4, 5, 6))
DEAL = DealId(b"\x07" * 32)
DRAWN = disputes.DrawnOpening(LogLeaf(b"an entry", A, H), 9, (H, G), J, 3, b"bracket")
ONE_OF_EACH: tuple[Body, ...] = (
    bodies.OpenEpoch(3, TreeHead(17, H), G, b"evidence"),
    bodies.ShutEpoch(3, (Salt(H, G, A[:64]), Salt(G, J, B[:64]))),
    bodies.Bind(SignedBinding(KeyBinding(H, address("bob"), NETWORK, 5, 6), A[:64], B)),
    bodies.Deposit(address("bob"), 5, 6),
    bodies.Withdraw(77),
    bodies.Transfer(address("bob"), 78),
    bodies.Open(Agreed(terms(), A, B)),
    bodies.TopUp(DEAL, 1, 2, None),
    bodies.TopUp(DEAL, 1, 2, Agreed(Extension(DEAL, 3, 4), A, B)),
    bodies.SubmitLink(Link(1, H, G, 2, 3, J)),
    bodies.Claim(DEAL, None, None),
    bodies.Claim(
        DEAL,
        SignedPledge(Pledge(DEAL, 1, 2, 3, H), True, A, B),
        SignedVoucher(Voucher(DEAL, 4), False, C),
    ),
    bodies.Loss(DEAL, 5, (b"one", b"another")),
    bodies.Quit(DEAL),
    bodies.CloseDeal(DEAL, None),
    bodies.CloseDeal(DEAL, Agreed(Close(DEAL, 8), A, B)),
    disputes.Demand(DEAL, 10, 11),
    disputes.Demand(DEAL, 10, DRAWN),
    disputes.Serve(DEAL, disputes.ServedOpening(b"opening", (H,))),
    disputes.Serve(DEAL, disputes.ShardLost(4, b"deletion")),
    disputes.Serve(DEAL, disputes.AllLost(4)),
    disputes.SlashWrong(DEAL, DRAWN, disputes.ServedOpening(b"opening", (H, G))),
    disputes.SlashMissed(DEAL),
    disputes.SlashUnserved(DEAL),
    disputes.SlashJudged(DEAL, 12, address("dora")),
)
