"""`python -m plotting`: pictures and the report from a folder of results."""

from __future__ import annotations

import sys

from plotting.cli import main

if __name__ == "__main__":
    sys.exit(main())
