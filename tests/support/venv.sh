#!/bin/sh
# Runs a Python program with the packages that tests need, in a virtual environment that is made once.
#   venv.sh <folder of the environment> <program> [arguments...]
# ESPALIER_VENV_PACKAGES names other packages.
# Exit status: that of the program; 1 when the packages cannot be installed, for instance without network.
set -eu

readonly PACKAGES="${ESPALIER_VENV_PACKAGES:-numpy safetensors grpcio==1.76.0 grpcio-tools==1.76.0 \
  grpcio-health-checking==1.76.0 grpcio-reflection==1.76.0 kubernetes-validate==1.37.0}"

environment=$1
shift

install() {
  # Built aside and moved into place, so that an interrupted run leaves nothing half done. A virtual
  # environment remembers its path in its scripts only; they are not used.
  building="$environment.$$"
  rm -rf "$building"
  # shellcheck disable=SC2086  # one word per package
  if python3 -m venv "$building" && "$building/bin/python" -m pip install --quiet $PACKAGES; then
    echo "$PACKAGES" >"$building/complete"
    rm -rf "$environment"
    mv "$building" "$environment"
  else
    rm -rf "$building"
    return 1
  fi
}

mkdir -p "$(dirname "$environment")"
# One installs while others wait: tests run at the same time.
exec 9>"$environment.lock"
flock 9
# The mark holds what was installed: another list of packages makes another environment.
if [ "$(cat "$environment/complete" 2>/dev/null)" != "$PACKAGES" ] && ! install >&2; then
  echo "cannot install $PACKAGES: check the network and pip's settings, then run the tests again" >&2
  exit 1
fi
exec 9>&-

exec "$environment/bin/python" "$@"
