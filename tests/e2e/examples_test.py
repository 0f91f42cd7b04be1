"""Every file under docs/examples runs, shortened: on digits, and on stand-ins for other data."""

import pathlib
import re
import shutil
import tempfile
import unittest

import cluster
import datasets

STAND_INS = ("mnist", "fashion-mnist")
TEXTS = ("counting", "shakespeare")


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
        cls.cluster = cls.enterClassContext(cluster.Cluster(workers=2, data_root=root))

    def check(self, path, rounds):
        job = self.cluster.run(path, "--set", f"federation.rounds={rounds}")
        self.assertEqual("STATE_SUCCEEDED", job["state"])
        self.assertEqual(rounds, job["round"])
        self.assertIn("test_accuracy", job["history"][-1])

    def test_digits(self):
        paths = sorted(cluster.EXAMPLES.glob("digits-*.yaml"))
        self.assertEqual(4, len(paths))
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
                self.assertIn(dataset, (*STAND_INS, *TEXTS, "cifar10"), "give the new data set a stand-in here")
                self.check(path, 1)

    def test_only_job_files_are_there(self):
        self.assertEqual({".yaml", ".md"}, {path.suffix for path in cluster.EXAMPLES.iterdir()})


if __name__ == "__main__":
    unittest.main()
