"""Workers with a policy: which tasks they get, and how a policy changes."""

import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
from cluster import digits_job, eventually

ONLY_DENSE = "allow:\n  - methods: [dense]\n    datasets: [digits]\n"
ONLY_SET = "allow:\n  - methods: [set]\n"


def dense_job():
    return digits_job(method={"name": "dense"})


class PolicyTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.policy = self.folder / "policy.yaml"
        self.policy.write_text(ONLY_DENSE)
        self.cluster = self.enterContext(cluster.Cluster())

    def add_careful(self, **options):
        return self.cluster.add_worker("careful", arguments=("--policy", self.policy), **options)

    def change(self, worker, text, logged):
        """The operator writes another policy and tells the worker; returns when it has read it."""
        before = worker.errors().count(f" {logged} ")
        self.policy.write_text(text)
        worker.send(signal.SIGHUP)
        eventually(f"the worker logs {logged}", lambda: worker.errors().count(f" {logged} ") > before)

    def tasks_of(self, name):
        workers = self.cluster.cli("worker", "list", "-o", "json").ok().json["workers"]
        return next(w["tasks_completed"] for w in workers if w["name"] == f"workers/{name}")

    def condition(self, job):
        conditions = self.cluster.job(job)["conditions"]
        return conditions[0]["message"] if conditions else ""

    def test_worker_does_only_what_its_policy_allows(self):
        careful = self.add_careful()
        self.cluster.add_worker("w1")
        done = self.cluster.run(digits_job(), "--name", "sparse")
        self.assertEqual("SUCCEEDED", done["state"])
        self.assertEqual(0, self.tasks_of("careful"))
        self.assertEqual(
            [{"worker": "workers/careful", "reason": "its policy does not allow jobs of method 'set'"}],
            done["left_out_workers"],
        )
        self.cluster.run(dense_job(), "--name", "full")
        self.assertGreater(self.tasks_of("careful"), 0)
        self.assertNotIn("TASK_NOT_ALLOWED", careful.errors())

    def test_job_waits_until_a_policy_allows_it(self):
        careful = self.add_careful()
        name = self.cluster.submit(digits_job(), "--name", "sparse")["name"]
        refusal = "1 worker has data set 'digits' and does not allow jobs of method 'set'"
        eventually("the job says who refuses it", lambda: refusal in self.condition(name))
        # What has mistakes changes nothing.
        self.change(careful, "allow:\n  - metods: [set]\n", "policy_stays")
        self.assertIn('line 2: unknown field "metods"; did you mean "methods"?', careful.errors().replace('\\"', '"'))
        self.assertIn(refusal, self.condition(name))
        self.change(careful, ONLY_SET, "policy_read")
        self.assertEqual("SUCCEEDED", self.cluster.wait_state(name, "SUCCEEDED", "FAILED")["state"])
        self.assertTrue(careful.running())

    def test_policy_that_changes_ends_the_task_in_work(self):
        self.policy.write_text(ONLY_SET)
        careful = self.add_careful()
        long = digits_job(rounds=cluster.ENDLESS)
        name = self.cluster.submit(long, "--name", "long")["name"]
        self.cluster.wait_round(name, 1)
        self.change(careful, ONLY_DENSE, "policy_read")
        refusal = "1 worker has data set 'digits' and does not allow jobs of method 'set'"
        eventually("the job waits", lambda: refusal in self.condition(name))
        self.cluster.run(dense_job(), "--name", "full")
        self.change(careful, ONLY_SET, "policy_read")
        after = self.cluster.job(name)["round"]
        self.cluster.wait_round(name, after + 1)

    def test_data_sets_that_no_rule_allows_are_not_offered(self):
        root = self.folder / "data"
        for name in ("digits", "ward-7"):
            shutil.copytree(cluster.DATA / "digits", root / name)
        self.add_careful(data_root=root)
        listed = self.cluster.cli("dataset", "list", "-o", "json").ok().json["workers"]
        self.assertEqual(["digits"], [info["name"] for worker in listed for info in worker["datasets"]])
        job = dense_job()
        job["data"]["dataset"] = "ward-7"
        wrong = self.cluster.violations(job)
        self.assertEqual(["data.dataset"], [violation["field"] for violation in wrong])

    def test_submitters_are_nobody_where_users_are_not_known(self):
        self.policy.write_text("allow:\n  - submitters: [ada]\n")
        self.add_careful()
        name = self.cluster.submit(digits_job(), "--name", "sparse")["name"]
        eventually("the job waits", lambda: "does not allow jobs without an owner" in self.condition(name))

    def test_files_that_are_no_policies_end_the_worker(self):
        for text, expected in (
            ("", "found nothing"),
            ("allow:\n  - submitters: []\n", "line 2: expected at least one name"),
            ("rules: []\n", 'unknown field "rules"'),
            (None, "absent.yaml"),
        ):
            file = self.folder / ("absent.yaml" if text is None else "wrong.yaml")
            if text is not None:
                file.write_text(text)
            ended = subprocess.run(
                [cluster.BIN / "espalier-worker", "--data-root", cluster.DATA, "--policy", file],
                capture_output=True,
                text=True,
                timeout=cluster.DEADLINE_S,
                check=False,
            )
            self.assertEqual(78, ended.returncode, ended.stderr)
            self.assertIn(expected, ended.stderr.replace('\\"', '"'))


if __name__ == "__main__":
    unittest.main()
