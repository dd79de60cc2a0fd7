"""`python -m bench_tests.server.simulator`: the simulated server, under the name that scripts rely on."""

import sys

from bench_tests.sim.simulator import SimSpec, Simulator, main

__all__ = ["SimSpec", "Simulator", "main"]

if __name__ == "__main__":
    sys.exit(main())
