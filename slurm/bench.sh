#!/usr/bin/env bash
# The client's job: waits for the server and runs a profile's sweep with pytest. No GPU.
#
#   sbatch slurm/bench.sh kimi_k2 -k isl4096                     arguments after the profile go to pytest
#   sbatch --dependency=after:$(sbatch --parsable slurm/serve.sh) slurm/bench.sh kimi_k2
#   sbatch --array=0-1 slurm/bench.sh kimi_k2,minimax_m2.1 --server slurm
#
#   sbatch --array=0-3 slurm/bench.sh which.toml --server slurm       a task each for the profile's four configurations
#
# Of several profiles with commas, each task of the array takes its own. With --server or --base-url among the arguments
# pytest finds the server itself; else it is the one of server_info.txt ($SERVER_INFO, or --server-info=PATH).
# When Slurm requeues the job it goes on with the points that it has not measured yet; before its time limit it ends in
# order. A job that is to go on where another one ended gets --resume from you.
#SBATCH --job-name=bench
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-bench-%j.log
set -euo pipefail

submitted=$(scontrol -o show job "${SLURM_JOB_ID:-0}" 2>/dev/null | sed -n 's/.* Command=\([^ ]*\).*/\1/p;q') || true
for root in "${BENCH_ROOT:-}" "${SLURM_SUBMIT_DIR:-}" "${SLURM_SUBMIT_DIR:-.}/.." "$(dirname "${submitted:-$0}")/.."; do
  [ ! -e "$root/bench_tests/server/serve.py" ] || break
done
[ -e "$root/bench_tests/server/serve.py" ] || { echo "bench.sh: set BENCH_ROOT to the repository's folder" >&2; exit 4; }
root=$(realpath "$root")
python=${BENCH_PYTHON:-python3}
[ -n "${BENCH_PYTHON:-}" ] || [ ! -x "$root/.venv/bin/python" ] || python=$root/.venv/bin/python

IFS=, read -ra profiles <<<"${1:?bench.sh: name a profile, such as kimi_k2}"
shift
task=${SLURM_ARRAY_TASK_ID:-0}
configs=()
if [ "${#profiles[@]}" -eq 1 ] && [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then # of one profile: its configurations
  mapfile -t configs < <(PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} "$python" -m bench_tests.server.slurm configs "${profiles[0]}")
fi
if [ "${#configs[@]}" -gt 0 ]; then
  [ "$task" -lt "${#configs[@]}" ] || {
    echo "bench.sh: ${#configs[@]} configurations (${configs[*]}) need sbatch --array=0-$((${#configs[@]} - 1))" >&2
    exit 4
  }
  set -- --config="${configs[$task]}" "$@"
  task=0
elif [ "${#profiles[@]}" -gt 1 ] && [ -z "${SLURM_ARRAY_TASK_ID:-}" ] || [ "$task" -ge "${#profiles[@]}" ]; then
  echo "bench.sh: ${#profiles[@]} profiles (${profiles[*]}) need sbatch --array=0-$((${#profiles[@]} - 1))" >&2
  exit 4
fi
profile=${profiles[$task]}
[ ! -f "$profile" ] || profile=$(realpath "$profile")
info=${SERVER_INFO:-$root/server_info.txt}
if [ "${#profiles[@]}" -gt 1 ]; then # servers side by side must not share a file
  label=$(basename "$profile" .toml)
  info=${info%.txt}.$label.txt
fi
named='' resume=''
for ((left = $#; left > 0; left--)); do
  argument=$1 && shift
  case $argument in
    --server | --server=* | --base-url | --base-url=*) named=1 ;;
    --resume) resume=1 ;;
    --server-info=*) info=${argument#*=} && continue ;; # passed on once, below
    --server-info)
      info=${1:?bench.sh: --server-info: expected a path after it}
      shift && left=$((left - 1))
      continue
      ;;
  esac
  set -- "$@" "$argument"
done
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] && [ -z "$resume" ]; then
  export BENCH_RESUME_JOB=${SLURM_JOB_ID:-} # what an earlier job has left in the results is not to be kept
  set -- --resume "$@"
fi

info=$(realpath -m "$info")
cd "$root" # pytest.ini is there

child='' told=''
pass_on() { told=1; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true; }
trap pass_on TERM INT
run() { # as a child that is waited for: a shell handles TERM only between commands or in `wait`
  local status=0
  [ -z "$told" ] || exit 143
  "$@" &
  child=$!
  [ -z "$told" ] || pass_on
  wait "$child" || status=$?
  while kill -0 "$child" 2>/dev/null; do # the first wait ended by the signal, the child has still to end
    status=0
    wait "$child" || status=$?
  done
  child=
  return "$status"
}

if [ -z "$named" ]; then
  run "$python" -m bench_tests.server.wait --server-info="$info"
  set -- --server=attach "$@"
fi
# with a blank, a path outside of the repository would be taken for one of tests
run "$python" -m pytest --profile="$profile" --server-info="$info" "$@"
