"""`python -m bench_tests.server.slurm options PROFILE`: what sbatch is to be asked for (see job.py)."""

import sys

from bench_tests.server.slurm.job import main

sys.exit(main())
