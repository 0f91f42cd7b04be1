#!/usr/bin/env python3
"""Makes the boards of dashboards/ from what is below: run it after a change. tests/e2e/operations/boards_test.py keeps them equal.

A board is rows of panels that fill one screen, and its first row says in numbers whether all is well. Number RC is the panel in
column C of row R; alerts link to it, so a panel that moves takes the links of deploy/prometheus/rules/alerts.yml with it.
"""

import dataclasses
import json
import pathlib

FOLDER = pathlib.Path(__file__).parent / "dashboards"
DATASOURCE = {"type": "prometheus", "uid": "espalier-prometheus"}
COLUMNS = 24
WORKER = 'instance=~"$worker"'


@dataclasses.dataclass
class Panel:
    """One picture: expressions with their legends, and where a number begins to worry."""

    title: str
    meaning: str
    queries: dict
    unit: str = "short"
    limits: tuple = ()  # (yellow, red): from where on; falling numbers worry where the second is the smaller one
    words: dict = dataclasses.field(default_factory=dict)  # what a value is called

    def json(self, kind, number, place):
        targets = [
            {"refId": chr(ord("A") + index), "expr": expression, "legendFormat": legend, "datasource": DATASOURCE}
            for index, (expression, legend) in enumerate(self.queries.items())
        ]
        defaults = {"unit": self.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": self._steps()}}
        if self.words:
            texts = {str(value): {"text": text} for value, text in self.words.items()}
            defaults["mappings"] = [{"type": "value", "options": texts}]
        if kind == "stat":
            options = {"colorMode": "background", "graphMode": "none", "reduceOptions": {"calcs": ["lastNotNull"]}}
            defaults |= {"color": {"mode": "thresholds"}, "noValue": "none"}
        else:
            options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
            defaults["custom"] = {"fillOpacity": 10, "lineWidth": 1, "thresholdsStyle": {"mode": "line" if self.limits else "off"}}
        return {
            "id": number, "type": kind, "title": self.title, "description": self.meaning, "gridPos": place, "datasource": DATASOURCE,
            "targets": targets, "fieldConfig": {"defaults": defaults, "overrides": []}, "options": options,
        }

    def _steps(self):
        if not self.limits:
            return [{"color": "green", "value": None}]
        yellow, red = self.limits
        if yellow <= red:
            steps = [("green", None), ("yellow", yellow), ("red", red)]
        else:
            steps = [("red", None), ("yellow", red), ("green", yellow)]
        return [{"color": color, "value": value} for color, value in steps]


@dataclasses.dataclass
class Board:
    """A first row of numbers, and rows of curves below it."""

    uid: str
    title: str
    meaning: str
    rows: list
    variables: list = dataclasses.field(default_factory=list)

    def panels(self):
        top = 0
        for row, panels in enumerate(self.rows, 1):
            kind, height = ("stat", 4) if row == 1 else ("timeseries", 8)
            width = COLUMNS // len(panels)
            for column, panel in enumerate(panels, 1):
                place = {"x": (column - 1) * width, "y": top, "w": width, "h": height}
                yield panel.json(kind, 10 * row + column, place)
            top += height

    def text(self):
        """The file of the board: one panel a line, so that a change is a line."""
        board = {
            "uid": self.uid, "title": self.title, "description": self.meaning, "tags": ["espalier"], "editable": False,
            "schemaVersion": 39, "version": 1, "refresh": "10s", "time": {"from": "now-1h", "to": "now"}, "timezone": "browser",
            "links": [{"type": "dashboards", "title": "Boards", "tags": ["espalier"], "keepTime": True}],
            "templating": {"list": self.variables}, "annotations": {"list": [alerts()]},
        }
        head = "".join(f"  {json.dumps(name)}: {json.dumps(value)},\n" for name, value in board.items())
        panels = ",\n".join(f"    {json.dumps(panel)}" for panel in self.panels())
        return f'{{\n{head}  "panels": [\n{panels}\n  ]\n}}\n'


def alerts():
    """Marks on all curves where an alert fired."""
    return {
        "name": "Alerts", "enable": True, "iconColor": "red", "datasource": DATASOURCE,
        "expr": 'ALERTS{alertname=~"Espalier.*", alertstate="firing"}', "titleFormat": "{{alertname}}",
    }


def workers():
    """The choice of workers at the top of their board."""
    query = 'label_values(up{job="espalier-worker"}, instance)'
    return {
        "name": "worker", "label": "Worker", "type": "query", "datasource": DATASOURCE, "definition": query,
        "query": {"query": query, "refId": "workers"}, "refresh": 2, "sort": 3, "multi": True, "includeAll": True, "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def rate(metric, by, matchers=""):
    """Events a second over what one point of a curve stands for."""
    return f"sum by ({by}) (rate({metric}{{{matchers}}}[$__rate_interval]))"


def lately(metric, matchers=""):
    """How many in the last quarter of an hour, which is the time that alerts look back."""
    return f"sum(increase({metric}{{{matchers}}}[15m]))"


FLEET = Board(
    "espalier-fleet", "Espalier: fleet", "Whether jobs move, who works on them, and what they wait for.",
    [
        [
            Panel("Coordinators that answer", "Scrapes that succeed; one is enough.",
                  {'sum(up{job="espalier-coordinator"}) or vector(0)': ""}, limits=(1, 0.5)),
            Panel("Working coordinator", "The one that has the lease; the others stand by.",
                  {"max(espalier_coordinator_active)": ""}, limits=(1, 0.5), words={0: "all stand by", 1: "works"}),
            Panel("Workers that take tasks", "Connected, not drained and not in quarantine.",
                  {'sum(espalier_workers{state="active"})': ""}, limits=(1, 0.5)),
            Panel("Jobs that wait", "Jobs that have not ended and do not move; below is why.",
                  {"sum(espalier_jobs_waiting)": ""}, limits=(1, 100)),
            Panel("Jobs that failed", "In the last 15 minutes.", {lately("espalier_job_failures_total"): ""}, limits=(0.5, 10)),
            Panel("Alerts", "That fire now.", {'count(ALERTS{alertname=~"Espalier.*", alertstate="firing"}) or vector(0)': ""}, limits=(1, 3)),
        ],
        [
            Panel("Jobs", "By state.", {'sum by (state) (espalier_jobs{state!~"succeeded|cancelled"})': "{{state}}"}),
            Panel("What jobs wait for", "By the condition that `espalier job get` shows.",
                  {"sum by (condition) (espalier_jobs_waiting)": "{{condition}}"}),
            Panel("Time without progress", "Of the job that has made none for longest. None where no job runs.",
                  {"max(time() - (espalier_jobs_oldest_progress_timestamp_seconds > 0))": "oldest"}, unit="s", limits=(900, 2700)),
            Panel("Failures of jobs", "In the last 15 minutes, by reason.",
                  {"sum by (reason) (increase(espalier_job_failures_total[15m])) > 0": "{{reason}}"}),
        ],
        [
            Panel("Workers", "By state, as the coordinator sees them.", {"sum by (state) (espalier_workers)": "{{state}}"}),
            Panel("Tasks", "Those that wait for a worker, and those that one has.", {"sum by (state) (espalier_tasks)": "{{state}}"}),
            Panel("Programs that answer scrapes", "And all that should.",
                  {'sum by (job) (up{job=~"espalier-.*"})': "{{job}}", 'count by (job) (up{job=~"espalier-.*"})': "{{job}} wanted"}),
            Panel("Versions", "How many programs run each; two in the middle of an upgrade.",
                  {"count by (version) (espalier_build_info)": "{{version}}"}),
        ],
    ],
)

ROUNDS = Board(
    "espalier-rounds", "Espalier: round pipeline", "How rounds go from training to a checkpoint, and what holds them up.",
    [
        [
            Panel("Rounds a second", "Committed ones, in the last 5 minutes.", {"sum(instance:espalier_rounds:rate5m)": ""}, unit="ops"),
            Panel("Since the last round", "Of any job.", {"time() - max(espalier_round_last_commit_timestamp_seconds > 0)": ""}, unit="s",
                  limits=(900, 2700)),
            Panel("Refused results", "Share of all results in the last 5 minutes.",
                  {"max(instance:espalier_updates_rejected:ratio_rate5m)": ""}, unit="percentunit", limits=(0.01, 0.05)),
            Panel("Missed quorums", "In the last 15 minutes.", {lately("espalier_quorum_missed_total"): ""}, limits=(0.5, 2)),
            Panel("Leases lost", "Workers that vanished with a task, in the last 15 minutes.",
                  {lately("espalier_lease_expirations_total"): ""}, limits=(0.5, 5)),
            Panel("Checkpoints that failed", "In the last 15 minutes.", {lately("espalier_checkpoint_failures_total"): ""}, limits=(0.5, 0.5)),
        ],
        [
            Panel("Rounds", "A second, by how they ended.", {rate("espalier_rounds_total", "outcome"): "{{outcome}}"}, unit="ops"),
            Panel("Phases of a round", "95 of 100 took no longer.",
                  {"instance_phase:espalier_round_phase_duration_seconds:p95_5m": "{{phase}}"}, unit="s"),
            Panel("Results", "A second, by what became of them.", {rate("espalier_updates_total", "result"): "{{result}}"}, unit="ops"),
            Panel("Why results are refused", "A second, by reason.",
                  {rate("espalier_update_rejections_total", "reason") + " > 0": "{{reason}}"}, unit="ops"),
        ],
        [
            Panel("Deadlines without a quorum", "In the last 15 minutes, by what followed.",
                  {"sum by (decision) (increase(espalier_quorum_missed_total[15m]))": "{{decision}}"}),
            Panel("Workers that vanish and come back", "In the last 15 minutes.",
                  {lately("espalier_lease_expirations_total"): "leases lost", lately("espalier_reconnects_total"): "registered again"}),
            Panel("Against dense models", "Bytes of results and operations of training, as a share of what dense models take.",
                  {"instance:espalier_update_bytes:ratio_rate5m": "bytes", "instance:espalier_train_flops:ratio_rate5m": "operations"},
                  unit="percentunit"),
            Panel("Checkpoints and aggregation", "95 of 100 took no longer.",
                  {f"histogram_quantile(0.95, {rate(f'espalier_{what}_duration_seconds_bucket', 'le')})": what
                   for what in ("checkpoint", "aggregation")}, unit="s"),
        ],
    ],
)

COORDINATOR = Board(
    "espalier-coordinator", "Espalier: coordinator internals", "What the coordinator's process has, and what it refuses.",
    [
        [
            Panel("Core", "Share of the time in which its one thread is busy.", {"max(instance:espalier_core_busy:ratio_rate5m)": ""},
                  unit="percentunit", limits=(0.5, 0.8)),
            Panel("Disk", "Share of the data folder's disk that is left.",
                  {"min(espalier_data_dir_free_bytes / espalier_data_dir_size_bytes)": ""}, unit="percentunit", limits=(0.2, 0.1)),
            Panel("Descriptors", "Share that is in use.",
                  {'max(process_open_fds{job="espalier-coordinator"} / process_max_fds)': ""}, unit="percentunit", limits=(0.5, 0.8)),
            Panel("Certificates", "The first to end, of coordinator, authority for workers and list of revoked ones.",
                  {'min((espalier_certificate_expiry_timestamp_seconds{role!="worker"} > 0) - time())': ""}, unit="s",
                  limits=(30 * 86400, 14 * 86400)),
            Panel("Unheard probes", "Times that it did not hear itself, in the last 15 minutes.",
                  {lately("espalier_self_probe_failures_total"): ""}, limits=(0.5, 2)),
            Panel("Audit log", "Faults in the last 15 minutes.", {lately("espalier_audit_faults_total"): ""}, limits=(0.5, 0.5)),
        ],
        [
            Panel("Calls", "A second, by method.", {rate("espalier_rpc_handled_total", "method") + " > 0": "{{method}}"}, unit="ops"),
            Panel("Slow calls", "99 of 100 took no longer.",
                  {"instance_method:espalier_rpc_duration_seconds:p99_5m > 0": "{{method}}"}, unit="s"),
            Panel("Calls that failed", "A second, by code.",
                  {rate("espalier_rpc_handled_total", "code", 'code!="ok"') + " > 0": "{{code}}"}, unit="ops"),
            Panel("Refused at the door", "A second: connections, TLS handshakes, calls without the right, calls beyond a limit.",
                  {rate(f"espalier_{what}_total", "reason") + " > 0": what.replace("_", " ") + ": {{reason}}"
                   for what in ("connections_refused", "tls_handshakes_failed", "calls_refused", "calls_limited")}, unit="ops"),
        ],
        [
            Panel("Executors", "Share of the time; the pool has many threads and may have more than 100 %.",
                  {rate("espalier_executor_task_duration_seconds_sum", "executor"): "{{executor}}"}, unit="percentunit"),
            Panel("Queues", "Functions that wait for an executor.", {"sum by (executor) (espalier_executor_queue_length)": "{{executor}}"}),
            Panel("Memory", "Resident.", {'process_resident_memory_bytes{job="espalier-coordinator"}': "{{instance}}"}, unit="bytes"),
            Panel("Log", "Lines a second, by level; those of the audit log beside them.",
                  {rate("espalier_log_messages_total", "level", 'job="espalier-coordinator"'): "{{level}}",
                   rate("espalier_audit_entries_total", "outcome"): "audit {{outcome}}"}, unit="ops"),
        ],
    ],
)

WORKERS = Board(
    "espalier-worker", "Espalier: worker", "What workers compute and send, and what their machines give them.",
    [
        [
            Panel("Without a coordinator", "Chosen workers that are not registered.",
                  {f"count(espalier_worker_connected{{{WORKER}}}) - sum(espalier_worker_connected{{{WORKER}}})": ""}, limits=(1, 2)),
            Panel("Not scraped", "Chosen workers that do not answer.",
                  {f'count(up{{job="espalier-worker", {WORKER}}}) - sum(up{{job="espalier-worker", {WORKER}}})': ""}, limits=(1, 2)),
            Panel("Tasks that failed", "In the last 15 minutes.",
                  {lately("espalier_worker_tasks_total", f'outcome="failed", {WORKER}'): ""}, limits=(0.5, 5)),
            Panel("oneDNN failures", "In the last 15 minutes; the slow reference computed instead.",
                  {lately("espalier_worker_onednn_failures_total", WORKER): ""}, limits=(0.5, 0.5)),
            Panel("Certificate", "The first to end; workers renew theirs by themselves.",
                  {f'min((espalier_certificate_expiry_timestamp_seconds{{role="worker", {WORKER}}} > 0) - time())': ""}, unit="s",
                  limits=(2 * 86400, 86400)),
            Panel("Largest memory", "Of all chosen workers, at its most.", {f"max(espalier_worker_peak_memory_bytes{{{WORKER}}})": ""},
                  unit="bytes"),
        ],
        [
            Panel("Tasks", "A second, by how they ended.", {rate("espalier_worker_tasks_total", "outcome", WORKER): "{{outcome}}"}, unit="ops"),
            Panel("Time a task", "95 of 100 took no longer, by kind.",
                  {f"histogram_quantile(0.95, {rate('espalier_worker_task_duration_seconds_bucket', 'le, kind', WORKER)}) >= 0": "{{kind}}"},
                  unit="s"),
            Panel("Examples", "A second.", {rate("espalier_worker_examples_total", "instance", WORKER): "{{instance}}"}, unit="ops"),
        ],
        [
            Panel("Transfers", "Bytes a second.",
                  {rate("espalier_worker_transfer_bytes_total", "direction", WORKER): "{{direction}}"}, unit="Bps"),
            Panel("Active weights", "Of the model in work.", {f"espalier_worker_active_weights{{{WORKER}}}": "{{instance}}"}),
            Panel("Memory", "Resident.", {f'process_resident_memory_bytes{{job="espalier-worker", {WORKER}}}': "{{instance}}"}, unit="bytes"),
            Panel("Processors", "How many each keeps busy.",
                  {rate("process_cpu_seconds_total", "instance", f'job="espalier-worker", {WORKER}'): "{{instance}}"}),
        ],
    ],
    [workers()],
)

BOARDS = (FLEET, ROUNDS, COORDINATOR, WORKERS)


def main():
    for board in BOARDS:
        (FOLDER / f"{board.uid}.json").write_text(board.text(), encoding="utf-8")


if __name__ == "__main__":
    main()
