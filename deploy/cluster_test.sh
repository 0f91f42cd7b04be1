# shellcheck shell=bash
# The assertions of `cluster.sh test`, which sources this file.
# shellcheck disable=SC2034,SC2154  # sourced by cluster.sh, with which it shares these variables

check() {
  local what=$1
  shift
  if "$@"; then
    say "ok: $what"
  else
    compose ps >&2 || true
    compose logs --tail 30 coordinator >&2 || true
    die "FAILED: $what"
  fi
}

# Retries a command each second until it succeeds, at most SECONDS times.
eventually() {
  local limit=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < limit)) || return 1
    sleep 1
  done
}

# Prints the value of a dotted path in the JSON on stdin.
json() {
  python3 -c '
import json, sys
value = json.load(sys.stdin)
for key in sys.argv[1].split("."):
    value = value[key]
print(value)' "$1"
}

image_is_small() {
  local bytes
  bytes=$(docker image inspect --format '{{.Size}}' "$1")
  say "$1 has $((bytes / 1000000)) MB"
  ((bytes <= max_image_mb * 1000000))
}

runs_unprivileged() {
  local id
  id=$(compose ps -q "$1" | head -n 1)
  [[ $(docker inspect --format '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}' "$id") == \
    "10001:10001 true [ALL]" ]]
}

# All four Espalier processes are scraped successfully.
targets_are_up() {
  python3 - "$ESPALIER_PROMETHEUS_PORT" <<'EOF'
import json, sys, urllib.request
url = f"http://127.0.0.1:{sys.argv[1]}/api/v1/targets?state=active"
with urllib.request.urlopen(url, timeout=5) as answer:
    targets = json.load(answer)["data"]["activeTargets"]
sys.exit(0 if len(targets) == 4 and all(target["health"] == "up" for target in targets) else 1)
EOF
}

# No alert is missing, and none cannot be evaluated.
alerts_are_loaded() {
  python3 - "$ESPALIER_PROMETHEUS_PORT" "$root/deploy/prometheus/rules/alerts.yml" <<'EOF'
import json, sys, urllib.request
with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/api/v1/rules", timeout=5) as answer:
    rules = [rule for group in json.load(answer)["data"]["groups"] for rule in group["rules"]]
wanted = open(sys.argv[2], encoding="utf-8").read().count("- alert:")
alerts = [rule for rule in rules if rule["type"] == "alerting"]
sys.exit(0 if len(alerts) == wanted and all(rule["health"] == "ok" for rule in rules) else 1)
EOF
}

# Prometheus has found Alertmanager, and has lost nothing that it had to tell it.
alertmanager_is_told() {
  python3 - "$ESPALIER_PROMETHEUS_PORT" <<'EOF'
import json, sys, urllib.request
with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/api/v1/alertmanagers", timeout=5) as answer:
    found = json.load(answer)["data"]
sys.exit(0 if [one["url"] for one in found["activeAlertmanagers"]] == ["http://alertmanager:9093/api/v2/alerts"] else 1)
EOF
}

# Whether Alertmanager has an alert of this name.
alert_arrives() {
  python3 - "$ESPALIER_ALERTMANAGER_PORT" "$1" <<'EOF'
import json, sys, urllib.request
with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/api/v2/alerts", timeout=5) as answer:
    sys.exit(0 if sys.argv[2] in [alert["labels"]["alertname"] for alert in json.load(answer)] else 1)
EOF
}

job_is() { [[ $(espalier job get "$1" -o json | json state) == "$2" ]]; }

job_has_committed_a_round() { (($(espalier job get "$1" -o json | json round) >= 1)); }

demo_job_succeeds() {
  local answer
  answer=$(espalier job submit /usr/share/espalier/examples/digits-set.yaml --wait -o json) || return 1
  [[ $(json state <<<"$answer") == SUCCEEDED ]]
}

job_survives_a_killed_worker() {
  local job
  job=$(espalier job submit /usr/share/espalier/examples/digits-set.yaml --set federation.rounds=200 -o json | json name) || return 1
  eventually 60 job_has_committed_a_round "$job" || return 1
  job_is "$job" RUNNING || return 1
  docker kill "$(compose ps -q worker | head -n 1)" >/dev/null
  eventually 180 job_is "$job" SUCCEEDED
}

# A job that takes about a minute, the same each time; prints its name.
submit_long() {
  espalier job submit /usr/share/espalier/examples/digits-set.yaml --set federation.rounds=300 --set training.local_epochs=20 -o json | json name
}

job_has_rounds() { (($(espalier job get "$1" -o json | json round) >= $2)); }

# Images that differ from those that run by a label alone, as those of a release do by their programs.
make_next_images() {
  local image
  for image in coordinator worker; do
    printf 'FROM espalier/%s:%s\nLABEL espalier.test=next\n' "$image" "$ESPALIER_TAG" |
      DOCKER_BUILDKIT=1 "$(build_client)" build --quiet --tag "espalier/$image:next" - >>"$state/compose.log" 2>&1 || return 1
  done
}

# Puts new containers of a service into the place of those that are gone, of the images of a tag; others stay.
replace_missing() {
  ESPALIER_TAG=$1 compose up -d --no-build --no-recreate --no-deps --scale "worker=$workers" "$2" >>"$state/compose.log" 2>&1
}

every_container_is_of() {
  local id image
  for id in $(compose ps -q "$2"); do
    image=$(docker inspect --format '{{index .Config.Labels "espalier.test"}}' "$id")
    [[ $image == "$1" ]] || return 1
  done
}

# One after the other is killed in the middle of a job, and comes back; then one after the other gets another image.
same_model_through_kills_and_a_new_image() {
  local undisturbed disturbed service id
  undisturbed=$(submit_long) || return 1
  eventually 240 job_is "$undisturbed" SUCCEEDED || return 1
  disturbed=$(submit_long) || return 1
  eventually 60 job_has_rounds "$disturbed" 5 || return 1
  for service in coordinator worker dashboard prometheus alertmanager; do
    docker kill "$(compose ps -q "$service" | head -n 1)" >/dev/null || return 1
    compose up -d --no-build --no-recreate --no-deps --scale "worker=$workers" "$service" >>"$state/compose.log" 2>&1 || return 1
    eventually 60 is_healthy "$service" || return 1
  done
  job_is "$disturbed" RUNNING || return 1
  make_next_images || return 1
  for service in worker coordinator; do
    for id in $(compose ps -q "$service"); do
      docker stop --time 30 "$id" >/dev/null && docker rm "$id" >/dev/null || return 1
      replace_missing next "$service" || return 1
      eventually 60 is_healthy "$service" || return 1
    done
    every_container_is_of next "$service" || return 1
  done
  eventually 240 job_is "$disturbed" SUCCEEDED || return 1
  [[ $(espalier job get "$undisturbed" -o json | json model_hash) == $(espalier job get "$disturbed" -o json | json model_hash) ]]
}

# A volume with what release 0.2.0 wrote: its jobs are there, with the models that they had.
goes_on_with_an_older_folder() {
  local folder=$state/older
  rm -rf "$folder"
  mkdir -p "$folder"
  tar -C "$folder" -xJf "$root/tests/golden/data_folder/0.2.0.tar.xz" || return 1
  compose stop coordinator >>"$state/compose.log" 2>&1 || return 1
  docker run --rm -v "${project}_coordinator:/to" -v "$folder/data:/from:ro" "$base_image" \
    sh -c 'rm -rf /to/* && cp -a /from/. /to/ && chown -R 10001:10001 /to' || return 1
  compose up -d --no-build --no-recreate --no-deps coordinator >>"$state/compose.log" 2>&1 || return 1
  eventually 60 is_healthy coordinator || return 1
  [[ $(espalier job get "done" -o json | json model_hash) == $(json done.model_hash <"$folder/expected.json") ]]
}

# To this machine, by the names that it has here, and with the rights of the certificate that the container has.
dashboard_shows_jobs() {
  python3 - "$ESPALIER_DASHBOARD_PORT" <<'EOF'
import json, sys, urllib.error, urllib.request
url = f"http://127.0.0.1:{sys.argv[1]}/"

def get(path, **headers):
    with urllib.request.urlopen(urllib.request.Request(url + path, headers=headers), timeout=10) as answer:
        return answer.read()

assert b"<html" in get("").lower(), "the page"
assert "SUCCEEDED" in [job["state"] for job in json.loads(get("api/v1/jobs"))["jobs"]], "the demo job"
session = json.loads(get("api/v1/session"))
assert session["identity"]["role"] == "VIEWER" and not any(session["may"].values()), session
try:
    get("", Host="evil.example")
except urllib.error.HTTPError as error:
    assert error.code == 421, error
else:
    sys.exit("another host was taken for ours")
EOF
}

# Training that diverges fails the job, of which Prometheus tells Alertmanager.
failed_job_is_an_alert() {
  espalier job submit /usr/share/espalier/examples/digits-set.yaml --set training.optimizer.learning_rate=1e30 --wait >/dev/null && return 1
  eventually 60 alert_arrives EspalierJobFailed
}

worker_comes_back() {
  compose up -d --no-build --no-recreate --scale "worker=$workers" worker >>"$state/compose.log" 2>&1
  wait_healthy 60
}

workers_are() { [[ $(espalier worker list -o json | python3 -c '
import json, sys
print(sum(worker["state"] == "ACTIVE" for worker in json.load(sys.stdin)["workers"]))') == "$1" ]]; }

# Each has a name and a certificate of its own.
more_workers_join() {
  compose up -d --no-build --no-recreate --scale "worker=$((workers + 2))" worker >>"$state/compose.log" 2>&1
  eventually 60 workers_are $((workers + 2))
}

stranger_is_refused() {
  local answer
  answer=$(compose run --rm -T -e ESPALIER_TLS_DIR=/tls/join -v "${project}_join:/tls/join:ro" cli worker list 2>&1) && return 1
  [[ $answer == *"expected a client certificate or a token"* ]]
}

# The name that clients dial has to be in the coordinator's certificate.
edge_hands_on() {
  compose --profile edge up -d --no-build --no-recreate --scale "worker=$workers" edge >>"$state/compose.log" 2>&1 || return 1
  eventually 60 is_healthy edge || return 1
  compose run --rm -T -e ESPALIER_SERVER=edge:7070 cli worker list >/dev/null 2>>"$state/compose.log"
}

# What is no TLS gets no byte, and is ended after five seconds.
edge_hands_on_nothing_else() {
  python3 - "$ESPALIER_EDGE_PORT" <<'EOF'
import socket, sys
address, port = sys.argv[1].rsplit(":", 1)
with socket.create_connection((address, int(port)), timeout=20) as stranger:
    stranger.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    try:
        answer = stranger.recv(1)
    except ConnectionResetError:
        answer = b""
sys.exit(0 if answer == b"" else 1)
EOF
}

everything_is_in_the_audit_log() {
  # In the coordinator's volume, which the command line otherwise does not see.
  compose run --rm -T -v "${project}_coordinator:/coordinator:ro" cli audit verify /coordinator/audit 2>>"$state/compose.log"
}

clean_up() {
  local status=$?
  compose --profile edge down --volumes --remove-orphans >/dev/null 2>&1 || true
  if [[ -n ${engine_is_ours:-} && -s $state/dockerd.pid ]]; then
    kill "$(cat "$state/dockerd.pid")" 2>/dev/null || true
    rm -f "$state/dockerd.pid"
  fi
  exit "$status"
}

test_cluster() {
  local started=$SECONDS service
  project=espalier-test
  ESPALIER_PORT=17070
  ESPALIER_DASHBOARD_PORT=17080
  ESPALIER_PROMETHEUS_PORT=19090
  ESPALIER_ALERTMANAGER_PORT=19093
  export ESPALIER_EDGE_PORT=127.0.0.1:17443
  docker info >/dev/null 2>&1 || engine_is_ours=yes
  trap clean_up EXIT
  images
  check "image of the coordinator is at most $max_image_mb MB" image_is_small "espalier/coordinator:$ESPALIER_TAG"
  check "image of the workers is at most $max_image_mb MB" image_is_small "espalier/worker:$ESPALIER_TAG"
  start
  for service in "${services[@]}"; do
    check "$service is healthy without any privilege" runs_unprivileged "$service"
  done
  check "Prometheus scrapes all four processes" eventually 60 targets_are_up
  check "Prometheus has all alerts" eventually 60 alerts_are_loaded
  check "Prometheus has found Alertmanager" eventually 60 alertmanager_is_told
  check "the demo job succeeds" demo_job_succeeds
  check "a job that fails is an alert" failed_job_is_an_alert
  check "the dashboard shows it, to a viewer" dashboard_shows_jobs
  check "a job succeeds although a worker is killed" job_survives_a_killed_worker
  check "the killed worker comes back" worker_comes_back
  check "two more workers join by themselves" more_workers_join
  check "nobody is let in without a certificate" stranger_is_refused
  check "the edge hands on what is TLS" edge_hands_on
  check "the edge hands on nothing else" edge_hands_on_nothing_else
  check "the audit log is whole" everything_is_in_the_audit_log
  check "a job ends with the same model although every container is killed and gets a new image" same_model_through_kills_and_a_new_image
  check "the coordinator goes on with a folder that release 0.2.0 wrote" goes_on_with_an_older_folder
  say "all checks passed in $((SECONDS - started)) s"
}
