#!/usr/bin/env bash
# Train on every GPU of this machine, without a scheduler: torchrun.sh [options of medcyclegan train]
# PROCESSES sets the number of processes (one a GPU); on a machine without GPUs set it yourself.
set -euo pipefail
exec torchrun --standalone --nproc-per-node "${PROCESSES:-gpu}" -m medcyclegan train "$@"
