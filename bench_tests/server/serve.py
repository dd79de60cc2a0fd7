"""`python -m bench_tests.server.serve`: what runs inside a server's job. The command's name, which scripts rely on, and nothing else."""

import sys

from bench_tests.server.slurm.serve import main

if __name__ == "__main__":
    sys.exit(main())
