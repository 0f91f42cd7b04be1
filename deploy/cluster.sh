#!/usr/bin/env bash
# A cluster of containers on this machine, see docs/operations/cluster.md.
#   cluster.sh up       build the images, start the containers, run the demo job
#   cluster.sh down     stop the containers; volumes stay
#   cluster.sh images   build the images only
#   cluster.sh test     the whole cycle under another project name, with assertions; removes what it made
# Ends with 75 where no engine runs and none can be started.
#
# ESPALIER_PROGRAMS   folder with programs that were built on this machine, for the images to have; without it they are
#                     compiled on Debian 13
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
readonly state=$root/build/cluster
readonly base_image=${ESPALIER_BASE_IMAGE:-debian:trixie-slim}
readonly max_image_mb=150
readonly programs_image=espalier/programs:local
readonly services=(coordinator worker dashboard prometheus alertmanager)
readonly workers=3
project=espalier
export ESPALIER_TAG=${ESPALIER_TAG:-local}
export ESPALIER_PORT=${ESPALIER_PORT:-7070}
export ESPALIER_DASHBOARD_PORT=${ESPALIER_DASHBOARD_PORT:-7080}
export ESPALIER_PROMETHEUS_PORT=${ESPALIER_PROMETHEUS_PORT:-9090}
export ESPALIER_ALERTMANAGER_PORT=${ESPALIER_ALERTMANAGER_PORT:-9093}

say() { printf 'cluster: %s\n' "$*"; }

die() {
  printf 'cluster: %s\n' "$*" >&2
  exit 1
}

no_engine() {
  printf 'cluster: %s\n' "$*" >&2
  exit 75
}

# --- tools and engine -------------------------------------------------------------------------------------------------

compose_command() {
  if docker compose version >/dev/null 2>&1; then
    echo "docker compose"
  elif command -v docker-compose >/dev/null; then
    echo docker-compose
  fi
}

compose() {
  local command
  read -ra command <<<"$(compose_command)"
  "${command[@]}" -p "$project" -f "$root/deploy/compose.yaml" "$@"
}

ensure_tools() {
  if ! command -v docker >/dev/null || [[ -z $(compose_command) || -z $(build_client) ]]; then
    "$root/cmake/deps/install.sh" --cluster
  fi
  [[ -n $(compose_command) ]] || die "neither 'docker compose' nor 'docker-compose' works; install one of them"
  [[ -n $(build_client) ]] || die "this docker client cannot build with BuildKit; install its buildx plugin"
}

# Prints a docker client that can build with BuildKit: one with buildx, or one so old that BuildKit is inside.
build_client() {
  local client version
  if docker buildx version >/dev/null 2>&1; then
    echo docker
    return
  fi
  for client in docker /usr/bin/docker; do
    version=$("$client" --version 2>/dev/null | sed -nE 's/^Docker version ([0-9]+)\..*/\1/p')
    if [[ -n $version ]] && ((version < 23)); then
      echo "$client"
      return
    fi
  done
}

start_engine() {
  docker info >/dev/null 2>&1 && return
  if ((EUID != 0)); then
    no_engine "no Docker engine answers. Start it (sudo systemctl start docker) and be a member of group docker, or run as root"
  fi
  mkdir -p "$state"
  if [[ -d /run/systemd/system ]]; then
    systemctl start docker || no_engine "systemctl could not start docker"
  else
    say "starting dockerd, log in build/cluster/dockerd.log"
    setsid dockerd >"$state/dockerd.log" 2>&1 </dev/null &
    echo $! >"$state/dockerd.pid"
  fi
  local attempt
  for ((attempt = 0; attempt < 120; attempt++)); do
    docker info >/dev/null 2>&1 && return
    sleep 0.5
  done
  tail -n 20 "$state/dockerd.log" >&2 || true
  no_engine "the Docker engine did not start within a minute"
}

# --- images -----------------------------------------------------------------------------------------------------------

ensure_base_image() {
  docker image inspect "$base_image" >/dev/null 2>&1 && return
  say "pulling $base_image"
  timeout 300 docker pull --quiet "$base_image" 2>"$state/pull.log" && return
  say "no registry: $(tail -n 1 "$state/pull.log")"
  "$root/docker/base-image.sh" "$base_image"
}

# An image whose folder /out is what a build of the images would have made of the programs in a folder of this machine.
import_programs() {
  say "taking the programs of $1"
  rm -rf "$state/programs"
  mkdir -p "$state/programs"
  "$root/docker/collect.sh" "$1" "$state/programs/out"
  tar -C "$state/programs" --numeric-owner -c out | docker import - "$programs_image" >/dev/null
}

# The settings that let this machine's apt reach its mirrors, for the builds.
write_apt_conf() {
  : >"$state/apt.conf"
  if command -v apt-config >/dev/null; then
    apt-config dump | grep -E '^Acquire::(https?::Proxy|Check-)' >"$state/apt.conf" || true
  fi
}

# The settings by which this machine's pip and npm reach their registries, for the dashboard's pages.
write_registry_conf() {
  local file
  : >"$state/pip.conf"
  : >"$state/npmrc"
  for file in "${PIP_CONFIG_FILE:-}" "$HOME/.config/pip/pip.conf" "$HOME/.pip/pip.conf" /etc/pip.conf; do
    if [[ -s $file ]]; then
      cat "$file" >"$state/pip.conf"
      break
    fi
  done
  if [[ -n ${PIP_INDEX_URL:-} ]]; then
    printf '[global]\nindex-url = %s\n' "$PIP_INDEX_URL" >"$state/pip.conf"
  fi
  for file in "${NPM_CONFIG_USERCONFIG:-}" "$HOME/.npmrc" /etc/npmrc; do
    if [[ -s $file ]]; then
      cat "$file" >"$state/npmrc"
      break
    fi
  done
  if [[ -n ${NPM_CONFIG_REGISTRY:-${npm_config_registry:-}} ]]; then
    printf 'registry=%s\n' "${NPM_CONFIG_REGISTRY:-$npm_config_registry}" >>"$state/npmrc"
  fi
  chmod 600 "$state/pip.conf" "$state/npmrc"
  # Behind a proxy that looks into TLS the machine knows an authority that the images do not.
  cat "${PIP_CERT:-${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}}" >"$state/authorities.pem" 2>/dev/null || : >"$state/authorities.pem"
}

build_image() {
  local target=$1 file=$2 client variable arguments=()
  client=$(build_client)
  for variable in http_proxy https_proxy no_proxy; do
    if [[ -n ${!variable:-} ]]; then
      arguments+=(--build-arg "$variable")
    fi
  done
  if [[ $file == Dockerfile ]]; then
    arguments+=(--target "$target" --build-arg "REVISION=$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)")
    [[ -z ${ESPALIER_PROGRAMS:-} ]] || arguments+=(--build-arg "PROGRAMS=$programs_image")
  fi
  say "building espalier/$target:$ESPALIER_TAG"
  DOCKER_BUILDKIT=1 "$client" build --progress plain --file "$root/docker/$file" --secret "id=apt_conf,src=$state/apt.conf" \
    --secret "id=pip_conf,src=$state/pip.conf" --secret "id=npmrc,src=$state/npmrc" --secret "id=authorities,src=$state/authorities.pem" --build-arg "BASE=$base_image" "${arguments[@]}" --tag "espalier/$target:$ESPALIER_TAG" "$root" \
    >"$state/build-$target.log" 2>&1 || {
    tail -n 40 "$state/build-$target.log" >&2
    die "the build failed, whole log in build/cluster/build-$target.log"
  }
}

images() {
  ensure_tools
  mkdir -p "$state"
  start_engine
  ensure_base_image
  write_apt_conf
  write_registry_conf
  [[ -z ${ESPALIER_PROGRAMS:-} ]] || import_programs "$ESPALIER_PROGRAMS"
  build_image coordinator Dockerfile
  build_image worker Dockerfile
  build_image prometheus prometheus.Dockerfile
  build_image alertmanager alertmanager.Dockerfile
  build_image edge haproxy.Dockerfile
}

# --- containers -------------------------------------------------------------------------------------------------------

# Of all containers of a service, the workers' being as many as they should be.
is_healthy() {
  local ids id wanted=1
  [[ $1 != worker ]] || wanted=$workers
  mapfile -t ids < <(compose ps -q "$1" 2>/dev/null)
  ((${#ids[@]} == wanted)) || return 1
  for id in "${ids[@]}"; do
    [[ $(docker inspect --format '{{.State.Health.Status}}' "$id" 2>/dev/null) == healthy ]] || return 1
  done
}

wait_healthy() {
  local deadline=$((SECONDS + ${1:-120})) service waiting
  while true; do
    waiting=()
    for service in "${services[@]}"; do
      is_healthy "$service" || waiting+=("$service")
    done
    ((${#waiting[@]} == 0)) && return
    if ((SECONDS >= deadline)); then
      compose ps >&2
      compose logs --tail 20 "${waiting[@]}" >&2
      die "not healthy in time: ${waiting[*]}"
    fi
    sleep 1
  done
}

# `down` comes first because docker-compose 1.29 cannot replace containers of a current engine.
start() {
  compose down --remove-orphans >"$state/compose.log" 2>&1
  compose up -d --no-build --scale "worker=$workers" >>"$state/compose.log" 2>&1 || {
    tail -n 20 "$state/compose.log" >&2
    die "the containers did not start"
  }
  say "waiting until all services are healthy"
  wait_healthy 120
}

# The command line, as the user "admin" in a container of its own.
espalier() { compose run --rm -T cli "$@" 2>>"$state/compose.log"; }

up() {
  images
  start
  say "running the demo job on three workers"
  compose run --rm cli job submit /usr/share/espalier/examples/digits-set.yaml --watch
  cat <<EOF

The cluster is up:
  API           127.0.0.1:$ESPALIER_PORT
  Dashboard     http://127.0.0.1:$ESPALIER_DASHBOARD_PORT
  Prometheus    http://127.0.0.1:$ESPALIER_PROMETHEUS_PORT
  Alertmanager  http://127.0.0.1:$ESPALIER_ALERTMANAGER_PORT
Try: $(compose_command) -p $project -f deploy/compose.yaml run --rm cli worker list
More workers: $(compose_command) -p $project -f deploy/compose.yaml up -d --no-recreate --scale worker=8
Stop it: make cluster-down
EOF
}

down() {
  [[ -n $(compose_command) ]] || die "docker compose is not installed, so no cluster runs"
  docker info >/dev/null 2>&1 || die "no Docker engine answers, so no cluster runs"
  compose down --remove-orphans
  say "stopped; the volumes stay ('docker volume ls --filter name=${project}_')"
}

main() {
  case ${1:-} in
    up) up ;;
    down) down ;;
    images) images ;;
    test)
      # shellcheck source=deploy/cluster_test.sh
      source "$root/deploy/cluster_test.sh"
      test_cluster
      ;;
    *)
      sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
      exit 64
      ;;
  esac
}

main "$@"
