"""dsn/v1 is what protos/ generates, byte for byte."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_committed_code_is_what_the_protos_generate(repository: Path, tmp_path: Path) -> None:
    protos = sorted((repository / "protos/dsn/v1").glob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{repository / 'protos'}"]
    outputs = [f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    subprocess.run([*command, *outputs, *map(str, protos)], check=True)
    fresh = {p.name: p.read_text("utf-8") for p in (tmp_path / "dsn/v1").glob("*_pb2.py*")}
    committed = {p.name: p.read_text("utf-8") for p in (repository / "dsn/v1").glob("*_pb2.py*")}
    assert committed == fresh, "run `make protos`"
