"""`python -m bench_tests.server.wait`: wait until the server of server_info.txt answers, under the name that scripts rely on."""

import sys

from bench_tests.server.slurm.wait import main, wait_for_server

__all__ = ["main", "wait_for_server"]

if __name__ == "__main__":
    sys.exit(main())
