"""Every kind of job goes on when its coordinator is killed: the same model, the same events.

    kills_test.py                                             a few kills of each kind of job
    ESPALIER_KILLS=200 tests/e2e/durable/kills_test.py        so many in all, with a report
"""

import os
import pathlib
import random
import statistics
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
import datasets
import lives
import pruning_test
import recommender_test
from cluster import digits_job
from lives import Lives, history

KILLS = int(os.environ.get("ESPALIER_KILLS", "0"))
KILLS_OF_A_JOB = max(3, KILLS // 5)
JOB_S = lives.JOB_S + 2 * KILLS_OF_A_JOB


def fedtiny_job():
    job = digits_job(40, method={"name": "fedtiny", "parameters": {"density": 0.2, "pool_size": 4, "update_every": 3, "stop_round": 20}})
    # It selects by the statistics of batch normalisation.
    job["model"]["layers"] = [
        {"linear": {"units": 60}},
        {"batch_norm": {"activation": "relu"}},
        {"linear": {"units": 10}},
    ]
    return job


def imp_job():
    return digits_job(6, method={"name": "imp", "parameters": {"levels": 3, "rewind_round": 1}})


class KillsTest(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.random = random.Random(self.id())

    def cluster(self, workers=2, data_root=cluster.DATA, **options):
        own = self.enterContext(Lives(data_root=data_root, **options))
        for i in range(workers):
            name = f"w{i + 1}"
            own.add_worker(name, arguments=("--state-dir", own.folder / name))
        return own

    def killed_again_and_again(self, job, **options):
        """The same model and the same events, however often the coordinator is killed."""
        calm = self.cluster(**options)
        expected = calm.run(job)
        calm_events = calm.events(expected["name"])
        calm.close()
        own = self.cluster(**options)
        name = own.submit(job, "--name", expected["name"].removeprefix("jobs/"))["name"]
        kills = 0
        while kills < KILLS_OF_A_JOB or own.job(name)["state"] == "RUNNING":
            # Not a wait for something: the moment of the kill is drawn.
            time.sleep(self.random.uniform(0, 0.4))
            if kills < KILLS_OF_A_JOB:
                own.kill_coordinator()
                own.start_again()
                kills += 1
        done = own.wait_state(name, "SUCCEEDED", "FAILED", "CANCELLED", seconds=JOB_S)
        self.assertEqual("SUCCEEDED", done["state"], done["failure_message"])
        self.assertEqual(expected["model_hash"], done["model_hash"])
        self.assertEqual(history(calm_events), history(own.events(name)))
        if KILLS:
            times = sorted(own.recoveries)
            print(
                f"{self._testMethodName}: {kills} kills, back after p50 {statistics.median(times):.3f} s, "
                f"p99 {times[int(0.99 * len(times))]:.3f} s",
                flush=True,
            )

    def test_promise_1_set(self):
        self.killed_again_and_again(digits_job(150))

    def test_promise_1_fedtiny(self):
        self.killed_again_and_again(fedtiny_job())

    def test_promise_1_imp_with_runs_side_by_side(self):
        self.killed_again_and_again(imp_job())

    def test_promise_1_dsl_with_private_rows(self):
        datasets.write_interactions(self.root / "likes", recommender_test.USERS, recommender_test.ITEMS, recommender_test.TASTES)
        self.killed_again_and_again(recommender_test.job(rounds=100, private=True), workers=3, data_root=self.root)

    def test_promise_1_dsnot_on_a_language_model(self):
        pruning_test.write_model(self.root / "models" / "tiny")
        pruning_test.write_text(self.root / "data" / "words")
        job = self.root / "job.yaml"
        job.write_text(pruning_test.JOB.format(method="dsnot", shards=3, parameters="sparsity: 0.5"))
        self.killed_again_and_again(
            job, data_root=self.root / "data", coordinator=("--models", self.root / "models")
        )


if __name__ == "__main__":
    unittest.main()
