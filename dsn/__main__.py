"""``python -m dsn`` is ``dsn``."""

from __future__ import annotations

import sys

from dsn.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
