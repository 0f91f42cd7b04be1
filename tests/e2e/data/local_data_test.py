"""Workers that train on their own files: every worker is a participant with its own rows."""

import math
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

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
        name = self.cluster.submit(local_job(cluster.ENDLESS, quorum=0.6, round_deadline="1s"))["name"]
        self.cluster.wait_round(name, 2)
        self.cluster.workers["west"].send(signal.SIGKILL)
        eventually("the worker is lost", lambda: self.cluster.worker_states()["west"] == "LOST")
        lost_at = self.cluster.job(name)["round"]
        job = self.cluster.wait_round(name, lost_at + 2)
        self.assertEqual("RUNNING", job["state"], job["failure_message"])
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


class LocalNamesTest(unittest.TestCase):
    """Sites whose files agree by the names of columns and classes, and by nothing else."""

    CENTERS = {"ant": (0, 0), "bee": (8, 0), "cat": (0, 8)}

    def write(self, site, part, names, columns):
        rng = random.Random(f"{site} {part}")
        lines = [",".join(columns)]
        for row in range(90):
            name = names[row % len(names)]
            x, y = (center + rng.gauss(0, 1) for center in self.CENTERS[name])
            cells = {"x": f"{x:.3f}", "y": f"{y:.3f}", "kind": name}
            lines.append(",".join(cells[column] for column in columns))
        folder = self.root / site / "animals"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{part}.csv").write_text("\n".join(lines) + "\n")

    def setUp(self):
        self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.cluster = self.enterContext(cluster.Cluster())

    def start(self, south_columns=("kind", "y", "x")):
        for part in ("train", "test"):
            self.write("north", part, ["ant", "bee"], ["x", "y", "kind"])
            self.write("south", part, ["bee", "cat"], list(south_columns))
        for site in ("north", "south"):
            self.cluster.add_worker(site, data_root=self.root / site)

    def job(self):
        """Neither inputs nor outputs of the model are typed: the data says them."""
        return {
            "model": {"layers": [{"linear": {"units": 16}}, {"linear": {}}]},
            "data": {
                "dataset": "animals",
                "label_column": "kind",
                "partition": {"kind": "local"},
            },
            "method": {"name": "dense"},
            "training": {"optimizer": {"kind": "sgd", "learning_rate": 0.05}, "batch_size": 16},
            "federation": {"rounds": 30, "min_workers": 2},
        }

    def test_classes_and_columns_are_matched_by_name(self):
        self.start()
        job = self.cluster.run(self.job())
        self.assertEqual(["ant", "bee", "cat"], job["spec"]["data"]["agreement"]["classes"])
        self.assertEqual(2, job["spec"]["model"]["input_features"])
        last = job["history"][-1]
        # Evaluation of local data happens at every site.
        self.assertGreater(last["federated_test_accuracy"], 0.97)
        self.assertNotIn("test_accuracy", last)
        self.check_sites(job)

    def check_sites(self, job):
        """What each site found makes the mean over all of them, and people are shown it."""
        last, found = job["history"][-1], job["last_sites"]
        self.assertEqual((30, 0), (found["round"], found["sites_left_out"]))
        sites = {site["worker"]: site for site in found["sites"]}
        self.assertEqual({"workers/north", "workers/south"}, set(sites))
        self.assertEqual({90}, {site["examples"] for site in sites.values()})
        for ours, theirs in (("accuracy", "main_metric"), ("loss", "loss")):
            mean = sum(site[theirs] for site in sites.values()) / 2
            self.assertAlmostEqual(last[f"federated_test_{ours}"], mean, places=9)
        self.assertEqual(job["best_round"], job["best_sites"]["round"])
        shown = self.cluster.cli("job", "get", job["name"]).ok().out
        for name, site in sites.items():
            percent = f"{100 * site['main_metric']:.1f} %"
            self.assertIn(f"{name}\t90\t{percent}\t{site['loss']:.4f}\n", shown)
        listed = self.cluster.cli("job", "list", "-o", "json").ok().json["jobs"]
        self.assertTrue(all("last_sites" not in one for one in listed))

    def test_divided_data_has_no_sites(self):
        self.start()
        job = self.job()
        job["data"]["partition"] = {"kind": "iid", "shards": 2}
        shutil.rmtree(self.root / "south/animals")
        self.cluster.add_worker("alone", data_root=self.root / "north")
        self.assertNotIn("last_sites", self.cluster.run(job | {"federation": {"rounds": 1}}))

    def test_data_sets_are_shown_with_what_they_were_taken_for(self):
        self.start()
        (self.root / "north/notes").mkdir()
        (self.root / "north/notes/todo.md").write_text("nothing to train on")
        self.cluster.workers["north"].send(signal.SIGTERM)
        self.cluster.workers["north"].wait(10)
        self.cluster.add_worker("again", data_root=self.root / "north")
        shown = self.cluster.cli("dataset", "describe", "animals").ok().out
        for word in ("again", "south", "csv", "ant, bee", "commas between cells", "data.label_column"):
            self.assertIn(word, shown)
        rows = self.cluster.cli("dataset", "list").ok().out.splitlines()
        (notes,) = [row for row in rows if row.startswith("notes")]
        self.assertIn("none of them", notes)
        listed = self.cluster.cli("dataset", "list", "-o", "json").ok().json
        self.assertEqual({"workers/again", "workers/south"}, {w["name"] for w in listed["workers"]})
        self.assertIn("notes (unusable)", self.cluster.cli("worker", "list").ok().out)
        missing = self.cluster.cli("dataset", "describe", "animal", "-o", "json")
        self.assertEqual("DATASET_NOT_FOUND", missing.error["reason"])

    def test_sites_without_common_columns_are_told_at_submission(self):
        self.start(south_columns=("kind", "y"))
        text = self.cluster.violations(self.job())[0]["description"]
        for word in ("north", "south", "(x, y)", "(y)"):
            self.assertIn(word, text)

    def test_divided_data_of_other_contents_is_told_at_submission(self):
        self.start()
        job = self.job()
        job["data"]["partition"] = {"kind": "iid", "shards": 2}
        self.assertIn("the same content", self.cluster.violations(job)[0]["description"])


class LocalTextTest(unittest.TestCase):
    """Workers with texts of their own: a transformer is trained on all of them, and pruned."""

    def setUp(self):
        self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.cluster = self.enterContext(cluster.Cluster())
        for name, numbers in {"north": 900, "south": 500}.items():
            self.add_worker(name, numbers)
        self.data = datasets.text_job()["data"] | {"partition": {"kind": "local"}}

    def add_worker(self, name, numbers):
        datasets.write_text(self.root / name / "counting", numbers=numbers)
        self.cluster.add_worker(name, data_root=self.root / name)

    def train(self):
        return self.cluster.run(
            datasets.text_job(
                4, data=self.data, method={"name": "dense"}, evaluation={"federated": True}
            )
        )

    def prune_job(self, trained, **sections):
        return {
            "model": {"pretrained": trained["latest_checkpoint"]},
            "data": self.data,
            "method": {"name": "dsnot", "parameters": {"sparsity": 0.5, "sign_check": "on"}},
        } | sections

    def test_every_text_calibrates_and_evaluates(self):
        trained = self.train()
        job = self.cluster.run(self.prune_job(trained))
        # Sequences of 24 tokens and their targets, of lines of 6 bytes.
        sequences = sum((6 * numbers - 1) // 24 for numbers in (900, 500))
        for summary in job["history"]:
            self.assertEqual((2, sequences), (int(summary["participants"]), int(summary["examples"])))
        last = job["history"][-1]
        sites = job["last_sites"]
        self.assertEqual((last["round"], 2), (sites["round"], len(sites["sites"])))
        tokens = [int(site["examples"]) for site in sites["sites"]]
        losses = [site["loss"] for site in sites["sites"]]
        mean = sum(n * loss for n, loss in zip(tokens, losses)) / sum(tokens)
        self.assertAlmostEqual(last["test_loss"], mean, places=9)
        shown = self.cluster.cli("job", "get", job["name"]).ok().out
        self.assertIn(f"\t{math.exp(losses[0]):.4f}\t", shown)
        self.assertAlmostEqual(
            trained["history"][-1]["federated_test_loss"], last["dense_test_loss"], places=3
        )
        self.assertGreater(last["perplexity"], last["dense_perplexity"])
        self.assertEqual(job["model_hash"], self.cluster.run(self.prune_job(trained))["model_hash"])

    def test_a_text_shorter_than_one_context_is_named(self):
        trained = self.train()
        self.add_worker("west", 2)
        job = self.cluster.submit(self.prune_job(trained))
        message = self.cluster.wait_state(job["name"], "FAILED")["failure_message"]
        self.assertIn("worker west reported:", message)
        self.assertIn("at least 25 tokens", message)
        # The others go on without it when the job says so.
        job = self.cluster.run(self.prune_job(trained, federation={"quorum": 0.6}))
        self.assertEqual(2, int(job["history"][-1]["participants"]))


if __name__ == "__main__":
    unittest.main()
