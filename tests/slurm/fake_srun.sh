#!/usr/bin/env bash
# srun of a cluster with pyxis, as far as this one goes: notes the container's options and leaves them out. A mount whose
# source is missing is refused, as enroot does.
set -euo pipefail
rest=()
while [ $# -gt 0 ]; do
  case $1 in
    --container-* | --no-container-*) echo "$1" >>"$PYXIS_NOTES" ;;&
    --container-mounts=*)
      IFS=, read -ra mounts <<<"${1#*=}"
      for mount in "${mounts[@]}"; do
        [ -e "${mount%%:*}" ] || { echo "enroot-mount: failed to mount: ${mount%%:*}: No such file or directory" >&2; exit 1; }
      done
      ;;
    --container-* | --no-container-*) ;;
    --) break ;;
    *) rest+=("$1") ;;
  esac
  shift
done
shift
exec "$REAL_SRUN" "${rest[@]}" "$@"
