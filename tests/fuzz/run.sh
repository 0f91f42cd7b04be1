#!/usr/bin/env bash
# Builds the fuzz targets with Clang and runs each for SECONDS. Usage: run.sh SECONDS. What a target has learnt is kept in
# build/fuzz/corpus, inputs that it failed on in build/fuzz/crashes.
set -euo pipefail
cd "$(dirname "$0")/../.."
readonly seconds=${1:-60} build=build/fuzz

test -f "$build/build.ninja" || cmake --preset fuzz
ninja -C "$build" fuzz_checkpoint fuzz_tokenizer write_seeds
mkdir -p "$build/crashes"
"$build/bin/write_seeds" "$build/seeds"
for name in checkpoint tokenizer; do
  mkdir -p "$build/corpus/$name"
  echo "== fuzz_$name"
  "$build/bin/fuzz_$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
    -artifact_prefix="$build/crashes/$name-" "$build/corpus/$name" "$build/seeds/$name"
done
