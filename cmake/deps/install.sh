#!/usr/bin/env bash
# Installs everything Espalier is built, tested and linted with, on Debian 12 and 13. `make deps` calls it.
# Idempotent: when nothing is missing it only asks dpkg once and returns.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here

# Prints the packages of a group. "a|b" means: either will do, the first one the system offers is installed.
list_packages() {
  case $1 in
    build)
      printf '%s\n' build-essential cmake ninja-build ccache mold pkg-config \
        libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc libabsl-dev prometheus-cpp-dev libmicrohttpd-dev \
        libyaml-cpp-dev libpcre2-dev libcli11-dev libfmt-dev nlohmann-json3-dev \
        libeigen3-dev zlib1g-dev libpng-dev libjpeg62-turbo-dev libssl-dev libsqlite3-dev libpq-dev libcurl4-openssl-dev libbenchmark-dev \
        ca-certificates curl debian-archive-keyring patch xz-utils python3 python3-venv
      ;;
    test)
      # Chromium and a font show the dashboard's pages to their test.
      printf '%s\n' 'chromium|chromium-headless-shell' fonts-dejavu-core
      # prometheus has promtool, which checks the alert rules, and with prometheus-alertmanager watches clusters of tests;
      # iproute2 makes networks of several machines; strace has system calls fail; slurm-wlm and munge are a Slurm of one node;
      # systemd knows which system calls services need, util-linux starts programs as another user, and haproxy is the edge in
      # front of a coordinator.
      list_packages postgres
      list_packages packages
      printf '%s\n' libgtest-dev libgmock-dev prometheus prometheus-alertmanager openssl iproute2 strace systemd util-linux haproxy slurm-wlm munge \
        python3 python3-venv python3-pip python3-yaml python3-numpy
      ;;
    # clang-tidy comes from PyPI: tests/lint/tidy.sh.
    lint) printf '%s\n' 'clang-format-14|clang-format' shellcheck python3 python3-venv ;;
    # What packs programs, and the clean Debian in which packages are tried.
    packages) printf '%s\n' dpkg-dev file debootstrap ;;
    # A server that tests and the demonstration of a stand-by start themselves.
    postgres) printf '%s\n' postgresql ;;
    fuzz) printf '%s\n' 'clang-14|clang' 'libclang-rt-14-dev|libclang-rt-dev' 'libomp-14-dev|libomp-dev' ;;
    bench) printf '%s\n' python3-torch libopenblas0-pthread python3-matplotlib ;;
    cluster) printf '%s\n' docker.io docker-compose debootstrap 'docker-buildx|docker.io' 'docker-cli|docker.io' ;;
  esac
}

say() { printf 'deps: %s\n' "$*"; }

die() {
  printf '\ndeps: %s\n' "$*" >&2
  exit 1
}

usage() {
  cat <<'EOF'
Usage: install.sh [--build] [--test] [--lint] [--fuzz] [--bench] [--cluster] [--postgres] [--packages]

Each flag names a group of packages; without flags: --build --test --lint.
  --build    compiler, libraries and oneDNN with its sparse API; Python, which makes the dashboard's pages
  --test     GoogleTest, Python, Prometheus and Alertmanager, PostgreSQL, HAProxy, iproute2 and Chromium
  --lint     clang-format, shellcheck and Python; clang-tidy comes with the first run of make lint
  --fuzz     Clang with libFuzzer
  --bench    PyTorch and OpenBLAS to compare against, matplotlib for curves
  --cluster  Docker and debootstrap, for clusters on one machine
  --postgres PostgreSQL, for a coordinator that stands by
  --packages what makes and tries Debian packages

ESPALIER_DEPS_PREFIX  folder for libraries built from source
                      (default /opt/espalier, without root $HOME/.cache/espalier)
EOF
}

# Sets the global array `groups`.
parse_arguments() {
  groups=()
  local argument
  for argument in "$@"; do
    case $argument in
      --build | --test | --lint | --fuzz | --bench | --cluster | --postgres | --packages) groups+=("${argument#--}") ;;
      -h | --help) usage && exit 0 ;;
      *) usage >&2 && die "unknown argument $argument" ;;
    esac
  done
  if ((${#groups[@]} == 0)); then
    groups=(build test lint)
  fi
}

# A subshell keeps the variables of os-release away from ours.
is_supported_debian() (
  [[ -r /etc/os-release ]] || return 1
  # shellcheck source=/dev/null
  . /etc/os-release
  # Testing and unstable have no VERSION_ID.
  [[ ${ID:-} == debian && ${VERSION_ID:-12} -ge 12 ]] && command -v apt-get dpkg-query >/dev/null
)

explain_other_system() {
  die "this script knows Debian 12 and newer only. On this system install by hand: a C++20 compiler, CMake >= 3.25,
Ninja, gRPC and Protobuf for C++, Abseil, prometheus-cpp, libmicrohttpd, GoogleTest, yaml-cpp, PCRE2, CLI11, fmt, nlohmann-json, zlib, libpng, libjpeg-turbo,
OpenSSL, SQLite, libpq, libcurl, Google Benchmark, and Python 3 with venv, yaml and numpy; and oneDNN >= 3.4 with the OpenMP runtime and
its sparse API (cmake -DONEDNN_EXPERIMENTAL_SPARSE=ON -DONEDNN_CPU_RUNTIME=OMP). Put oneDNN's install prefix on
CMAKE_PREFIX_PATH, then build as usual."
}

# Prints the packages of the given groups that are not installed, nor an alternative to them.
list_missing() {
  local installed group entry name alternatives found
  installed=$(dpkg-query -W -f '${db:Status-Status} ${binary:Package}\n' 2>/dev/null |
    sed -n 's/^installed \([^:]*\).*/|\1|/p')
  while read -r entry; do
    IFS='|' read -ra alternatives <<<"$entry"
    found=no
    for name in "${alternatives[@]}"; do
      if [[ $installed == *"|$name|"* ]]; then
        found=yes
      fi
    done
    [[ $found == yes ]] || printf '%s\n' "$entry"
  done < <(for group in "$@"; do list_packages "$group"; done)
}

has_candidate() {
  local candidate
  candidate=$(LC_ALL=C apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: //p')
  [[ -n $candidate && $candidate != '(none)' ]]
}

# Turns "a|b" into the first of the two that the system offers.
choose_alternative() {
  local name alternatives
  IFS='|' read -ra alternatives <<<"$1"
  for name in "${alternatives[@]}"; do
    if has_candidate "$name"; then
      printf '%s\n' "$name"
      return
    fi
  done
  die "no package named ${1//|/ or } is offered by this system's apt sources. Are they complete (component main)?"
}

as_root() {
  if ((EUID == 0)); then
    "$@"
  else
    sudo "$@"
  fi
}

require_root_or_sudo() {
  if ((EUID != 0)) && ! command -v sudo >/dev/null; then
    die "packages are missing and there is neither root nor sudo to install them. Ask an administrator to run:
  apt-get install --no-install-recommends $*"
  fi
}

explain_no_network() {
  die "apt could not fetch what is missing, see its messages above. The set-up needs a Debian mirror: check the network
connection, the proxy (http_proxy or Acquire::http::Proxy in /etc/apt/apt.conf.d) and the URIs in /etc/apt/sources.list
and /etc/apt/sources.list.d, then run it again; what is already installed stays. Without any network, install on a
machine that has one: $*"
}

apt_get() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600 "$@"
}

# Of these the programs are wanted, which tests start themselves, so the packages must not leave services running, now or after the
# next boot. What was there before stays as it is.
readonly daemons=(prometheus prometheus-alertmanager postgresql)

install_without_daemons() {
  local policy=/usr/sbin/policy-rc.d status=0 own_policy=no name new=()
  for name in "$@"; do
    systemctl is-enabled --quiet "$name.service" 2>/dev/null || new+=("$name")
  done
  if [[ ! -e $policy ]]; then
    own_policy=yes
    # A stopped script must not leave the file behind: it would keep every later service from starting.
    trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
  fi
  apt_get install --no-install-recommends "$@" || status=$?
  if [[ $own_policy == yes ]]; then
    as_root rm -f "$policy"
    trap - EXIT
  fi
  if command -v systemctl >/dev/null; then
    for name in "${new[@]}"; do
      as_root systemctl disable --quiet "$name.service" 2>/dev/null || true
    done
  fi
  return "$status"
}

install_packages() {
  local entries=("$@") names=() entry name
  require_root_or_sudo "${entries[@]%%|*}"
  say "missing: ${entries[*]}"
  say "updating the package lists"
  apt_get update || say "some package lists could not be updated, trying with what there is"
  local silent=()
  for entry in "${entries[@]}"; do
    if [[ " ${daemons[*]} " == *" $entry "* ]]; then
      silent+=("$entry")
    else
      name=$(choose_alternative "$entry")
      names+=("$name")
    fi
  done
  if ((${#names[@]} > 0)); then
    say "installing ${#names[@]} packages"
    apt_get install --no-install-recommends "${names[@]}" || explain_no_network "${names[@]}"
  fi
  if ((${#silent[@]} > 0)); then
    say "installing ${silent[*]} (without starting a service)"
    install_without_daemons "${silent[@]}" || explain_no_network "${silent[@]}"
  fi
}

main() {
  parse_arguments "$@"
  is_supported_debian || explain_other_system
  local missing
  mapfile -t missing < <(list_missing "${groups[@]}")
  if ((${#missing[@]} > 0)); then
    install_packages "${missing[@]}"
  fi
  say "packages for ${groups[*]}: complete"
  if [[ " ${groups[*]} " == *' build '* ]]; then
    bash "$here/onednn.sh"
  fi
}

main "$@"
