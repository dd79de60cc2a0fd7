#!/usr/bin/env bash
# A live endpoint, each night, from a node of a cluster, against a kept baseline.
#
# With Slurm's own cron, `scrontab -e`:
#   #SCRON --time=03:00:00 --cpus-per-task=4 --mem=16G --output=llm-serving-%j.log --mail-type=FAIL
#   17 3 * * * /shared/me/bench-tests/docs/recipes/slurm-cron.sh
# With an ordinary crontab on a login node:
#   17 3 * * * cd /shared/me/bench-tests && sbatch docs/recipes/slurm-cron.sh
# A run that is to be kept:  KEEP=true sbatch docs/recipes/slurm-cron.sh
#
# LLM_SETTINGS (default: ~/.config/llm-serving) holds what is yours, mode 0600 because of the key:
#   BASE_URL=https://llm.example.com
#   PROFILE=minimax_m2.1
#   OPENAI_API_KEY=...
#   BENCH_ROOT=/shared/me/bench-tests
#SBATCH --job-name=llm-serving
#SBATCH --time=03:00:00
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --signal=B:TERM@120
#SBATCH --output=llm-serving-%j.log
#SBATCH --mail-type=FAIL
set -euo pipefail

settings=${LLM_SETTINGS:-$HOME/.config/llm-serving}
case $(stat -c %a "$settings") in
  ?00) ;;
  *)
    echo "slurm-cron.sh: $settings holds a key and others may read it; chmod 600 it" >&2
    exit 4
    ;;
esac
set -a
# shellcheck disable=SC1090
. "$settings"
set +a

BASELINE=${BASELINE:-$BENCH_ROOT/baseline}
RESULTS=${RESULTS:-$BENCH_ROOT/results/nightly/$(date -u +%Y%m%d-%H%M%S)}
export BASELINE RESULTS
# exec: TERM before the time limit then reaches the script that waits for pytest
exec "$BENCH_ROOT/docs/recipes/guard.sh" "$@"
