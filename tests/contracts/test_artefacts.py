"""What is shipped is what the sources give, and no contract is longer than a chain takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def test_shipped_contracts_and_golden_layouts_are_fresh(repository: Path) -> None:
    if not (repository / "contracts/node_modules/.bin/solcjs").exists():
        pytest.skip("needs solc: npm install --prefix contracts")
    command = [sys.executable, "contracts/build.py", "--check"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
