#!/bin/sh
# Runs tidy.py with the clang-tidy that the project pins, which PyPI has for every Debian: it passes over the
# declarations of system headers, where Debian 12's own spends two thirds of its time.
#   tidy.sh BUILD_DIR [FILE ...]     FILE: check only these
set -eu
cd "$(dirname "$0")/../.."
ESPALIER_VENV_PACKAGES="clang-tidy==23.1.4" exec tests/support/venv.sh build/lint-venv tests/lint/tidy.py "$@"
