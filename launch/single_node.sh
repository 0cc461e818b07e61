#!/usr/bin/env bash
# Trains on one machine, on all of its GPUs, and goes on by itself when the process is killed (out of memory, a driver):
#
#   bash launch/single_node.sh --config=configs/b16.py --workdir=runs/b16 --config.input.train=...
#
# Ctrl+C or SIGTERM finishes the step, saves and ends; the same command continues where it was. A run that ends with an
# error of its own (a wrong flag, a loss that is not finite) is not started again.
set -uo pipefail
set -m # a process group for the run: else Ctrl+C reaches it beside what `trap` sends, and a second signal ends at once

export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}" # memory in large pages, see docs/speed.md
attempts="${ATTEMPTS:-10}"

taken_away=
run=
trap 'taken_away=1; [ -n "$run" ] && kill -TERM "$run"' TERM INT HUP
for ((attempt = 1; attempt <= attempts; attempt++)); do
  python -m clippy_jax.main "$@" &
  run=$!
  # A signal ends `wait`, not the run.
  while :; do
    wait "$run"
    status=$?
    kill -0 "$run" 2>/dev/null || break
  done
  if [ "$status" -lt 128 ] || [ -n "$taken_away" ]; then
    exit "$status"
  fi
  echo "the run was killed by signal $((status - 128)); attempt $attempt of $attempts" >&2
  sleep "${PAUSE_SECONDS:-10}"
done
exit "$status"
