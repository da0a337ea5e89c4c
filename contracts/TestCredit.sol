// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title Credits of no worth
/// @notice An ERC-20 with 9 decimals for tests and local networks, where everybody mints as much
/// as they like. A network that means it settles in an ERC-20 that is worth something.
contract TestCredit is ERC20 {
    constructor() ERC20("dsn test credit", "TEST") {}

    /// @notice One credit is 10^9 base units, as on the ledger.
    function decimals() public pure override returns (uint8) {
        return 9;
    }

    /// @notice Make units out of nothing. Anybody may: it is play money.
    /// @param account Who gets them.
    /// @param amount How many base units.
    function mint(address account, uint256 amount) external {
        _mint(account, amount);
    }
}
