"""`python -m bench_tests.server.simulator`: the simulated server. The command's name, which scripts rely on, and nothing else."""

import sys

from bench_tests.sim.simulator import main

if __name__ == "__main__":
    sys.exit(main())
