#!/usr/bin/env bash
# All speed and memory benchmarks, one after the other; `make bench` calls it. Prints what docs/benchmarks.md
# records. ESPALIER_CIFAR10 names a folder with data_batch_1.bin … data_batch_5.bin; without it the epochs run on
# synthetic images of the same size.
set -euo pipefail
cd "$(dirname "$0")/../.."
readonly bin=build/release/bin
data=()
[[ -n ${ESPALIER_CIFAR10:-} ]] && data=(--data "$ESPALIER_CIFAR10")

lscpu | sed -nE 's/^(Model name|CPU\(s\)|L2 cache): */\1: /p'
echo
echo "== one epoch, 3072-1024-1024-10, batch 100, one thread"
OMP_NUM_THREADS=1 /usr/bin/python3 tests/bench/epoch/pytorch_epoch.py --epochs 2 "${data[@]}"
for density in 1 0.1 0.05 0.01; do
  "$bin/espalier-bench-epoch" --arch 3072-1024-1024-10 --density "$density" --batch 100 --threads 1 \
    --epochs 3 "${data[@]}"
done
echo
echo "== worker memory, SET on 3072-4000-1000-4000-10, epsilon 20"
"$bin/espalier-bench-epoch" --arch 3072-4000-1000-4000-10 --epsilon 20 --batch 100 --threads 1 \
  --epochs 1 "${data[@]}"
echo
echo "== one epoch of ResNet-20 (2,000 synthetic images), batch 64, one thread"
OMP_NUM_THREADS=1 /usr/bin/python3 tests/bench/epoch/pytorch_epoch.py --model resnet20 --batch 64 \
  --examples 2000 --epochs 3
for density in 1 0.05; do
  "$bin/espalier-bench-epoch" --model resnet20 --density "$density" --batch 64 --threads 1 \
    --examples 2000 --epochs 3
done
echo
echo "== memory of ResNet-18 by density, batch 16"
for density in 1 0.05 0.01 0.001; do
  "$bin/espalier-bench-epoch" --model resnet18 --density "$density" --distribution erk --batch 16 \
    --threads 1 --examples 64 --epochs 1
done
echo
echo "== structures on the wire"
"$bin/espalier-bench-encoding"
echo
echo "== rounds without training"
tests/bench/rounds/run.py
echo
echo "== kernels"
"$bin/espalier-bench-kernels"
echo
echo "== sparse convolutions"
"$bin/espalier-bench-conv"
