#!/usr/bin/env bash
# A Ray cluster inside one SLURM allocation, and one distillation on it:
#
#     sbatch --export=ALL,RECIPE=recipe.yaml,OUT=$SCRATCH/runs/million slurm.sh
#
# The environment of `pip install 'tapir-distill[local,ray,s3,vllm]'` must be active, and OUT on a disk that all nodes
# see. A job that is cut off by its time limit is submitted again: `tapir run` goes on where it stopped. A student that one
# GPU cannot train is sharded over all of them by the recipe's `train.accelerate_config: fsdp`. A step holds `train.batch`
# examples whatever the number of GPUs: four a GPU here, which wants a higher `train.learning_rate` than the paper's 32.
#SBATCH --job-name=tapir
#SBATCH --nodes=8
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail
: "${RECIPE:?give RECIPE=recipe.yaml}" "${OUT:?give OUT=a folder on a shared disk}"
export RAY_USAGE_STATS_ENABLED=0 TOKENIZERS_PARALLELISM=false
# Where models are fetched to, before the job (`tapir models pull`) or by it: every node must see it.
export TAPIR_HOME="${TAPIR_HOME:-$(dirname "$OUT")/tapir}" HF_HOME="${HF_HOME:-$(dirname "$OUT")/huggingface}"

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
ip=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 10000))  # jobs that share a node must not share a port

srun --nodes=1 --ntasks=1 -w "$head" \
    ray start --head --node-ip-address="$ip" --port="$port" --block --disable-usage-stats &
until ray status --address="$ip:$port" >/dev/null 2>&1; do sleep 2; done
if ((SLURM_NNODES > 1)); then
    srun --nodes=$((SLURM_NNODES - 1)) --ntasks=$((SLURM_NNODES - 1)) --exclude="$head" \
        ray start --address="$ip:$port" --block &
fi
gpus=$((SLURM_NNODES * 8))
until ray status --address="$ip:$port" | grep -q "/$gpus.0 GPU"; do sleep 2; done

# The batch script runs on the first node, so the ledger lies there and teacher calls leave from there.
tapir run "$RECIPE" --out "$OUT" --trust \
    --set executor=ray --set "ray.address=$ip:$port" --set ray.gpus=1 \
    --set train.launcher=ray --set "ray.training_workers=$gpus" --set "train.batch=$((4 * gpus))"
