#!/usr/bin/env bash
# Builds the fuzz targets with Clang and runs each for SECONDS. Usage: run.sh [--keep] SECONDS [TARGET...]
#
# A target begins with the seeds, the inputs that are kept in tests/fuzz/corpus, and what it has learnt on this machine,
# which is in build/fuzz/corpus. Inputs that it failed on are left in build/fuzz/crashes. The table at the end is also in
# build/fuzz/report.md. With --keep, tests/fuzz/corpus is made anew from all of them: the smallest inputs that reach
# every edge, as far as there is room.
set -euo pipefail
# What is undefined fails, as what is out of bounds does.
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
cd "$(dirname "$0")/../.."
keep=false
if [[ ${1:-} == --keep ]]; then
  keep=true
  shift
fi
readonly keep seconds=${1:-60} build=build/fuzz kept=tests/fuzz/corpus
readonly report=$build/report.md
# Of the inputs that are kept of one target.
readonly most_kept_bytes=60000

targets=("${@:2}")
if ((${#targets[@]} == 0)); then
  for source in tests/fuzz/fuzz_*.cc; do
    name=${source##*/fuzz_}
    targets+=("${name%.cc}")
  done
fi

# Reads what a fuzzer writes and prints executions, edges, and the second in which the last new edge was seen.
follow() {
  local line edges=0 last=0 executions=0 begin=$SECONDS
  while IFS= read -r line; do
    printf '%s\n' "$line" >&3
    if [[ $line =~ cov:\ ([0-9]+) ]] && ((BASH_REMATCH[1] > edges)); then
      edges=${BASH_REMATCH[1]}
      last=$((SECONDS - begin))
    elif [[ $line =~ number_of_executed_units:\ *([0-9]+) ]]; then
      executions=${BASH_REMATCH[1]}
    fi
  done
  printf '%s %s %s\n' "$executions" "$edges" "$last"
}

run_target() {
  local name=$1 executions edges last processor result=passed
  local -a folders=("$build/corpus/$name" "$build/kept/$name" "$build/seeds/$name")
  mkdir -p "${folders[@]}"
  if [[ -f $kept/$name.tar.gz ]]; then tar -xzf "$kept/$name.tar.gz" -C "$build/kept/$name"; fi
  echo "== fuzz_$name"
  # Times are of the processor. A target that fails is named in the table, and the others run all the same.
  TIMEFORMAT='%U %S'
  {
    time {
      "$build/bin/fuzz_$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
        -artifact_prefix="$build/crashes/$name-" "${folders[@]}" 2>&1 || echo failed >"$build/failed"
    } | follow >"$build/numbers"
  } 2>"$build/times"
  read -r executions edges last <"$build/numbers"
  if [[ -f $build/failed ]]; then
    result=failed
    rm "$build/failed"
    failed=true
  fi
  processor=$(awk 'END { print int($1 + $2) }' "$build/times")
  printf '| %s | %s | %s | %s | %s | %s |\n' "$name" "$executions" "$edges" "$last" "$processor" "$result" >>"$report"
}

# Edges alone count here, since inputs that differ in how often they reach one would be thousands.
keep_inputs() {
  local name=$1 file size total=0
  local whole=$build/merged/$name chosen=$build/chosen/$name
  rm -rf "$whole" "$chosen"
  mkdir -p "$whole" "$chosen"
  "$build/bin/fuzz_$name" -merge=1 -use_counters=0 -max_len=65536 "$whole" "$build/kept/$name" "$build/seeds/$name" \
    "$build/corpus/$name" 2>"$build/merge.log"
  while read -r size file; do
    if ((total + size > most_kept_bytes)); then break; fi
    total=$((total + size))
    cp "$file" "$chosen"
  done < <(find "$whole" -type f -printf '%s %p\n' | sort -n)
  # The same inputs give the same bytes.
  find "$chosen" -type f -printf '%P\n' | LC_ALL=C sort |
    tar --format=ustar --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=0644 -C "$chosen" -cf - --files-from=- |
    gzip -n -9 >"$kept/$name.tar.gz"
}

exec 3>&2
test -f "$build/build.ninja" || cmake --preset fuzz
ninja -C "$build" fuzz_targets
mkdir -p "$build/crashes"
"$build/bin/write_seeds" "$build/seeds" docs/examples
failed=false
cat >"$report" <<END
| Target | Executions | Edges | Last new edge after (s) | Processor time (s) | Result |
|---|---:|---:|---:|---:|---|
END
for name in "${targets[@]}"; do run_target "$name"; done
if $keep; then
  for name in "${targets[@]}"; do keep_inputs "$name"; done
fi
cat "$report"
! $failed
