#!/usr/bin/env bash
# Trains on all workers of a TPU pod slice, which find each other by themselves:
#
#   TPU=clippy ZONE=us-central2-b bash launch/tpu_pod.sh --config=configs/b16.py --workdir=gs://BUCKET/runs/b16 \
#       --config.input.train='gs://BUCKET/cc12m/{00000..01242}.tar' --config.model.precision=bfloat16
#
# The workers need this repository in ~/clippy_jax and its packages; the first time, send both:
#
#   gcloud compute tpus tpu-vm scp --recurse . "$TPU":clippy_jax --zone="$ZONE" --worker=all
#   gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all \
#       --command='cd clippy_jax && pip install -r requirements.txt && pip install ".[tpu]"'
#
# A slice that is taken away gets SIGTERM: the run finishes its step and saves. The same command continues it.
set -euo pipefail
: "${TPU:?name the slice: TPU=NAME}" "${ZONE:?name its zone: ZONE=us-central2-b}"

exec gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all \
  --command="cd clippy_jax && python3 -m clippy_jax.main $(printf '%q ' "$@")"
