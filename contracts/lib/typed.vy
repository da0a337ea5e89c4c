# pragma version 0.4.3
"""
@title Typed data
@notice EIP-712 digests of a network's domain, and who signed them. A signature has one spelling:
    s in the lower half of the order, v 27 or 28.
"""

HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168
DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)"
)


@view
@internal
def separator(vault: address, network: bytes32) -> bytes32:
    """
    @notice What every digest of a network starts from: this chain, its vault, its id.
    """
    return keccak256(
        abi_encode(DOMAIN_TYPE, keccak256("dsn"), keccak256("1"), chain.id, vault, network)
    )


@pure
@internal
def digest(separator: bytes32, struct_hash: bytes32) -> bytes32:
    """
    @notice The 32 bytes that are signed.
    """
    return keccak256(concat(b"\x19\x01", separator, struct_hash))


@pure
@internal
def is_one_spelling(signature: Bytes[65]) -> bool:
    """
    @notice Whether the signature is spelled in the one way that is accepted.
    """
    if len(signature) != 65:
        return False
    v: uint8 = convert(slice(signature, 64, 1), uint8)
    return convert(extract32(signature, 32), uint256) <= HALF_ORDER and (v == 27 or v == 28)


@pure
@internal
def signer(digest: bytes32, signature: Bytes[65]) -> address:
    """
    @notice Who signed; the empty address if nobody did.
    """
    if not self.is_one_spelling(signature):
        return empty(address)
    v: uint256 = convert(slice(signature, 64, 1), uint256)
    return ecrecover(digest, v, extract32(signature, 0), extract32(signature, 32))


@pure
@internal
def fault(digest: bytes32, signature: Bytes[65], who: address) -> String[32]:
    """
    @notice Nothing if `who` signed, else why not.
    """
    if len(signature) == 65 and not self.is_one_spelling(signature):
        return "malleated_signature"
    found: address = self.signer(digest, signature)
    if found == empty(address) or found != who:
        return "invalid_signature"
    return ""
