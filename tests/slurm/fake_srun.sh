#!/usr/bin/env bash
# srun of a cluster with pyxis, as far as this one goes: notes the container's options and leaves them out.
set -euo pipefail
rest=()
while [ $# -gt 0 ]; do
  case $1 in
    --container-* | --no-container-*) echo "$1" >>"$PYXIS_NOTES" ;;
    --) break ;;
    *) rest+=("$1") ;;
  esac
  shift
done
shift
exec "$REAL_SRUN" "${rest[@]}" "$@"
