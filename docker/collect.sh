#!/usr/bin/env bash
# Makes the file system of the images: the stripped programs, the shared libraries they load with their licences, a
# user without privileges and its folder, and a list of all of it (sbom.sh).
#   collect.sh BIN_DIR OUT
# Only root can give the folder to that user.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here bin_dir=$1 out=$2
readonly user=10001

# Prints the paths of the libraries that the programs load, each once.
needed_libraries() {
  # The loader has no arrow.
  ldd "$out"/usr/bin/* | sed -nE 's/^\s(.* => )?(\/\S+) \(.*/\2/p' | sort -u
}

# The package that a library is from. Debian 12 has some by their names before /lib became a link into /usr.
package_of() {
  local path
  path=$(readlink -f "$1")
  { dpkg-query -S "$path" 2>/dev/null || dpkg-query -S "${path#/usr}"; } | cut -d: -f1 | head -n 1
}

install_library() {
  local path=$1 package
  # In Debian /lib and /lib64 are links into /usr, and must be in the image. The loader is run, so it is executable.
  install -D -m 0755 "$path" "$out/usr${path#/usr}"
  package=$(package_of "$path")
  dpkg-query -W -f '${source:Package} ${Package} ${Version}\n' "$package" >>"$out/usr/share/doc/espalier/libraries"
  if [[ -e /usr/share/doc/$package/copyright ]]; then
    install -D -m 0644 "/usr/share/doc/$package/copyright" "$out/usr/share/doc/$package/copyright"
  fi
}

# What the C library and gRPC look up: users, the order of name services, certificate authorities.
make_system_files() {
  ln -s usr/lib "$out/lib"
  [[ ! -d $out/usr/lib64 ]] || ln -s usr/lib64 "$out/lib64"
  install -d "$out/etc/ssl/certs"
  printf '%s\n' 'root:x:0:0:root:/:/usr/sbin/nologin' "espalier:x:$user:$user::/var/lib/espalier:/usr/sbin/nologin" \
    >"$out/etc/passwd"
  printf '%s\n' 'root:x:0:' "espalier:x:$user:" >"$out/etc/group"
  printf '%s\n' 'passwd: files' 'group: files' 'hosts: files dns' >"$out/etc/nsswitch.conf"
  install -m 0644 /etc/ssl/certs/ca-certificates.crt "$out/etc/ssl/certs/ca-certificates.crt"
  install -d -m 1777 "$out/tmp"
  install -d -o "$user" -g "$user" -m 0750 "$out/var/lib/espalier"
  # Places for certificates, one for each holder, as deploy/compose.yaml mounts them.
  install -d -o "$user" -g "$user" -m 0700 "$out"/tls/{coordinator,admin,dashboard,join,worker}
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
  install_library "$library"
done < <(needed_libraries)
sort -u -o "$out/usr/share/doc/espalier/libraries" "$out/usr/share/doc/espalier/libraries"
make_system_files
"$here/sbom.sh" "$out" >"$out/usr/share/doc/espalier/sbom.spdx.json"
