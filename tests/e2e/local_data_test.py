"""Workers that train on their own files: every worker is a participant with its own rows."""

import pathlib
import signal
import tempfile
import unittest

import cluster
import datasets
from cluster import eventually

ROWS = {"north": 200, "south": 100, "west": 60}
LOCAL = {"dataset": "mine", "partition": {"kind": "local"}}


def local_job(rounds, **federation):
    return datasets.csv_job(
        rounds,
        data=LOCAL,
        federation={"rounds": rounds} | federation,
        evaluation={"federated": True},
    )


class LocalDataTest(unittest.TestCase):
    def setUp(self):
        root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.cluster = self.enterContext(cluster.Cluster())
        for seed, (name, rows) in enumerate(ROWS.items()):
            datasets.write_csv(root / name / "mine", rows=rows, seed=seed)
            self.cluster.add_worker(name, data_root=root / name)

    def test_every_worker_takes_part_with_its_rows(self):
        job = self.cluster.run(local_job(5))
        for summary in job["history"]:
            self.assertEqual(len(ROWS), int(summary["participants"]))
            self.assertEqual(sum(ROWS.values()), int(summary["examples"]))
            self.assertIn("federated_test_accuracy", summary)
        self.assertEqual(job["model_hash"], self.cluster.run(local_job(5))["model_hash"])

    def test_round_closes_without_a_lost_worker(self):
        name = self.cluster.submit(local_job(2000, quorum=0.6, round_deadline="1s"))["name"]
        self.cluster.wait_round(name, 2)
        self.cluster.workers["west"].send(signal.SIGKILL)
        eventually("the worker is lost", lambda: self.cluster.worker_states()["west"] == "LOST")
        lost_at = self.cluster.job(name)["round"]
        job = self.cluster.wait_round(name, lost_at + 2)
        self.assertEqual("STATE_RUNNING", job["state"], job["failure_message"])
        last = job["history"][-1]
        self.assertEqual(2, int(last["participants"]))
        self.assertEqual(ROWS["north"] + ROWS["south"], int(last["examples"]))
        self.cluster.cli("job", "cancel", name).ok()

    def test_central_evaluation_uses_one_workers_test_rows(self):
        job = local_job(1)
        job["evaluation"] = {"central": True}
        result = self.cluster.cli("job", "submit", self.cluster.file(job), "--wait", "-o", "json")
        if result.code == 0:
            self.assertIn("test_accuracy", result.json["history"][0])
        else:
            self.assertIn("evaluation", result.err)


if __name__ == "__main__":
    unittest.main()
