"""Every file under docs/examples runs, shortened: on digits, and on stand-ins for other data."""

import pathlib
import re
import shutil
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
            return self.check_pruning(path)
        arguments = ()
        if "name: prunefl" in path.read_text():
            # A model that was adjusted is trained for a round.
            rounds, arguments = 2, ("--set", "method.parameters.update_every=1")
        job = self.cluster.run(path, "--set", f"federation.rounds={rounds}", *arguments)
        self.assertEqual("STATE_SUCCEEDED", job["state"])
        self.assertEqual(rounds, job["round"])
        self.assertIn("test_accuracy", job["history"][-1])

    def check_pruning(self, path):
        """On a tiny model and text as bytes: a round is a block of the model."""
        job = self.cluster.run(
            path, "--set", "data.text.tokenizer=bytes", "--set", f"data.text.context={CONTEXT}"
        )
        self.assertEqual("STATE_SUCCEEDED", job["state"])
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


if __name__ == "__main__":
    unittest.main()
