#!/bin/sh
# Runs a Python program of this folder with NumPy and scikit-learn, which are installed once below build/.
#   run.sh <program> [arguments...]
set -eu

here=$(cd "$(dirname "$0")" && pwd)
program=$1
shift
ESPALIER_VENV_PACKAGES="numpy scikit-learn" \
  exec "$here/../../support/venv.sh" "$here/../../../build/features-venv" "$here/$program" "$@"
