#!/usr/bin/env bash
# Trains on Slurm, on any number of nodes, and goes on by itself when the time limit or a preemption ends a job:
#
#   sbatch --nodes=2 launch/slurm.sh --config=configs/b16.py --workdir=/shared/runs/b16 --config.input.train=...
#
# One process a node uses all of its GPUs. Two minutes before the time limit Slurm sends SIGUSR1; the run then finishes
# its step, saves and exits, and the job is queued again. The same command continues where it was.
#SBATCH --job-name=clippy
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=48
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail

taken_away=
srun --kill-on-bad-exit=1 python -m clippy_jax.main "$@" &
step=$!
trap 'taken_away=1; scancel --signal=USR1 "$SLURM_JOB_ID.0"' USR1
trap 'taken_away=1; scancel --signal=TERM "$SLURM_JOB_ID.0"' TERM

# A signal ends `wait`, not the step.
while kill -0 "$step" 2>/dev/null; do
  wait "$step"
  status=$?
done
if [ -n "$taken_away" ] && [ "$status" -eq 0 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
