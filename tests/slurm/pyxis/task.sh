#!/usr/bin/env bash
# What pyxis and enroot, with their default settings, make of a step's command on its node: a container of its own mount
# namespace whose root, home included, is read-only; /tmp is its own; of the host only what is mounted is there.
#   task.sh IMAGE [--container-...]... -- COMMAND...
set -euo pipefail
if [ "${1:-}" != --inside ]; then
  exec unshare --mount --propagation private bash "$0" --inside "$@"
fi
shift
image=$1 && shift
mounts='' names='' writable='' entrypoint='' name=''
while [ "$1" != -- ]; do
  case $1 in
    --container-mounts=*) mounts=${1#*=} ;;
    --container-env=*) names=,${1#*=}, ;;
    --container-writable) writable=1 ;;
    --container-entrypoint) entrypoint=1 ;;
    --no-container-entrypoint) entrypoint='' ;;
    --container-name=*) name=${1#*=} ;;
  esac
  shift
done
shift

refuse() {
  printf 'slurmstepd: error: pyxis: %s\n' "$@" >&2
  echo "slurmstepd: error: pyxis: couldn't start container" >&2
  for ((i = 0; i < 22; i++)); do echo "slurmstepd: error: pyxis: if the image has an unusual entrypoint, try $i" >&2; done
  exit 1
}
if [ ! -d "$image" ]; then
  echo "pyxis: importing docker image: $image" >&2
  refuse 'child 4711 failed with error code: 1' 'failed to import docker image' 'printing enroot log file:' \
    '    [INFO] Querying registry for permission grant' "    [ERROR] URL https://registry/$image returned error code: 404 Not Found"
fi
if [ -n "$name" ]; then # a container of that name is used as it is, and stays
  kept=$(dirname "$image")/named-$name
  [ -d "$kept" ] || cp -r "$image" "$kept"
  image=$kept
fi

root=$image/rootfs
mkdir -p "$root"
mount -t tmpfs tmpfs "$root"
bind() { # SOURCE TARGET ro|rw
  if [ -d "$1" ]; then mkdir -p "$root$2"; else mkdir -p "$(dirname "$root$2")" && touch "$root$2"; fi
  mount --bind "$1" "$root$2"
  [ "$3" = rw ] || mount -o remount,bind,ro "$root$2"
}
mkdir -p "$root"/{root,tmp,proc,dev,sys}
mount -t tmpfs tmpfs "$root/tmp"
for path in /usr /etc /bin /sbin /lib /lib64; do
  if [ -L "$path" ]; then cp -P "$path" "$root$path"; elif [ -e "$path" ]; then bind "$path" "$path" ro; fi
done
while read -r path; do bind "$path" "$path" ro; done <"$image/content"
for path in /proc /dev /sys; do mount --rbind "$path" "$root$path"; done
IFS=, read -ra wanted <<<"$mounts"
for mount in "${wanted[@]}"; do
  source=${mount%%:*}
  [ -e "$source" ] || refuse "container start failed with error code: 1" 'printing enroot log file:' \
    "    enroot-mount: failed to mount: $source at $root/${mount#*:}: No such file or directory"
  bind "$source" "${mount#*:}" rw
done
[ -z "$entrypoint" ] || bind "$image/entrypoint" "$image/entrypoint" ro
[ -n "$writable" ] || mount -o remount,ro "$root"

while IFS='=' read -r key value; do # the image's own wins, but where srun was told the name
  [ -z "$key" ] || [[ $names == *",$key,"* && -n ${!key+set} ]] || export "$key=$value"
done < <(cat "$image/environment" 2>/dev/null)
[ -z "$entrypoint" ] || set -- "$image/entrypoint" "$@"
# a login shell makes the container, and sets PATH anew
exec /usr/sbin/chroot "$root" /usr/bin/env --chdir=/ HOME=/root \
  PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
