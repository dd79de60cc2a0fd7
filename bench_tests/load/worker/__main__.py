"""`python -m bench_tests.load.worker`: a load process (see main.py)."""

import sys

from bench_tests.load.worker.main import main

sys.exit(main())
