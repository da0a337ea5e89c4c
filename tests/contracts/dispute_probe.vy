# pragma version 0.4.3
"""
@title A dispute that says what a test wants
@notice What the vault asks of Dispute, and a way to set it.
"""

struct Slash:
    number: uint64
    time: uint64
    asker: address


slashes: public(HashMap[bytes32, Slash])


@external
def slash(deal: bytes32, number: uint64, asker: address):
    self.slashes[deal] = Slash(
        number=number, time=convert(block.timestamp, uint64), asker=asker
    )
