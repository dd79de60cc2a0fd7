#!/usr/bin/env bash
# One guarded sweep of a live endpoint, for CI: measures, compares with the baseline if there is one, and measures once
# more what could not be measured. Ends with pytest's exit code. All three recipes run this.
#
#   BASE_URL=https://llm.example.com PROFILE=minimax_m2.1 docs/recipes/guard.sh [further pytest options]
#
# BASE_URL, PROFILE   the endpoint, and a profile's name or TOML file
# OPENAI_API_KEY      its key, from the CI's secrets
# RESULTS             folder of results (default: results)
# BASELINE            folder of kept runs, a folder each (default: baseline); missing: nothing is compared
# KEEP=true           keep this run as a further one of the baseline, if all passed
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${BENCH_PYTHON:-python3}
[ -n "${BENCH_PYTHON:-}" ] || [ ! -x .venv/bin/python ] || python=$PWD/.venv/bin/python
results=${RESULTS:-results} baseline=${BASELINE:-baseline}
kept=$(mktemp -d) # not in the baseline before all has passed
child=
trap 'rm -rf "$kept"' EXIT
trap '[ -z "$child" ] || kill -TERM "$child"' TERM INT # pytest ends in order; a shell alone would leave it behind

options=(--base-url="${BASE_URL:?guard.sh: set BASE_URL to the endpoint}")
options+=(--profile="${PROFILE:?guard.sh: set PROFILE to a name or a TOML file}")
options+=(--repeat=3 --results-dir="$results" --junitxml="$results/junit.xml" "$@")
[ ! -d "$baseline" ] || options+=(--baseline="$baseline")
[ "${KEEP:-}" != true ] || options+=(--save-baseline="$kept")

sweep() {
  "$python" -m pytest "$@" &
  child=$!
  while true; do # a signal ends `wait`, pytest ends later
    status=0
    wait "$child" || status=$?
    kill -0 "$child" 2>/dev/null || break
  done
}
sweep "${options[@]}"
if [ "$status" -eq 12 ]; then
  echo "guard.sh: something could not be measured; once more, with what was measured kept"
  sweep "${options[@]}" --resume
fi

case $status in
  0)
    echo "guard.sh: all passed"
    if [ "${KEEP:-}" = true ]; then
      run=$baseline/$(date -u +%Y%m%d-%H%M%S)
      mkdir -p "$run"
      cp -r "$kept/." "$run"
    fi
    ;;
  1) echo "guard.sh: slower than its objectives or the baseline" ;;
  2) echo "guard.sh: interrupted; finished points are in $results" ;;
  12) echo "guard.sh: not measured, twice, or a slowdown would not have been seen (docs/ci.md, how much to measure)" ;;
  13) echo "guard.sh: no server" ;;
  4) echo "guard.sh: wrong option, profile or file" ;;
  *) echo "guard.sh: pytest ended with $status" ;;
esac
exit "$status"
