#!/usr/bin/env bash
# Takes away what cluster_up.sh made, and only that: its daemons by their pid files, its names in /etc/hosts, its folder.
set -uo pipefail
dir=${CLUSTER_DIR:-/tmp/bench-slurm}
hosts=${CLUSTER_HOSTS:-/etc/hosts}
export PATH=$PATH:/usr/sbin SLURM_CONF=$dir/etc/slurm.conf
[ -f "$SLURM_CONF" ] || exit 0
status=0

# jobs first: nothing may outlive the daemons that watch it
if timeout 5 scontrol ping 2>/dev/null | grep -q 'is UP'; then
  timeout 10 squeue -h -o %A 2>/dev/null | xargs -r timeout 20 scancel 2>/dev/null
  for ((try = 0; try < 100; try++)); do
    [ -n "$(timeout 5 squeue -h 2>/dev/null)" ] || break
    sleep 0.2
  done
fi

stop() { # PID_FILE PROGRAM: a number that another program has by now is left alone
  local pid
  pid=$(tr -dc 0-9 <"$1" 2>/dev/null)
  if [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ]; then
    kill "$pid" 2>/dev/null
    for ((try = 0; try < 75; try++)); do
      [ -d "/proc/$pid" ] || return 0
      sleep 0.2
    done
    kill -9 "$pid" && return 1
  fi
}
stopping=()
for file in "$dir"/run/slurmd-*.pid; do
  [ -e "$file" ] || continue
  stop "$file" slurmd & stopping+=($!)
done
for job in "${stopping[@]}"; do wait "$job" || status=1; done
stop "$dir/run/slurmctld.pid" slurmctld || status=1
stop "$dir/run/munged.pid" munged || status=1

for group in /sys/fs/cgroup/*/slurm_gpu*; do
  [ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null
done
tag="# bench-slurm $dir"
if grep -qF -- "$tag" "$hosts"; then # in place: in a container /etc/hosts is a mount
  rest=$(awk -v tag="$tag" 'substr($0, length($0) - length(tag) + 1) != tag' "$hosts") && printf '%s\n' "$rest" >"$hosts"
fi
rm -rf "${dir:?}"
exit $status
