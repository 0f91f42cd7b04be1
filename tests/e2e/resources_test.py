"""What workers may use, what a plan needs, and what a round says it took."""

import re
import unittest

import cluster
from cluster import digits_job


def planned_bytes(result):
    text = result.error["violations"][0]["description"]
    return float(re.search(r"needs ([0-9.]+) MB", text).group(1)) * 1e6


class ResourcesTest(unittest.TestCase):
    def setUp(self):
        self.cluster = self.enterContext(cluster.Cluster())

    def submit_refused(self, job):
        result = self.cluster.cli("job", "submit", self.cluster.file(job), "-o", "json")
        self.assertEqual(2, result.code, result.err)
        return result

    def test_plan_beyond_a_budget_is_refused_and_one_within_it_runs(self):
        self.cluster.add_worker("small", arguments=["--memory-budget", "8MB"])
        refused = self.submit_refused(digits_job())
        self.assertRegex(refused.err, r"on workers/small it needs .* more than its 8\.0 MB")
        self.cluster.add_worker("large", arguments=["--memory-budget", "1GB"])
        job = self.cluster.run(digits_job())
        measured = int(job["history"][-1]["worker_peak_memory_bytes"])
        self.assertLess(measured, 1.3 * planned_bytes(refused))
        listed = self.cluster.cli("worker", "list").ok().out
        self.assertIn("of 8.0 MB", listed)
        done = {line.split("\t")[0]: line.split("\t")[3] for line in listed.splitlines()}
        self.assertEqual("0", done["workers/small"])

    def test_compute_budget_counts_one_task(self):
        self.cluster.add_worker("slow", arguments=["--flops-budget", "1000"])
        self.assertRegex(self.submit_refused(digits_job()).err, "needs .* FLOPs a task")

    def test_budget_that_is_no_number_is_a_usage_error(self):
        worker = self.cluster.enter_context(
            cluster.Process(
                "espalier-worker",
                ["--memory-budget", "much"],
                self.cluster.folder / "much.log",
            )
        )
        self.assertEqual(64, worker.wait())
        self.assertIn("--memory-budget", worker.errors())

    def test_round_reports_flops_layers_churn_memory_and_time(self):
        self.cluster.add_worker("w1")
        sparse = self.cluster.run(digits_job())["history"]
        dense = self.cluster.run(digits_job(method={"name": "dense"}))["history"]
        last, twin = sparse[-1], dense[-1]
        self.assertEqual(twin["train_flops"], twin["dense_train_flops"])
        self.assertEqual(twin["train_flops"], last["dense_train_flops"])
        self.assertAlmostEqual(0.2, last["train_flops"] / last["dense_train_flops"], 2)
        self.assertEqual(
            [("layers.0.weight", 6400), ("layers.1.weight", 1000)],
            [(layer["name"], int(layer["size"])) for layer in last["layers"]],
        )
        active = sum(int(layer["active"]) for layer in last["layers"])
        self.assertEqual(int(last["active_weights"]), active)
        self.assertGreater(int(sparse[0]["weights_changed"]), 0)
        self.assertGreater(int(last["worker_peak_memory_bytes"]), 0)
        self.assertGreater(float(last["compute_time"].rstrip("s")), 0)
        shown = self.cluster.cli("job", "get", self.cluster.run(digits_job())["name"]).ok().out
        self.assertRegex(shown, r"training a round\s.*FLOPs, 2\d(\.\d+)? ?% of dense")


if __name__ == "__main__":
    unittest.main()
