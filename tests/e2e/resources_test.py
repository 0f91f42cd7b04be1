"""What workers may use, what a plan needs, and what a round says it took."""

import pathlib
import re
import tempfile
import unittest

import cluster
import datasets
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

    def test_transformers_and_recommenders_are_counted(self):
        root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        datasets.write_text(root / "counting")
        datasets.write_interactions(root / "likes", 90, 60, 3)
        recommender = {
            "data": {
                "dataset": "likes",
                "interactions": {"split": "ratio"},
                "partition": {"kind": "users", "shards": 1},
            },
            "method": {"name": "dense"},
            "training": {"batch_size": 64, "local_steps": 5, "optimizer": {"kind": "adam", "learning_rate": 0.02}},
            "federation": {"rounds": 1},
        }
        jobs = [datasets.text_job(rounds=1)] + [
            recommender | {"model": {"recommender": {"users": 90, "items": 60, kind: {}}}}
            for kind in ("lightgcn", "neumf", "multvae", "autoint")
        ]
        for job in jobs:
            with self.subTest(model=job["model"]), cluster.Cluster(data_root=root) as own:
                own.add_worker("slow", arguments=["--flops-budget", "1000"])
                refused = own.cli("job", "submit", own.file(job))
                self.assertEqual(2, refused.code, refused.err)
                self.assertRegex(refused.err, "needs .* FLOPs a task")
                own.add_worker("fast")
                name = own.run(job)["name"]
                last = own.job(name)["history"][-1]
                self.assertGreater(last["train_flops"], 1000)
                self.assertGreaterEqual(last["dense_train_flops"], last["train_flops"])
                self.assertRegex(own.cli("job", "get", name).ok().out, r"training a round\s.*FLOPs")

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


def wide_job(units, **sections):
    """A job whose first layer has that many units; dense unless `sections` say otherwise."""
    model = {
        "input_features": 64,
        "layers": [{"linear": {"units": units, "activation": "relu"}}, {"linear": {"units": 10}}],
    }
    training = {"local_steps": 1, "optimizer": {"learning_rate": 0.01}}
    job = digits_job(model=model, method={"name": "dense"}, training=training)
    return job | sections


class CoordinatorMemoryTest(unittest.TestCase):
    def cluster_with(self, budget):
        arguments = ["--memory-budget", budget]
        return self.enterContext(cluster.Cluster(workers=1, coordinator=arguments))

    def peak(self, running):
        status = pathlib.Path(f"/proc/{running.coordinator.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) * 1024

    def price(self, job):
        """What the coordinator says that the job takes."""
        running = self.cluster_with("68MB")
        text = running.violations(job, "--dry-run")[0]["description"]
        amount, unit = re.search(r"needs about ([0-9.]+) ([MG])B of the coord", text).groups()
        return float(amount) * {"M": 1e6, "G": 1e9}[unit]

    def test_model_beyond_the_budget_is_refused_with_the_sum_and_the_rest_goes_on(self):
        running = self.cluster_with("4GB")
        text = running.violations(wide_job(3_000_000))[0]["description"]
        self.assertRegex(text, r"needs about 7\.\d GB of the coordinator's memory")
        self.assertIn("sums of updates", text)
        self.assertIn("120,000,000 stored weights would fit", text)
        self.assertLess(self.peak(running), 100e6)
        running.run(digits_job())

    def test_prices_hold_and_are_not_far_from_what_is_used(self):
        plain = wide_job(40_000)
        for job in (
            plain,
            plain | {"aggregation": {"server_optimizer": "adam"}},
            wide_job(400_000, method={"name": "set", "parameters": {"density": 0.1}}),
        ):
            price = self.price(job)
            running = self.cluster_with("1GB")
            idle = self.peak(running)
            running.run(job)
            used = self.peak(running) - idle
            # Transfers and the allocator have a place of their own in the budget.
            self.assertLess(used, price + 40e6)
            self.assertLess(price, 2 * used)

    def test_job_waits_for_the_memory_of_another_one(self):
        running = self.cluster_with("160MB")
        first = running.submit(wide_job(30_000, federation={"rounds": 5000}))["name"]
        running.wait_state(first, "RUNNING")
        second = running.submit(wide_job(30_000))["name"]
        waiting = cluster.eventually(
            "the second waits", lambda: running.job(second).get("conditions")
        )
        self.assertEqual(["WAITING_MEMORY"], [condition["type"] for condition in waiting])
        self.assertIn("running jobs take", waiting[0]["message"])
        self.assertIn("running jobs take", running.cli("job", "get", second).ok().out)
        running.cli("job", "cancel", first).ok()
        running.wait_state(second, "SUCCEEDED")

    def test_budget_that_is_no_number_is_a_usage_error(self):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        arguments = ["--memory-budget", "much", "--data-dir", folder]
        coordinator = self.enterContext(
            cluster.Process("espalier-coordinator", arguments, folder / "log")
        )
        self.assertEqual(64, coordinator.wait())
        self.assertIn("--memory-budget", coordinator.errors())


if __name__ == "__main__":
    unittest.main()
