# pragma version 0.4.3
"""
@title An ERC-20 that means no good
@notice It keeps a fee of every transfer, says no, or calls a function of the vault once more while
    the vault is in the middle of one. Whoever has nothing may spend all the same.
"""

balanceOf: public(HashMap[address, uint256])
fee: uint256
refuses: bool
target: address
again: Bytes[1024]
reentered: public(bool)


@external
def set(fee: uint256, refuses: bool, target: address, again: Bytes[1024]):
    self.fee = fee
    self.refuses = refuses
    self.target = target
    self.again = again


@internal
def _move(account: address, amount: uint256) -> bool:
    if self.refuses:
        return False
    if len(self.again) != 0:
        done: bool = raw_call(self.target, self.again, revert_on_failure=False)
        self.reentered = self.reentered or done
    self.balanceOf[account] += amount - self.fee
    return True


@external
def transferFrom(owner: address, account: address, amount: uint256) -> bool:
    return self._move(account, amount)


@external
def transfer(account: address, amount: uint256) -> bool:
    self.balanceOf[msg.sender] -= amount
    return self._move(account, amount)
