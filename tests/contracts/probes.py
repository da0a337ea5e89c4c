"""Small contracts of the tests' own: each gives every function of one library as a call."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.evm import DEPLOYER, SOURCES, Built, Contract, Evm, Reverted


@cache
def _build(name: str) -> Built:
    source = Path(__file__).with_name(f"{name}.vy")
    command = [sys.executable, "-m", "vyper.cli.vyper_compile", "-f", "abi,bytecode"]
    command += ["--evm-version", "cancun", "-p", str(SOURCES), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    abi, bytecode = done.stdout.splitlines()
    return Built(json.loads(abi), bytes.fromhex(bytecode.removeprefix("0x")))


def deploy_probe(evm: Evm, name: str) -> Contract:
    """The contract in ``name.vy`` beside this file, on ``evm``."""
    evm.fund(DEPLOYER)
    built, address = _build(name), evm.next_address()
    evm.send(None, built.bytecode, DEPLOYER)
    return Contract(evm, name, address, built.abi)


def reverts(contract: Contract, function: str, *args: Any) -> str:
    """The reason that a call is undone with; empty if it is not."""
    try:
        contract.call(function, *args)
    except Reverted as error:
        return error.reason
    return ""
