#!/usr/bin/env bash
# Train on every GPU of this machine, without a scheduler: torchrun.sh [options of medcyclegan train]
# PROCESSES sets the number of processes (default: one per GPU); on a machine without GPUs it is required.
set -euo pipefail
exec torchrun --standalone --nproc-per-node "${PROCESSES:-gpu}" -m medcyclegan train "$@"
