"""How long the command line takes to answer; one JSON line, beside a bare interpreter's start."""

from __future__ import annotations

import json
import subprocess
import sys
import time

ROUNDS = 7
COMMANDS = {
    "interpreter": ["-c", "pass"],
    "help": ["-m", "dsn", "--help"],
    "put_help": ["-m", "dsn", "put", "--help"],
    "mistyped": ["-m", "dsn", "pt"],
}


def best_seconds(arguments: list[str]) -> float:
    """The quickest of ``ROUNDS`` runs: what the machine can do when nothing else disturbs it."""
    return min(one_run(arguments) for _ in range(ROUNDS))


def one_run(arguments: list[str]) -> float:
    began_s = time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
    return time.perf_counter() - began_s


def main() -> None:
    seconds = {name: round(best_seconds(arguments), 3) for name, arguments in COMMANDS.items()}
    ratio = round(seconds["help"] / seconds["interpreter"], 1)
    print(json.dumps({"bench": "start", "seconds": seconds, "help_over_interpreter": ratio}))


if __name__ == "__main__":
    main()
