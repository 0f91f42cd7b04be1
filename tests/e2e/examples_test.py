"""Job files that people start from: those under docs/examples run, shortened, on digits and on stand-ins for other data;
those that `espalier init` writes for data of each kind run as they are, with the commands that it shows."""

import json
import math
import os
import pathlib
import random
import re
import shlex
import shutil
import subprocess
import tempfile
import unittest

import cluster
import datasets
from pruning_test import CONTEXT, write_model

STAND_INS = ("mnist", "fashion-mnist")
TEXTS = ("counting", "shakespeare", "tinystories")


class ExamplesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        root = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        shutil.copytree(cluster.DATA / "digits", root / "digits")
        datasets.write_idx(root / STAND_INS[0])
        for name in STAND_INS[1:]:
            (root / name).mkdir()
            for path in (root / STAND_INS[0]).iterdir():
                (root / name / path.name).hardlink_to(path)
        datasets.write_cifar10(root / "cifar10")
        for name in TEXTS:
            datasets.write_text(root / name)
        datasets.write_movielens(root / "ml-100k", users=943, items=1682)
        write_model(root / "models" / "stories260K")
        cls.cluster = cls.enterClassContext(
            cluster.Cluster(
                workers=2, data_root=root, coordinator=("--models", root / "models")
            )
        )

    def check(self, path, rounds):
        if "pretrained:" in path.read_text():
            return self.check_language_model(path, rounds)
        arguments = ()
        if "name: prunefl" in path.read_text():
            # A model that was adjusted is trained for a round.
            rounds, arguments = 2, ("--set", "method.parameters.update_every=1")
        if "name: imp" in path.read_text():
            arguments = ("--set", "method.parameters.levels=2")
        job = self.cluster.run(path, "--set", f"federation.rounds={rounds}", *arguments)
        self.assertEqual("SUCCEEDED", job["state"])
        self.assertEqual(job["total_rounds"], job["round"])
        if not job["runs"]:
            self.assertEqual(rounds, job["round"])
        self.assertIn("main_metric", job["history"][-1])

    def check_language_model(self, path, rounds):
        """On a tiny model and text as bytes: a round of pruning is a block of the model."""
        trains = "federation:" in path.read_text()
        job = self.cluster.run(
            path,
            *("--set", "data.text.tokenizer=bytes", "--set", f"data.text.context={CONTEXT}"),
            # What prunes is what the example of fine-tuning, which is later in the alphabet, begins with.
            *(("--set", f"federation.rounds={rounds}") if trains else ("--name", "pruned")),
        )
        self.assertEqual("SUCCEEDED", job["state"])
        self.assertIn("perplexity", job["history"][-1])

    def test_digits(self):
        paths = sorted(cluster.EXAMPLES.glob("digits-*.yaml"))
        self.assertGreaterEqual(len(paths), 4)
        for path in paths:
            with self.subTest(path.name):
                self.check(path, 2)

    def test_others(self):
        paths = sorted(
            set(cluster.EXAMPLES.glob("*.yaml")) - set(cluster.EXAMPLES.glob("digits-*.yaml"))
        )
        self.assertGreaterEqual(len(paths), 4)
        for path in paths:
            with self.subTest(path.name):
                dataset = re.search(r"(?m)^  dataset: *(\S+)", path.read_text())[1]
                known = (*STAND_INS, *TEXTS, "cifar10", "ml-100k")
                self.assertIn(dataset, known, "give the new data set a stand-in here")
                self.check(path, 1)

    def test_only_job_files_are_there(self):
        self.assertEqual({".yaml", ".md"}, {path.suffix for path in cluster.EXAMPLES.iterdir()})


def write_table(folder):
    """A table as people have them: semicolons, words, gaps, and the label in the first column."""
    folder.mkdir(parents=True)
    source = random.Random(2)
    lines = ["Class;weight;colour;length"]
    for i in range(300):
        kind = i % 3
        length = "" if i % 20 == 7 else f"{100 * kind + source.gauss(0, 20):.1f}"
        colour = source.choice(["red", "green"] if kind == 0 else ["blue", "green"])
        lines.append(f"{['ant', 'bee', 'cat'][kind]};{source.gauss(kind / 10, 0.05):.4f};{colour};{length}")
    (folder / "animals.csv").write_text("\n".join(lines) + "\n")


class InitTest(unittest.TestCase):
    """From data to a trained model with nothing but what `espalier init` writes and shows."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        root = cls.folder / "data"
        write_table(root / "animals")
        datasets.write_digits(root, cluster.DATA / "digits/digits.csv.gz")
        datasets.write_text(root / "counting", numbers=3000)
        cls.liked = datasets.write_interactions(root / "likes", users=90, items=60, tastes=6)
        datasets.write_idx(root / "arrays", train=2000, test=500)
        cls.cluster = cls.enterClassContext(
            cluster.Cluster(
                workers=2, data_root=root, coordinator=("--models", cls.folder / "models")
            )
        )

    def run_here(self, *arguments):
        """A command in the folder of the job files."""
        done = subprocess.run(
            [cluster.BIN / "espalier", *arguments],
            cwd=self.folder,
            env=os.environ | {"ESPALIER_SERVER": self.cluster.address},
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        self.assertEqual(0, done.returncode, done.stderr + done.stdout)
        return done.stdout

    def train(self, path, *arguments):
        """Writes a job file and types what is shown. Returns what `init` said, and the job."""
        name = path.rsplit("/", 1)[1]
        said = json.loads(
            self.run_here("init", path, "--out", f"{name}.yaml", *arguments, "-o", "json")
        )
        self.assertEqual("data", said["data_root"])
        self.assertIn("espalier up --workers 4 --data-root data", said["first_terminal"][-1]["command"])
        for step in said["second_terminal"]:
            program, *words = shlex.split(step["command"].replace("USER", "7"))
            self.assertEqual("espalier", program)
            self.run_here(*words)
        (job,) = [
            job
            for job in self.cluster.cli("job", "list", "-o", "json").ok().json["jobs"]
            if job["name"] == f"jobs/{name}"
        ]
        job = self.cluster.job(job["name"])
        self.assertEqual("SUCCEEDED", job["state"])
        return said, job

    def test_table_with_gaps_and_words(self):
        said, job = self.train("data/animals")
        self.assertEqual("Class", said["dataset"]["label_column"])
        text = " ".join(said["findings"])
        for words in ("semicolons", "15 cells without a value", "'colour' (3)", "ant, bee, cat"):
            self.assertIn(words, text)
        self.assertGreater(job["history"][-1]["test_accuracy"], 0.9)
        self.assertTrue((self.folder / f"animals-{job['round']}.safetensors").exists())

    def test_images_in_folders(self):
        _, job = self.train("data/images")
        self.assertGreater(job["history"][-1]["test_accuracy"], 0.9)

    def test_arrays(self):
        _, job = self.train("data/arrays")
        self.assertGreater(job["history"][-1]["test_accuracy"], 0.9)

    def test_interactions(self):
        _, job = self.train("data/likes")
        metrics = {m["name"]: m["value"] for m in job["history"][-1]["test_metrics"]}
        # Ten of 60 items at random would hold a sixth of them.
        self.assertGreater(metrics["recall@10"], 0.5)

    def test_text_and_the_model_that_it_trained_pruned_to_half(self):
        _, job = self.train("data/counting")
        self.assertLess(math.exp(job["history"][-1]["test_loss"]), 8)
        checkpoint = job["latest_checkpoint"]
        self.run_here("checkpoint", "get", checkpoint, "--format", "hf", "-O", "models/counter")
        said, pruned = self.train("models/counter", "--text", "data/counting")
        self.assertIn("--models models", said["first_terminal"][-1]["command"])
        last = pruned["history"][-1]
        self.assertLess(last["dense_perplexity"], 8)
        self.assertLess(last["perplexity"], 64)  # of 256 bytes
        self.assertLessEqual(last["density"], 0.5)
        self.assertTrue((self.folder / "counter-half/model.safetensors").exists())

    def test_a_file_that_is_there_stays(self):
        out = self.folder / "mine.yaml"
        out.write_text("my own\n")
        path = self.folder / "data/animals/animals.csv"
        kept = cluster.espalier("init", path, "--out", out, "-o", "json")
        self.assertEqual((5, "FILE_EXISTS"), (kept.code, kept.error["reason"]))
        self.assertEqual("my own\n", out.read_text())
        shown = cluster.espalier("init", path, "--out", "-", "--label", "colour").ok()
        self.assertIn('label_column: "colour"', shown.out)
        self.assertIn("espalier job submit", shown.err)
        cluster.espalier("init", path, "--out", out, "--label", "colour", "--force").ok()
        self.assertEqual(shown.out, out.read_text())

    def test_what_is_no_file_is_never_replaced(self):
        path = self.folder / "data/animals/animals.csv"
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        for out in (pipe, self.folder):
            refused = cluster.espalier("init", path, "--out", out, "--force", "-o", "json")
            self.assertEqual((5, "FILE_UNWRITABLE"), (refused.code, refused.error["reason"]))
        self.assertTrue(pipe.is_fifo())

    def test_what_cannot_be_read_is_told(self):
        (self.folder / "euro").mkdir()
        (self.folder / "euro/euro.csv").write_text("a;b;kind\n1,5;2;x\n2,5;3;y\n")
        told = cluster.espalier("init", self.folder / "euro", "--out", "-", "-o", "table")
        self.assertEqual((5, ""), (told.code, told.out))
        self.assertIn("found '1,5'", told.err)
        self.assertEqual(3, cluster.espalier("init", self.folder / "nothing").code)


if __name__ == "__main__":
    unittest.main()
