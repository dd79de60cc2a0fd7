#!/usr/bin/env bash
# The server's job: serves a profile's model and publishes server_info.txt when it is ready.
#
#   sbatch slurm/serve.sh                                                       Kimi K2, as asked for below
#   sbatch $(python3 -m bench_tests.server.slurm options minimax_m2.1) slurm/serve.sh minimax_m2.1
#
# Further arguments go to `python3 -m bench_tests.server.serve` (--server-info PATH, --no-container, --help).
# Set $WEIGHTS_DIR first: the folder that holds the weights, a Hugging Face cache. Of CPUs it asks for four a GPU: an engine
# keeps a process busy for each GPU, its threads beside it, its API server and its loop, and with fewer the figures are
# the CPUs'. A cluster with --gres, an account, a partition: docs/slurm.md.
#SBATCH --job-name=serve-kimi_k2
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --mem=256G
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@60
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-serve-%j.log
set -euo pipefail

# Slurm runs a copy of this file, so its own place says nothing
submitted=$(scontrol -o show job "${SLURM_JOB_ID:-0}" 2>/dev/null | sed -n 's/.* Command=\([^ ]*\).*/\1/p;q') || true
for root in "${BENCH_ROOT:-}" "${SLURM_SUBMIT_DIR:-}" "${SLURM_SUBMIT_DIR:-.}/.." "$(dirname "${submitted:-$0}")/.." \
  "$(dirname "${submitted:-$0}")/../../.."; do # the last: an installed package's
  [ ! -e "$root/bench_tests/server/serve.py" ] || break
done
[ -e "$root/bench_tests/server/serve.py" ] || { echo "serve.sh: set BENCH_ROOT to the repository's folder" >&2; exit 4; }
root=$(realpath "$root")
python=${BENCH_PYTHON:-python3}
[ -n "${BENCH_PYTHON:-}" ] || [ ! -x "$root/.venv/bin/python" ] || python=$root/.venv/bin/python

profile=kimi_k2
case ${1:-} in '' | -*) ;; *) profile=$1 && shift ;; esac
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
# exec: TERM then reaches the program that passes it on, and not a shell that waits
exec "$python" -m bench_tests.server.serve --profile "$profile" "$@"
