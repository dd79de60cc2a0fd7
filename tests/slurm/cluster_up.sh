#!/usr/bin/env bash
# A real Slurm on this one machine for the tests: munged, slurmctld and one slurmd for each pretended node.
# Wants root and Debian or Ubuntu; neither systemd nor cgroups. Run again, it leaves a running cluster as it is.
# Its jobs find a stand-in for pyxis (pyxis/srun). cluster_down.sh takes it away. Prints the file to source, which points Slurm's commands at it.
#
#   CLUSTER_DIR   where everything lies (short: unix sockets are in it; root's own)   /tmp/bench-slurm
#   CLUSTER_PORT  slurmctld's port; the nodes have the next ones                       17817
#   CLUSTER_NODES, CLUSTER_GPUS, CLUSTER_CPUS, CLUSTER_MEM                             3 nodes of 8 GPUs, 64 cores, 300000 MiB
#   CLUSTER_PLUGSTACK  a line of plugstack.conf
#   CLUSTER_INSTALL    0: do not install Debian's packages, fail where they are missing
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
dir=${CLUSTER_DIR:-/tmp/bench-slurm}
hosts=${CLUSTER_HOSTS:-/etc/hosts}
port=${CLUSTER_PORT:-17817}
nodes=${CLUSTER_NODES:-3} gpus=${CLUSTER_GPUS:-8} cpus=${CLUSTER_CPUS:-64} mem=${CLUSTER_MEM:-300000}
export PATH=$PATH:/usr/sbin:/sbin SLURM_CONF=$dir/etc/slurm.conf
for name in ${!SLURM_JOB*} ${!SLURM_STEP*} ${!SBATCH_*}; do unset "$name"; done

fail() {
  echo "cluster_up: $*" >&2
  tail -qn 3 "$dir"/log/*.log >&2 2>/dev/null || true
  [ ! -d "$dir/run" ] || CLUSTER_DIR=$dir bash "$here/cluster_down.sh" || true
  exit 1
}
up() { timeout 5 scontrol ping 2>/dev/null | grep -q 'is UP'; }
idle() { timeout 5 sinfo -h -N -p main -t idle -o %N 2>/dev/null | sort -u | wc -l; }

[ "$(id -u)" = 0 ] || fail "needs root"
for program in slurmctld slurmd sbatch munged; do
  command -v "$program" >/dev/null && continue
  [ "${CLUSTER_INSTALL:-1}" = 1 ] || fail "$program is missing: apt-get install slurmctld slurmd slurm-client munge"
  # packages start their services on installation, unless a policy forbids it
  policy=/usr/sbin/policy-rc.d ours=
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy; chmod 755 $policy; ours=1; }
  export DEBIAN_FRONTEND=noninteractive
  wanted=(slurmctld slurmd slurm-client munge)
  apt-get install -yq --no-install-recommends "${wanted[@]}" >/dev/null 2>&1 || {
    apt-get update -q >/dev/null 2>&1 && apt-get install -yq --no-install-recommends "${wanted[@]}" >/dev/null 2>&1
  } || { [ -z "$ours" ] || rm -f $policy; fail "apt-get could not install ${wanted[*]}"; }
  [ -z "$ours" ] || rm -f $policy
  break
done

settings="$port $nodes $gpus $cpus $mem ${CLUSTER_PLUGSTACK:-} $here $(sha256sum "$0" | cut -c1-16)"
if [ "$(cat "$dir/settings" 2>/dev/null)" = "$settings" ] && up; then
  echo "$dir/env.sh"
  exit 0
fi
[ ! -d "$dir/run" ] || CLUSTER_DIR=$dir bash "$here/cluster_down.sh"

umask 022
mkdir -p "$dir"/{etc,dev,log,run,spool,state}
(umask 077 && head -c 1024 /dev/urandom >"$dir/etc/munge.key")
# pretended GPUs: character devices where mknod is allowed (they are /dev/null), else plain files
for ((i = 0; i < gpus; i++)); do
  [ -e "$dir/dev/gpu$i" ] || mknod -m 666 "$dir/dev/gpu$i" c 1 3 2>/dev/null || touch "$dir/dev/gpu$i"
done
track=linuxproc
# a cgroup also finds children that made themselves daemons; Debian 12's Slurm can use version 1 alone here
if mkdir "/sys/fs/cgroup/freezer/bench-probe.$$" 2>/dev/null; then
  rmdir "/sys/fs/cgroup/freezer/bench-probe.$$"
  track=cgroup
fi

{
  cat <<CONF
ClusterName=bench
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/run/munge.socket
CredType=cred/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/slurmd-%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd-%n.log
PlugStackConfig=$dir/etc/plugstack.conf
ProctrackType=proctrack/$track
TaskPlugin=task/none
TaskProlog=$dir/etc/task_prolog.sh
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
# short, for tests: production has KillWait=30
KillWait=5
MinJobAge=300
InactiveLimit=0
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2,sched_min_interval=0
CONF
  for ((i = 1; i <= nodes; i++)); do
    echo "NodeName=gpu$i NodeHostname=localhost NodeAddr=127.0.0.$((10 + i)) Port=$((port + i))" \
      "CPUs=$cpus RealMemory=$mem Gres=gpu:$gpus State=UNKNOWN"
  done
  echo "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefMemPerNode=1000 State=UP"
  echo "PartitionName=short Nodes=ALL MaxTime=1 DefMemPerNode=1000 State=UP"
} >"$SLURM_CONF"
echo "Name=gpu File=$dir/dev/gpu[0-$((gpus - 1))]" >"$dir/etc/gres.conf"
# jobs find this cluster, and the stand-in for pyxis, whatever environment they are given
# shellcheck disable=SC2016 # $PATH is the job's
printf '#!/bin/sh\necho "export SLURM_CONF=%s"\ncase $PATH in %s:*) ;; *) echo "export PATH=%s:${PATH:-/usr/local/bin:/usr/bin:/bin}" ;; esac\n' \
  "$SLURM_CONF" "$here/pyxis" "$here/pyxis" >"$dir/etc/task_prolog.sh"
chmod 755 "$dir/etc/task_prolog.sh"
echo "CgroupPlugin=cgroup/v1" >"$dir/etc/cgroup.conf"
echo "${CLUSTER_PLUGSTACK:-}" >"$dir/etc/plugstack.conf"
echo "export SLURM_CONF=$SLURM_CONF PATH=\$PATH:/usr/sbin" >"$dir/env.sh"
for ((i = 1; i <= nodes; i++)); do
  # a name that somebody else gave stays as it is; one of another test cluster goes with that cluster, so ours is added
  grep -v '# bench-slurm ' "$hosts" | grep -q "[[:space:]]gpu$i\([[:space:]]\|\$\)" ||
    echo "127.0.0.$((10 + i)) gpu$i # bench-slurm $dir" >>"$hosts"
done

munged --key-file="$dir/etc/munge.key" --socket="$dir/run/munge.socket" --pid-file="$dir/run/munged.pid" \
  --log-file="$dir/log/munged.log" --seed-file="$dir/run/munged.seed" || fail "munged does not start"
slurmctld -i || fail "slurmctld does not start"
for ((i = 1; i <= nodes; i++)); do
  mkdir -p "$dir/spool/gpu$i"
  # a host name for each node, where the kernel lets us have one
  if unshare -u true 2>/dev/null; then
    unshare -u sh -c "hostname gpu$i && exec slurmd -N gpu$i" || fail "slurmd gpu$i does not start"
  else
    slurmd -N "gpu$i" || fail "slurmd gpu$i does not start"
  fi
done
for ((try = 0; try < 150; try++)); do
  [ "$(idle)" != "$nodes" ] || break
  sleep 0.2
done
[ "$(idle)" = "$nodes" ] || fail "not all of the $nodes nodes became idle"
timeout 30 srun -N "$nodes" --gpus-per-node="$gpus" true >/dev/null 2>&1 || fail "a first srun over all nodes failed"
for ((try = 0; try < 50; try++)); do # and that one is over
  [ -n "$(timeout 5 squeue -h)" ] || break
  sleep 0.1
done
echo "$settings" >"$dir/settings"
echo "$dir/env.sh"
