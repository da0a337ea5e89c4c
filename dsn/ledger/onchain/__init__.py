"""What the chain's contracts are shown of the ledger, as their arguments; pure."""
