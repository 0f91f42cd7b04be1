#!/usr/bin/env bash
# Provides oneDNN with its sparse API (CSR matmul). Debian 13 and newer have it as a package; Debian 12's package is too
# old and Debian 13's binary needs a newer libc, so there Debian 13's source package is compiled, once per machine, into
# a versioned prefix that all checkouts share. install.sh calls this script after it has installed the packages.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here

# The "-rN" in this file names the recipe: raise it with every change below, in onednn-unity.cmake or in the patch.
release=$(<"$here/onednn.version")
readonly release
readonly version=${release%-r*}
readonly minimum=3.4
readonly source_suite=trixie
readonly default_mirror=http://deb.debian.org/debian
readonly keyring=/usr/share/keyrings/debian-archive-keyring.gpg
readonly tarball_sha256=0cc51ca26c1af6a2bb1e71e378e7046f3ceb3e71791ee9d4e246d50f904a6ea6
# Upstream's fixes after the release: wrong results of some convolution and matmul shapes among them. Debian's other
# patches are about other processors, its tests, its so-name and logging, which is off here.
readonly fixes_patch=upstream-3.7.3.patch
readonly fixes_sha256=5aab2cac559ddc6c5d4411fa42b462003b93101c0c304e272b1d30ffd5a2218c

readonly options=(
  -DCMAKE_BUILD_TYPE=Release
  # The time goes into generated code, so -O1 costs nothing there and saves half of the compile time.
  "-DCMAKE_C_FLAGS_RELEASE=-O1 -g0 -DNDEBUG"
  "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -g0 -DNDEBUG"
  -DCMAKE_INSTALL_LIBDIR=lib
  # Static: the programs run without a library path, and contain only what they use.
  -DONEDNN_LIBRARY_TYPE=STATIC
  -DONEDNN_CPU_RUNTIME=OMP
  -DONEDNN_GPU_RUNTIME=NONE
  -DONEDNN_EXPERIMENTAL_SPARSE=ON
  -DONEDNN_ENABLE_WORKLOAD=TRAINING
  # What worker/engine/onednn uses; the rest of a network is Espalier's own.
  "-DONEDNN_ENABLE_PRIMITIVE=CONVOLUTION;MATMUL;REORDER"
  -DONEDNN_BUILD_GRAPH=OFF
  -DONEDNN_BUILD_EXAMPLES=OFF
  -DONEDNN_BUILD_TESTS=OFF
  -DONEDNN_BUILD_DOC=OFF
  -DONEDNN_ENABLE_JIT_PROFILING=OFF
  -DONEDNN_ENABLE_ITT_TASKS=OFF
)
readonly options_x86_64=(
  # An upper bound: machines with AVX2 or SSE4.1 only get the kernels for those.
  -DONEDNN_ENABLE_PRIMITIVE_CPU_ISA=AVX512
  # Matmul has kernels of its own; without the old GEMM ones a third of the sources go (see onednn-avx2-matmul.patch).
  -DONEDNN_ENABLE_GEMM_KERNELS_ISA=NONE
  "-DCMAKE_PROJECT_INCLUDE=$here/onednn-unity.cmake"
)

say() { printf 'onednn: %s\n' "$*"; }

die() {
  printf '\nonednn: %s\n' "$*" >&2
  exit 1
}

installed_version() {
  dpkg-query -W -f '${db:Status-Status} ${Version}' libdnnl-dev 2>/dev/null | sed -n 's/^installed //p' || true
}

offered_version() {
  LC_ALL=C apt-cache policy libdnnl-dev 2>/dev/null | sed -n 's/^  Candidate: \([0-9].*\)$/\1/p'
}

is_recent() {
  [[ -n $1 ]] && dpkg --compare-versions "$1" ge "$minimum"
}

as_root() {
  if ((EUID == 0)); then
    "$@"
  else
    sudo "$@"
  fi
}

install_package() {
  say "installing Debian's libdnnl-dev"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600 \
    install --no-install-recommends libdnnl-dev || die "apt could not install libdnnl-dev, see its messages above."
}

# Where the versioned prefix goes. A user without rights on the machine gets a library of their own.
choose_base() {
  if [[ -n ${ESPALIER_DEPS_PREFIX:-} ]]; then
    realpath -m "$ESPALIER_DEPS_PREFIX"
  elif ((EUID == 0)) || [[ -e /opt/espalier/onednn-$release/stamp || -w /opt/espalier ]]; then
    printf '/opt/espalier\n'
  else
    printf '%s\n' "$HOME/.cache/espalier"
  fi
}

# Whether sudo works without asking, as it does after install.sh has used it.
may_become_root() {
  ((EUID != 0)) && [[ -z ${ESPALIER_DEPS_PREFIX:-} ]] && command -v sudo >/dev/null && sudo -n true 2>/dev/null
}

# The user's own Debian mirror, which may be the only one this machine can reach, then Debian's public default.
list_mirrors() {
  local codename targets
  # shellcheck source=/dev/null
  codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
  # shellcheck disable=SC2016  # apt expands these, not the shell
  targets=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)' \
    'Created-By: Packages' 2>/dev/null || true)
  {
    # The origin is known only while apt's lists are there, else the usual form of the address has to do.
    awk -v codename="$codename" '$2 == codename && $3 == "main" && ($4 == "Debian" || ($4 == "" && $1 ~ /\/debian\/?$/)) {
      sub(/\/$/, "", $1); print $1 }' <<<"$targets"
    printf '%s\n' "$default_mirror"
  } | awk '!seen[$0]++'
}

# Downloads the source package from one mirror into the current folder. apt gets folders and a source list of its own:
# nothing in /etc/apt changes. It checks the archive's signature with Debian's keyring.
fetch_from() {
  local mirror=$1 apt=$PWD/apt
  rm -rf "$apt"
  mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial"
  printf 'deb-src [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$source_suite" >"$apt/sources.list"
  local settings=(
    -q -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State=$apt/state" -o Dir::State::status=/var/lib/dpkg/status -o "Dir::Cache=$apt/cache"
    # apt's own user may not enter this folder.
    -o APT::Sandbox::User=root -o APT::Update::Error-Mode=any -o Acquire::Retries=2
  )
  apt-get "${settings[@]}" update && apt-get "${settings[@]}" source --download-only onednn
}

fetch() {
  local mirror
  while read -r mirror; do
    say "fetching Debian's source package of oneDNN from $mirror"
    if fetch_from "$mirror" >fetch.log 2>&1; then
      return
    fi
    tail -n 3 fetch.log
  done < <(list_mirrors)
  die "could not fetch Debian's source package of oneDNN, see above. The set-up needs a Debian mirror that has the
sources of $source_suite: check the network connection and the proxy and run it again. Without network, install oneDNN >= $minimum
with ONEDNN_EXPERIMENTAL_SPARSE=ON and ONEDNN_CPU_RUNTIME=OMP by other means and put its prefix on CMAKE_PREFIX_PATH."
}

verify() {
  local file=$1 expected=$2 actual
  actual=$(sha256sum "$file" | cut -d ' ' -f 1)
  [[ $actual == "$expected" ]] || die "$(basename "$file") is not the file this recipe was made for.
  expected SHA-256 $expected
  got              $actual
Either the download is damaged, or Debian has a new release of oneDNN: then the checksum, and the number in
cmake/deps/onednn.version, need an update."
}

unpack() {
  local tarball debian
  tarball=$(compgen -G 'onednn_*.orig.tar.*' | grep -v '\.asc$') || die "the source package has no orig tarball."
  debian=$(compgen -G 'onednn_*.debian.tar.*') || die "the source package has no debian tarball."
  verify "$tarball" "$tarball_sha256"
  mkdir source
  tar -xf "$tarball" -C source --strip-components=1
  tar -xf "$debian" "debian/patches/$fixes_patch" || die "Debian's source package has no $fixes_patch any more."
  verify "debian/patches/$fixes_patch" "$fixes_sha256"
  patch -d source -p1 -s <"debian/patches/$fixes_patch"
  patch -d source -p1 -s <"$here/onednn-avx2-matmul.patch"
}

configure() {
  local flags=("${options[@]}")
  if [[ $(uname -m) == x86_64 ]]; then
    flags+=("${options_x86_64[@]}")
  fi
  if command -v ccache >/dev/null; then
    flags+=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  fi
  cmake -G Ninja -S source -B build "-DCMAKE_INSTALL_PREFIX=$prefix" "${flags[@]}" >configure.log 2>&1 || {
    tail -n 20 configure.log
    die "oneDNN's configure step failed, see above."
  }
}

# As many compilers as there are processors, but the largest translation units need more than a gigabyte each.
count_jobs() {
  local processors gigabytes
  processors=$(nproc)
  gigabytes=$(awk '/^MemAvailable:/ { printf "%d", $2 / 1572864 }' /proc/meminfo)
  printf '%d\n' $((gigabytes < 1 ? 1 : gigabytes < processors ? gigabytes : processors))
}

# Runs ninja and reports at most every 5 s and at least every 15 s: single steps take a minute, and a terminal or a CI
# log that says nothing looks stuck.
compile() {
  local jobs pid line last='' started=$SECONDS reported=$SECONDS status=0
  jobs=$(count_jobs)
  say "compiling oneDNN $version with $jobs job(s), about 8 CPU minutes; later runs use the result"
  ninja -C build -j "$jobs" >compile.log 2>&1 &
  pid=$!
  # A background process of a script does not see Ctrl-C.
  trap 'kill "$pid" 2>/dev/null || true' INT TERM EXIT
  while kill -0 "$pid" 2>/dev/null; do
    sleep 1
    line=$(grep -o '^\[[0-9]*/[0-9]*\]' compile.log | tail -n 1 || true)
    if [[ $line != "$last" && $((SECONDS - reported)) -ge 5 ]] || ((SECONDS - reported >= 15)); then
      say "${line:-[starting]} $((SECONDS - started)) s"
      last=$line
      reported=$SECONDS
    fi
  done
  wait "$pid" || status=$?
  trap - INT TERM EXIT
  if ((status != 0)); then
    # Ninja lets the other job finish, so the error is rarely at the end.
    grep -m 5 -A 3 'error:' compile.log || tail -n 40 compile.log
    die "compiling oneDNN failed, see above; the whole log is $PWD/compile.log"
  fi
}

# Linking the whole archive shows whether it needs something it does not contain.
check_archive() {
  c++ -shared -o whole.so -Wl,--whole-archive build/src/libdnnl.a -Wl,--no-whole-archive -Wl,-z,defs -fopenmp -ldl \
    >link.log 2>&1 || {
    tail -n 20 link.log
    die "the compiled library is not complete, see above."
  }
  rm whole.so
}

write_stamp() {
  printf '%s\n' "oneDNN $version, recipe $release" "source sha256 $tarball_sha256" "patch sha256 $fixes_sha256" \
    "compiler $(c++ -dumpfullversion) on $(uname -m)" "${options[@]}" >"$1/stamp"
  if [[ $(uname -m) == x86_64 ]]; then
    printf '%s\n' "${options_x86_64[@]%%=/*}" >>"$1/stamp"
  fi
}

# The prefix appears complete or not at all: everything goes to a folder next to it, which is renamed at the end.
build() {
  local started=$SECONDS
  rm -rf "$work"
  mkdir -p "$work"
  cd "$work"
  fetch
  unpack
  configure
  compile
  check_archive
  DESTDIR=$work/stage ninja -C build install >install.log
  write_stamp "$work/stage$prefix"
  rm -rf "$prefix"
  mv -T "$work/stage$prefix" "$prefix"
  cd "$base"
  rm -rf "$work"
  say "oneDNN $version built in $((SECONDS - started)) s"
}

# Two checkouts on one machine must not build at the same time. The lock goes with the process.
take_lock() {
  exec 9>"$base/.onednn-$release.lock"
  until flock -w 15 9; do
    say "another checkout is building oneDNN, waiting for it"
  done
}

main() {
  if is_recent "$(installed_version)"; then
    say "Debian's libdnnl-dev is installed"
    return
  fi
  base=$(choose_base)
  prefix=$base/onednn-$release
  # Always the same path, so that a rebuild finds its objects in ccache.
  work=$base/.onednn-$release.build
  if [[ ! -e $prefix/stamp ]]; then
    if is_recent "$(offered_version)"; then
      install_package
      return
    fi
    if may_become_root; then
      exec sudo bash "$here/onednn.sh"
    fi
    mkdir -p "$base" || die "cannot create $base: set ESPALIER_DEPS_PREFIX to a folder you may write to."
    take_lock
    # Whoever held the lock may have built it.
    if [[ ! -e $prefix/stamp ]]; then
      build
    fi
  fi
  say "oneDNN $version is in $prefix"
}

main "$@"
