"""Compile the contracts: what the package ships, and what must not change unseen.

``dsn/rpc/contracts/NAME.json`` has ABI and bytecode, so that users need no compiler;
``contracts/golden/NAME.json`` the storage layout and the size of the code. Run with ``--check``
it writes nothing and ends with 1 if a file is not what the sources give.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from vyper.compiler import compile_from_file_input
from vyper.compiler.input_bundle import FilesystemInputBundle
from vyper.compiler.phases import CompilerData

HERE = Path(__file__).parent
SHIPPED = HERE.parent / "dsn" / "rpc" / "contracts"
GOLDEN = HERE / "golden"
MOST_CODE_BYTES = 24_576
"""What a contract's code may have on any chain that follows EIP-170."""


def names() -> list[str]:
    """Every contract there is."""
    return sorted(path.stem for kind in ("*.vy", "*.sol") for path in HERE.glob(kind))


def compiled(name: str) -> dict[Path, dict[str, Any]]:
    """What each file about the contract ``name`` has to say."""
    out = _vyper(name) if (HERE / f"{name}.vy").exists() else _solidity(name)
    code_bytes = len(out["bytecode_runtime"]) // 2 - 1 + out["immutable_bytes"]
    if code_bytes > MOST_CODE_BYTES:
        raise SystemExit(f"{name}: {code_bytes} bytes of code, at most {MOST_CODE_BYTES} allowed")
    return {
        SHIPPED / f"{name}.json": {"abi": out["abi"], "bytecode": out["bytecode"]},
        GOLDEN / f"{name}.json": {"code_bytes": code_bytes, "layout": out["layout"]},
    }


def _vyper(name: str) -> dict[str, Any]:
    bundle = FilesystemInputBundle([HERE])
    wanted = ["abi", "bytecode", "bytecode_runtime", "layout"]
    source = bundle.load_file(f"{name}.vy")
    out = compile_from_file_input(source, input_bundle=bundle, output_formats=wanted)
    fixed = CompilerData(source, input_bundle=bundle).global_ctx.immutable_section_bytes
    return out | {"immutable_bytes": fixed}


def _solidity(name: str) -> dict[str, Any]:
    """The one contract that is a library's: an ERC-20 for tests and local networks."""
    solc = HERE / "node_modules" / ".bin" / "solcjs"
    if not solc.exists():
        raise SystemExit("needs solc: npm install --prefix contracts")
    wanted = ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "storageLayout"]
    task = {
        "language": "Solidity",
        "sources": {f"{name}.sol": {"content": (HERE / f"{name}.sol").read_text()}},
        "settings": {
            "evmVersion": "cancun",
            "optimizer": {"enabled": True},
            "metadata": {"bytecodeHash": "none"},
            "outputSelection": {f"{name}.sol": {name: wanted}},
        },
    }
    command = [solc, "--standard-json", "--base-path", ".", "--include-path", "node_modules"]
    done = subprocess.run(
        command, input=json.dumps(task), capture_output=True, text=True, check=True, cwd=HERE
    )
    out = json.loads(done.stdout[done.stdout.index("{") :])
    if faults := [each for each in out.get("errors", []) if each["severity"] == "error"]:
        raise SystemExit(faults[0]["formattedMessage"])
    contract = out["contracts"][f"{name}.sol"][name]
    slots = [
        {key: each[key] for key in ("label", "slot", "type")}
        for each in contract["storageLayout"]["storage"]
    ]
    return {
        "abi": contract["abi"],
        "bytecode": "0x" + contract["evm"]["bytecode"]["object"],
        "bytecode_runtime": "0x" + contract["evm"]["deployedBytecode"]["object"],
        "layout": {"storage_layout": slots},
        "immutable_bytes": 0,
    }


def text(content: dict[str, Any]) -> str:
    """As it stands in a file."""
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def main(check: bool, chosen: list[str]) -> int:
    """Write the files of the ``chosen`` contracts, or all; or ``check`` them."""
    stale = []
    for name in chosen or names():
        for path, content in compiled(name).items():
            if check:
                if not path.exists() or path.read_text() != text(content):
                    stale.append(path.name)
                continue
            path.parent.mkdir(exist_ok=True)
            path.write_text(text(content))
            if path.parent == GOLDEN:
                print(f"{name}: {content['code_bytes']} bytes of code")
    if stale:
        print(f"not what the sources give: {', '.join(stale)}; run make contracts")
    return bool(stale)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(main("--check" in arguments, [each for each in arguments if each != "--check"]))
