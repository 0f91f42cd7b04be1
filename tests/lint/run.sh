#!/usr/bin/env bash
# All static checks, the quick ones first. Usage: tests/lint/run.sh BUILD_DIR (configured, need not be built).
set -euo pipefail
cd "$(dirname "$0")/../.."
readonly build_dir=${1:-build/release}

failed=()

# step NAME COMMAND...: runs one check, prints its output only when it fails.
step() {
  local name=$1 log status=0
  shift
  log=$(mktemp)
  "$@" >"$log" 2>&1 || status=$?
  if ((status == 0)); then
    printf 'lint: %-12s ok\n' "$name"
  else
    printf 'lint: %-12s FAILED\n' "$name"
    cat "$log"
    failed+=("$name")
  fi
  rm -f "$log"
}

check_format() {
  if ! command -v clang-format-14 >/dev/null; then
    echo "clang-format-14 is missing. Other versions format differently; on Debian 12 'make deps' installs it."
    return 1
  fi
  local faults
  faults=$(tests/lint/files.py .h .cc | xargs -r clang-format-14 --dry-run -Werror 2>&1 |
    sed -nE 's/^([^:]+:[0-9]+):.*error:.*/\1: is not formatted/p') || true
  if [[ -n $faults ]]; then
    printf "%s\nRun 'make format'.\n" "$faults"
    return 1
  fi
}

check_python() {
  tests/lint/files.py .py | python3 -c '
import sys
for path in sys.stdin.read().split():
    compile(open(path, encoding="utf-8").read(), path, "exec")'
}

shell_scripts() {
  tests/lint/files.py .sh
  tests/lint/files.py | while read -r path; do
    if [[ ${path##*/} != *.* || $path == .ci/* ]] && head -n 1 "$path" | grep -aqE '^#!.*\bsh$|^#!.*\bbash$'; then
      printf '%s\n' "$path"
    fi
  done
}

check_shell() {
  local path
  shell_scripts | while read -r path; do bash -n "$path"; done
  if command -v shellcheck >/dev/null; then
    shell_scripts | xargs -r shellcheck --external-sources
  fi
}

check_layering() {
  python3 tests/lint/layering_selftest.py
  python3 tests/lint/layering_test.py
}

step format check_format
step layering check_layering
step protocol python3 tests/lint/proto_test.py --self-test
step "main files" python3 tests/lint/main_file_test.py --self-test
step python check_python
step shell check_shell

# Shown as it goes: a first run takes minutes.
if tests/lint/tidy.sh "$build_dir" --self-test; then
  printf 'lint: %-12s ok\n' clang-tidy
else
  printf 'lint: %-12s FAILED\n' clang-tidy
  failed+=(clang-tidy)
fi

if ((${#failed[@]} > 0)); then
  printf 'lint: failed: %s\n' "${failed[*]}"
  exit 1
fi
echo "lint: all checks passed"
