"""What settling costs on an EVM chain: the gas of each call, as a local node counts it.

    python bench/gas.py

The tests of the contracts make the calls, at realistic sizes, and say what they took; this prints
their figures as a table, then as one JSON line. It needs what those tests need: the extras
``chain``, ``contracts`` and ``test``, and anvil.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

LINE = re.compile(r"^\.*(?P<what>[^:]+(?:: [a-z ]+)?): (?P<gas>[\d,]+) gas(?P<rest>.*)$")
PRICED = ("dispute", "vault", "vault_escape", "fraud_accounts", "fraud_deals", "fraud_claims")
BOUNDS = {"Dispute.answer": 100_000, "redeem_many": 35_000}
"""What the project promises of the calls that are made most."""


def main() -> int:
    """Run the tests that count gas; 1 if one of them fails."""
    root = Path(__file__).parent.parent
    files = [f"tests/contracts/test_{name}.py" for name in (*PRICED, "fraud_demands")]
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    found: dict[str, int] = {}
    for line in done.stdout.splitlines():
        if match := LINE.match(line):
            rest = match["rest"]
            what = match["what"] + (rest if rest.startswith((" a ", " at ")) else "")
            found[what] = int(match["gas"].replace(",", ""))
            print(f"{found[what]:>10,}  {what}")
            if floor := re.search(r"floor: ([\d,]+)", line):
                found[what + ", EIP-7623"] = int(floor[1].replace(",", ""))
                print(f"{found[what + ', EIP-7623']:>10,}  {what}, EIP-7623")
    over = {
        what: gas
        for what, gas in found.items()
        for name, most in BOUNDS.items()
        if what.startswith(name) and gas > most
    }
    print(json.dumps({"bench": "gas", "gas": found, "bounds": BOUNDS, "over": over}))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
