"""What Prometheus scrapes from both processes, and the page about it."""

import re
import subprocess
import unittest
import urllib.request

import cluster
from cluster import digits_job, eventually

PAGE = cluster.SOURCE / "docs/metrics.md"


def scrape(address):
    with urllib.request.urlopen(
        f"http://{address}/metrics", timeout=cluster.DEADLINE_S
    ) as response:
        return response.read().decode()


def series(text):
    """{'name{labels}': value} of an exposition."""
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def described():
    """Rows of the generated page: (name, type, process, {label: values})."""
    text = subprocess.run(
        [cluster.BIN / "espalier-coordinator", "--describe-metrics"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for row in re.findall(r"^\| `(\w+)` \| (\w+) \| (\w+) \| (.*?) \| ", text, re.M):
        name, kind, process, labels = row
        yield name, kind, process, {
            label: values.split(", ") for label, values in re.findall(r"`(\w+)`: ([^;]*)", labels)
        }


class MetricsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.enterClassContext(cluster.Cluster(workers=1))
        cls.addresses = {
            "coordinator": cls.cluster.metrics,
            "worker": cls.cluster.workers["w1"].metrics,
        }
        cls.fresh = {role: scrape(address) for role, address in cls.addresses.items()}
        cls.job = cls.cluster.run(digits_job(3))

    def test_page_is_up_to_date(self):
        text = subprocess.run(
            [cluster.BIN / "espalier-coordinator", "--describe-metrics"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        self.assertEqual(
            text, PAGE.read_text(), "write it anew: espalier-coordinator --describe-metrics"
        )

    def test_promtool_finds_no_fault(self):
        for role, address in self.addresses.items():
            for text in (self.fresh[role], scrape(address)):
                checked = subprocess.run(
                    ["promtool", "check", "metrics"],
                    input=text,
                    text=True,
                    capture_output=True,
                    check=False,
                )
                complaints = [
                    line
                    for line in (checked.stdout + checked.stderr).splitlines()
                    if line
                ]
                self.assertEqual([], complaints, role)
                self.assertIn(
                    checked.returncode, (0, 3), "3: only lint warnings, which are judged above"
                )

    def test_every_metric_of_the_catalogue_is_there_from_the_start(self):
        rows = list(described())
        self.assertGreater(len(rows), 20)
        for name, kind, process, labels in rows:
            for role, text in self.fresh.items():
                if process not in (role, "both"):
                    self.assertNotIn(f"# TYPE {name} ", text, role)
                    continue
                self.assertIn(f"# TYPE {name} {kind}\n", text, role)
                self.assertIn(f"# HELP {name} ", text, role)
                for label, values in labels.items():
                    for value in values if label != "version" else []:
                        self.assertRegex(
                            text, rf'(?m)^{name}(_count)?\{{[^}}]*{label}="{value}"', role
                        )

    def test_nothing_outside_the_catalogue_is_exported(self):
        known = {name for name, *_ in described()}
        for role, text in self.fresh.items():
            exported = set(re.findall(r"^# TYPE (\w+) ", text, re.M))
            self.assertEqual(set(), exported - known, role)

    def test_values_follow_what_happened(self):
        eventually(
            "the gauges were set",
            lambda: series(scrape(self.cluster.metrics))['espalier_jobs{state="succeeded"}'] == 1,
        )
        values = series(scrape(self.cluster.metrics))
        self.assertEqual(1, values['espalier_workers{state="active"}'])
        self.assertEqual(3, values['espalier_rounds_total{outcome="committed"}'])
        self.assertEqual(0, values['espalier_rounds_total{outcome="quorum_lost"}'])
        # 3 rounds of 3 participants and a central evaluation.
        self.assertEqual(12, values['espalier_updates_total{result="accepted"}'])
        self.assertEqual(0, values['espalier_updates_total{result="rejected"}'])
        self.assertGreater(values["espalier_round_last_commit_timestamp_seconds"], 1.6e9)
        self.assertGreater(values["espalier_blob_bytes_total"], 0)
        actual, dense = (
            values[f'espalier_update_bytes_total{{kind="{kind}"}}']
            for kind in ("actual", "dense_equivalent")
        )
        self.assertLess(actual, 0.3 * dense)
        self.assertGreater(actual, 0)
        self.assertEqual(1, values['espalier_rpc_handled_total{code="ok",method="CreateJob"}'])
        self.assertEqual(3, values['espalier_round_phase_duration_seconds_count{phase="train"}'])
        checkpoint = (
            self.cluster.cli("checkpoint", "list", "-o", "json").ok().json["checkpoints"][0]
        )
        self.assertEqual(int(checkpoint["size_bytes"]), values["espalier_checkpoint_bytes"])

    def test_worker_counts_its_work(self):
        values = series(scrape(self.addresses["worker"]))
        self.assertEqual(1, values["espalier_worker_connected"])
        self.assertEqual(9, values['espalier_worker_tasks_total{kind="train",outcome="done"}'])
        self.assertEqual(3, values['espalier_worker_tasks_total{kind="evaluate",outcome="done"}'])
        self.assertEqual(3 * 1437, values['espalier_worker_examples_total{kind="train"}'])
        self.assertEqual(3 * 360, values['espalier_worker_examples_total{kind="evaluate"}'])
        self.assertEqual(
            int(self.job["stored_parameters"]), values["espalier_worker_active_weights"]
        )
        for direction in ("fetched", "submitted"):
            self.assertGreater(
                values[f'espalier_worker_transfer_bytes_total{{direction="{direction}"}}'], 0
            )
        eventually(
            "the next heartbeat tells the memory",
            lambda: series(scrape(self.addresses["worker"]))["espalier_worker_peak_memory_bytes"]
            > 1_000_000,
        )

    def test_refused_calls_are_counted(self):
        def count():
            return series(scrape(self.cluster.metrics))[
                'espalier_rpc_handled_total{code="not_found",method="GetJob"}'
            ]

        before = count()
        self.cluster.cli("job", "get", "nobody")
        eventually("the call is counted", lambda: count() == before + 1)


if __name__ == "__main__":
    unittest.main()
