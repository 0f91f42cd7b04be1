"""Every kind of job goes on when its coordinator is killed: the same model, the same events.

    kills_test.py                                             a few kills of each kind of job
    ESPALIER_KILLS=200 tests/e2e/durable/kills_test.py        so many of coordinators and as many of workers, with a report
"""

import os
import pathlib
import random
import signal
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
            self.start_worker(own, f"w{i + 1}")
        return own

    def start_worker(self, own, name, **options):
        own.add_worker(name, arguments=("--state-dir", own.folder / name), **options)

    def kill_worker(self, own):
        name = self.random.choice(sorted(own.workers))
        own.workers[name].send(signal.SIGKILL)
        own.workers[name].wait()
        self.start_worker(own, name, wait=False)

    def killed_again_and_again(self, job, **options):
        """The same model and the same events, however often coordinator and workers are killed."""
        calm = self.cluster(**options)
        expected = calm.run(job)
        calm_events = calm.events(expected["name"])
        calm.close()
        own = self.cluster(**options)
        name = expected["name"]
        kills = jobs = 0
        while kills < KILLS_OF_A_JOB:
            own.submit(job, "--name", name.removeprefix("jobs/"))
            kills += self.disturb(own, name, KILLS_OF_A_JOB - kills)
            done = own.wait_state(name, "SUCCEEDED", "FAILED", "CANCELLED", seconds=JOB_S)
            self.assertEqual("SUCCEEDED", done["state"], done["failure_message"])
            self.assertEqual(expected["model_hash"], done["model_hash"])
            self.assertEqual(history(calm_events), history(own.events(name)))
            own.cli("job", "delete", name, "--checkpoints").ok()
            jobs += 1
        if KILLS:
            times = sorted(own.recoveries)
            print(
                f"{self._testMethodName}: {jobs} jobs, {kills} coordinators and {kills} workers killed, coordinator back after "
                f"p50 {statistics.median(times):.3f} s, p99 {times[int(0.99 * len(times))]:.3f} s",
                flush=True,
            )

    def disturb(self, own, name, most):
        """Kills a worker and the coordinator at drawn moments while the job is in work, so often at most."""
        kills = 0
        while kills < most and own.job(name)["state"] in ("PENDING", "RUNNING"):
            # Not a wait for something: the moments of the kills are drawn.
            time.sleep(self.random.uniform(0, 0.2))
            self.kill_worker(own)
            time.sleep(self.random.uniform(0, 0.2))
            kills += own.job(name)["state"] in ("PENDING", "RUNNING")
            own.kill_coordinator()
            own.start_again()
        return kills

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
