#!/bin/bash
# Several machines under Slurm: one launcher a machine, which starts one process a GPU.
#
#   sbatch slurm.sh train duet-r2r --out /shared/runs/duet
#   CONFIG=/path/to/fsdp2-7b-8-gpus.yaml sbatch --nodes 4 slurm.sh sft vlm-7b --out /shared/runs/vlm
#
# --out and --data must be folders that all machines see. CONFIG: a file for accelerate launch (see
# docs/scale.md); numbers of machines and processes are those that Slurm grants. A run that is
# stopped, cancelled or put back in the queue goes on with the same command.
#SBATCH --job-name=sterna
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=sterna-%j.log
set -euo pipefail

GPUS=${SLURM_GPUS_ON_NODE:-1}
CONFIG=${CONFIG:-$(python -c "from sterna.recipes.launch import launch_file as f; print(f('ddp-8-gpus'))")}
MAIN=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
PORT=${PORT:-$((20000 + SLURM_JOB_ID % 20000))}
# One process a GPU leaves each of them this many cores.
export OMP_NUM_THREADS=$((${SLURM_CPUS_PER_TASK:-$GPUS} / GPUS))

# --kill-on-bad-exit: what ends one machine ends the job, in seconds instead of at its time limit.
# SLURM_NODEID is another on every machine, so it is read there.
exec srun --kill-on-bad-exit=1 bash -c '
    exec accelerate launch --config_file "$0" \
        --num_machines "$SLURM_NNODES" --machine_rank "$SLURM_NODEID" \
        --num_processes "$1" --main_process_ip "$2" --main_process_port "$3" \
        -m sterna.cli "${@:4}"
' "$CONFIG" $((SLURM_NNODES * GPUS)) "$MAIN" "$PORT" "$@"
