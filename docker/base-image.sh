#!/usr/bin/env bash
# Makes the base image debian:trixie-slim from a Debian mirror, for machines that reach no image registry. Needs root
# and debootstrap. The result is what the registry's image is: a minimal Debian 13 without manuals and translations.
#   base-image.sh [TAG]
#
# ESPALIER_DEBIAN_MIRROR    (http://deb.debian.org/debian)
# ESPALIER_SECURITY_MIRROR  (http://deb.debian.org/debian-security)
set -euo pipefail
readonly tag=${1:-debian:trixie-slim}
readonly mirror=${ESPALIER_DEBIAN_MIRROR:-http://deb.debian.org/debian}
readonly security_mirror=${ESPALIER_SECURITY_MIRROR:-http://deb.debian.org/debian-security}
readonly keyring=/usr/share/keyrings/debian-archive-keyring.gpg

if ((EUID != 0)); then
  echo "base-image: debootstrap needs root; run this as root or with sudo" >&2
  exit 1
fi
if ! command -v debootstrap >/dev/null || [[ ! -r $keyring ]]; then
  echo "base-image: debootstrap or debian-archive-keyring is missing; run cmake/deps/install.sh --cluster" >&2
  exit 1
fi

rootfs=$(mktemp -d)
readonly rootfs
trap 'rm -rf --one-file-system "$rootfs"' EXIT

echo "base-image: fetching Debian 13 from $mirror (about a minute)"
if ! debootstrap --variant=minbase --keyring="$keyring" trixie "$rootfs" "$mirror" >"$rootfs.log" 2>&1; then
  tail -n 20 "$rootfs.log" >&2
  echo "base-image: debootstrap failed, whole log in $rootfs.log. Is the mirror reachable?" >&2
  exit 1
fi
rm -f "$rootfs.log" "$rootfs/etc/apt/sources.list"

cat >"$rootfs/etc/apt/sources.list.d/debian.sources" <<EOF
Types: deb
URIs: $mirror
Suites: trixie trixie-updates
Components: main
Signed-By: $keyring

Types: deb
URIs: $security_mirror
Suites: trixie-security
Components: main
Signed-By: $keyring
EOF
# Packages installed later leave out the same files; licences stay.
cat >"$rootfs/etc/dpkg/dpkg.cfg.d/slim" <<'EOF'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
EOF
find "$rootfs/usr/share/doc" -type f ! -name copyright -delete
find "$rootfs/usr/share/doc" -type d -empty -delete
rm -rf "$rootfs"/usr/share/{info,locale,man}/* "$rootfs"/var/lib/apt/lists/* "$rootfs"/var/cache/apt/* \
  "$rootfs"/var/log/*.log "$rootfs"/var/log/apt/*

tar -C "$rootfs" --numeric-owner -c . | docker import --change 'CMD ["bash"]' - "$tag" >/dev/null
echo "base-image: made $tag"
