"""`python -m bench_tests.server.wait`: wait until the server of server_info.txt answers. The command's name, which scripts rely on, and nothing else."""

import sys

from bench_tests.server.slurm.wait import main

if __name__ == "__main__":
    sys.exit(main())
