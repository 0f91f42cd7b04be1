#!/usr/bin/env bash
# Puts the stripped programs, the shared libraries they need beyond the base image, and those libraries' licences
# into one folder that becomes the image.
#   collect.sh BIN_DIR BASE_LIBRARIES OUT      BASE_LIBRARIES: names of libraries the base image has, one per line
set -euo pipefail
readonly bin_dir=$1 base_libraries=$2 out=$3

# Prints the paths of the libraries that the programs load, each once.
needed_libraries() {
  ldd "$out"/usr/bin/* | sed -nE 's/^\s.* => (\/\S+) \(.*/\1/p' | sort -u
}

install_library() {
  local path=$1 package
  # In Debian /lib is a link to /usr/lib, and must stay one in the image.
  install -D -m 0644 "$path" "$out/usr/lib/${path#*/lib/}"
  package=$(dpkg-query -S "$(readlink -f "$path")" | cut -d: -f1 | head -n 1)
  dpkg-query -W -f '${source:Package} ${Package} ${Version}\n' "$package" >>"$out/usr/share/doc/espalier/libraries"
  if [[ -e /usr/share/doc/$package/copyright ]]; then
    install -D -m 0644 "/usr/share/doc/$package/copyright" "$out/usr/share/doc/$package/copyright"
  fi
}

install -d "$out/usr/bin" "$out/usr/share/doc/espalier"
for program in espalier espalier-coordinator espalier-worker; do
  install -m 0755 --strip "$bin_dir/$program" "$out/usr/bin/$program"
done
if ldd "$out"/usr/bin/* | grep 'not found'; then
  echo "collect: a library is missing" >&2
  exit 1
fi
while read -r library; do
  if ! grep -qxF "${library##*/}" "$base_libraries"; then
    install_library "$library"
  fi
done < <(needed_libraries)
sort -u -o "$out/usr/share/doc/espalier/libraries" "$out/usr/share/doc/espalier/libraries"
