"""Prometheus and Alertmanager beside a cluster of a test, with the files of deploy/, in which addresses and times alone are others."""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request

import yaml

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
from cluster import eventually

DEPLOY = cluster.SOURCE / "deploy"
INTERVAL = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
SECONDS = {"s": 1, "m": 60, "h": 3600}


class Haste:
    """Rules with shorter times: every `for:`, every range and every limit of a time that has passed is divided by `divisor`, and none
    is longer than `longest` seconds. Nothing else of a rule changes: no number, no label, no operator."""

    def __init__(self, divisor=1, longest=86400):
        self.divisor = divisor
        self.longest = longest

    def _seconds(self, number, unit="s"):
        return min(int(number) * SECONDS[unit] / self.divisor, self.longest)

    def duration(self, text):
        return re.sub(r"(\d+)([smh])", lambda found: f"{round(1000 * self._seconds(*found.groups()))}ms", text)

    def expression(self, text):
        text = re.sub(r"(?<=\[)\d+[smh](?=\])", lambda found: self.duration(found[0]), text)
        return re.sub(r"^(time\(\) - .* > )(\d+)$", lambda found: f"{found[1]}{self._seconds(found[2]):g}", text)

    def rules(self, text):
        content = yaml.safe_load(text)
        for rule in (rule for group in content["groups"] for rule in group["rules"]):
            rule["expr"] = self.expression(rule["expr"])
            if "for" in rule:
                rule["for"] = self.duration(rule["for"])
        return yaml.safe_dump(content)


class Server(contextlib.ExitStack):
    """A program that serves HTTP and writes its address into its log, until the context ends."""

    def __init__(self, program, *arguments):
        super().__init__()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self._command = [program, "--web.listen-address=127.0.0.1:0", *arguments]

    def start(self):
        log = self.folder / "log"
        with open(log, "wb") as stderr:
            process = subprocess.Popen([*self._command], stderr=stderr, cwd=self.folder, preexec_fn=cluster.die_with_parent)
        self.callback(process.wait)
        self.callback(process.kill)

        def address():
            assert process.poll() is None, log.read_text()
            return re.search(r'"Listening on" address=(\S+)', log.read_text())

        self.address = eventually(f"{self._command[0]} listens", address)[1]
        eventually(f"{self._command[0]} is ready", self._ready)

    def _ready(self):
        with contextlib.suppress(urllib.error.URLError):
            return self.get("-/ready")
        return None

    def get(self, path, **query):
        address = f"http://{self.address}/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(address, timeout=cluster.DEADLINE_S) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            if error.code == 503:
                raise
            raise AssertionError(f"{query}: {error.read().decode()}") from error


class Prometheus(Server):
    """As in the cluster of containers; `targets` are set by the test, as {job: [address]}."""

    def __init__(self, haste=None, alertmanager=None, **targets):
        super().__init__("prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data")
        haste = haste or Haste()
        config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
        config["global"] = INTERVAL
        config["rule_files"] = [pathlib.Path(file).name for file in config["rule_files"]]
        for name in config["rule_files"]:
            (self.folder / name).write_text(haste.rules((DEPLOY / "prometheus/rules" / name).read_text(encoding="utf-8")))
        managers = [{"targets": [alertmanager]}] if alertmanager else []
        config["alerting"]["alertmanagers"] = [{"static_configs": managers}]
        for job in config["scrape_configs"]:
            for key in [key for key in job if key.endswith("_sd_configs") or key == "static_configs"]:
                del job[key]
            job["file_sd_configs"] = [{"files": [f"{job['job_name']}.json"], "refresh_interval": "1s"}]
            self.scrape(job["job_name"], *targets.get(job["job_name"].removeprefix("espalier-"), ()))
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    def __enter__(self):
        super().__enter__()
        self.start()
        return self

    def scrape(self, job, *addresses):
        """From now on these are what there is of a job."""
        file = self.folder / f"{job}.json"
        whole = file.with_suffix(".new")
        whole.write_text(json.dumps([{"targets": list(addresses)}]))
        os.replace(whole, file)

    def query(self, expression):
        answer = json.loads(self.get("api/v1/query", query=expression))
        assert answer["status"] == "success" and not answer.get("warnings"), answer
        return answer["data"]["result"]

    def firing(self):
        alerts = json.loads(self.get("api/v1/alerts"))["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


class Alertmanager(Server):
    """With the configuration of the cluster of containers."""

    def __init__(self):
        super().__init__("prometheus-alertmanager", f"--config.file={DEPLOY / 'alertmanager/alertmanager.yml'}", "--storage.path=data",
                         "--cluster.listen-address=")

    def __enter__(self):
        super().__enter__()
        self.start()
        return self

    def alerts(self):
        """{name: alert} of those that are active."""
        return {alert["labels"]["alertname"]: alert for alert in json.loads(self.get("api/v2/alerts"))}
