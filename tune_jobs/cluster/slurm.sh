#!/usr/bin/env bash
# SLURM: one Ray node on each node of the job; the study runs in the batch script, on the first of them.
#
# Edit     the #SBATCH lines, and the environment below, if it is not active where you call sbatch.
# Needs    a file system that all nodes share, with the environment, the data and the study's folder on it.
# Run      python -m tune_jobs submit slurm.sh -- --dataset digits --out /shared/anneal-digits
# Two minutes before its time is over, the study is told to stop, everything finished is stored, and the job is put
# back into the queue, where it goes on; without requeueing (#SBATCH --no-requeue) submit the same command again.

#SBATCH --job-name=edgenes
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
##SBATCH --gpus-per-task=1
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
##SBATCH --partition=...
##SBATCH --account=...

# source /shared/venv/bin/activate

set -euo pipefail

# Other users reach this job's ports: only who has the token may use them.
export RAY_AUTH_MODE=token
(umask 077 && ray get-auth-token --generate > /dev/null)

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((20000 + SLURM_JOB_ID % 20000)) # several jobs may share a node
cpus=${SLURM_CPUS_PER_TASK:-1}
options=(--num-cpus="$cpus" --temp-dir="/tmp/ray-$(id -u)-$SLURM_JOB_ID" --disable-usage-stats --block)
study="" stopping=""

on_node() { # NODE COMMAND...: a step of the job, which SLURM ends with this script
    srun --nodes=1 --ntasks=1 --cpus-per-task="$cpus" --nodelist="$1" "${@:2}"
}

# shellcheck disable=SC2317 # the trap calls it
stop() {
    stopping=yes
    if [ -n "$study" ]; then kill -TERM "$study" 2> /dev/null || true; fi
}
trap stop TERM

ip=$(on_node "${nodes[0]}" hostname -I | awk '{print $1}')
address=$ip:$port
on_node "${nodes[0]}" ray start --head --node-ip-address="$ip" --port="$port" --include-dashboard=false "${options[@]}" &
for _ in {1..60}; do # a worker gives up if the head is not there
    if [ -n "$stopping" ] || ray health-check --address "$address" &> /dev/null; then break; fi
    sleep 1
done
for node in "${nodes[@]:1}"; do
    on_node "$node" ray start --address="$address" "${options[@]}" &
done

status=143 # stopped before it began
if [ -z "$stopping" ]; then
    python -m studies.anneal_sweep --address "$address" --wait-for-nodes "${#nodes[@]}" "$@" &
    study=$!
    status=0
    wait "$study" || status=$?
    if [ -n "$stopping" ]; then # the signal ended the first wait, not the study
        status=0
        wait "$study" || status=$?
    fi
fi

if [ -n "$stopping" ] && ((status)); then
    scontrol requeue "$SLURM_JOB_ID" || echo "not requeued: submit the same command again to go on" >&2
fi
exit "$status"
