"""Jobs that train several models: what people see of their runs, and that a killed worker changes nothing."""

import csv
import io
import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster

RUNS = ["dense", "ticket-1", "reinit-1", "random-1", "ticket-2", "reinit-2", "random-2"]
FEW = ("--set", "federation.rounds=3", "--set", "method.parameters.levels=2")


class RunsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.enterClassContext(cluster.Cluster(workers=2))
        cls.job = cls.cluster.run(cluster.EXAMPLES / "digits-imp.yaml", *FEW, "--name", "tickets")

    def lines(self, *arguments):
        return [line.split("\t") for line in self.cluster.cli(*arguments).ok().out.splitlines()]

    def test_a_job_shows_its_runs(self):
        self.assertEqual("SUCCEEDED", self.job["state"])
        # Three rounds, and twice two of the ticket, three of the new weights and two of the random mask.
        self.assertEqual(3 + 2 * 7, self.job["total_rounds"])
        self.assertEqual(RUNS, [run["name"] for run in self.job["runs"]])
        table = [line for line in self.lines("job", "get", "tickets") if line[0] in RUNS]
        self.assertEqual(RUNS, [line[0] for line in table])
        self.assertEqual("3/3", table[1][1])
        self.assertTrue(all(line[5].startswith("checkpoints/tickets-") for line in table))
        densities = [float(line[2]) for line in table]
        self.assertAlmostEqual(0.8, densities[1], 3)
        self.assertAlmostEqual(0.64, densities[4], 3)

    def test_rounds_and_checkpoints_say_their_run(self):
        rounds = self.lines("job", "rounds", "tickets")
        self.assertEqual(["dense 1", "dense 2", "dense 3", "ticket-1 2", "reinit-1 1", "random-1 2"],
                         [line[1] for line in rounds[:6]])
        checkpoints = self.lines("checkpoint", "list", "--job", "tickets")
        self.assertEqual(set(RUNS), {line[-1] for line in checkpoints})
        as_csv = list(csv.DictReader(io.StringIO(self.cluster.cli("job", "rounds", "tickets", "-o", "csv").ok().out)))
        self.assertEqual("ticket-1", as_csv[3]["run"])
        self.assertEqual("2", as_csv[3]["run_round"])

    def test_watching_says_the_run(self):
        done = self.cluster.cli("job", "watch", "tickets").ok()
        self.assertIn("round 4 of 17  ticket-1 2 of 3", done.err)

    def test_a_ticket_is_a_checkpoint_like_any_other(self):
        ticket = next(run for run in self.job["runs"] if run["name"] == "ticket-2")
        job = self.cluster.run(
            {"model": {"pretrained": ticket["latest_checkpoint"]}, "method": {"name": "finetune"},
             "data": {"dataset": "digits", "scale": 16, "partition": {"kind": "iid", "shards": 2}},
             "training": {"batch_size": 16, "optimizer": {"kind": "sgd", "learning_rate": 0.1}},
             "federation": {"rounds": 1}, "evaluation": {"central": True}})
        self.assertEqual("SUCCEEDED", job["state"])
        self.assertAlmostEqual(ticket["density"], job["history"][-1]["density"])

    def test_a_worker_that_is_killed_changes_nothing(self):
        with cluster.Cluster(workers=2) as other:
            name = other.submit(cluster.EXAMPLES / "digits-imp.yaml", *FEW, "--name", "tickets")["name"]
            other.wait_round(name, 2)
            other.workers["w1"].kill()
            other.add_worker("late")
            job = other.wait_state(name, "SUCCEEDED")
            self.assertEqual(self.job["model_hash"], job["model_hash"])

    def test_features_have_places_and_strengths(self):
        job = self.cluster.run(cluster.EXAMPLES / "digits-quick-selection.yaml", "--set", "federation.rounds=3",
                               "--name", "pixels")
        self.assertEqual(64, len(job["features"]))
        table = self.lines("job", "features", "pixels")
        self.assertEqual(16, len(table))
        strengths = [float(line[3]) for line in table]
        self.assertEqual(sorted(strengths, reverse=True), strengths)
        as_csv = list(csv.DictReader(io.StringIO(
            self.cluster.cli("job", "features", "pixels", "--all", "-o", "csv").ok().out)))
        self.assertEqual(64, len(as_csv))
        self.assertEqual([line[1] for line in table], [row["index"] for row in as_csv if row["selected"] == "true"])
        as_json = json.loads(self.cluster.cli("job", "features", "pixels", "--all", "-o", "json").ok().out)["features"]
        self.assertEqual(set(range(64)), {int(feature["index"]) for feature in as_json})
        self.assertIn("quick-selection", self.cluster.cli("job", "features", "tickets").err)


if __name__ == "__main__":
    unittest.main()
