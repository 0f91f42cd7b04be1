"""Transformers from a job file: every method that can trains one on text, and says what is wrong with others."""

import pathlib
import tempfile
import unittest

import cluster
import datasets
from datasets import text_job

SPARSE = {"density": 0.5, "distribution": "uniform"}
METHODS = {
    "dense": {"name": "dense"},
    "static": {"name": "static", "parameters": SPARSE},
    "set": {"name": "set", "parameters": SPARSE},
    "rigl": {"name": "rigl", "parameters": SPARSE},
}


class TransformerTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        root = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        datasets.write_text(root / "counting")
        datasets.write_csv(root / "mine")
        datasets.write_text(root / "merged")
        datasets.write_tokenizer_json(root / "merged", ["10", "11"])
        datasets.write_text(root / "wide")
        for path in (root / "wide").iterdir():
            path.write_text(path.read_text(), encoding="utf-16")
        (root / "brief").mkdir()
        (root / "brief" / "train.txt").write_text("too short")
        cls.cluster = cls.enterClassContext(cluster.Cluster(workers=2, data_root=root))

    def test_every_method_learns_to_count(self):
        for name, method in METHODS.items():
            with self.subTest(name):
                job = self.cluster.run(text_job(rounds=6, method=method))
                self.assertEqual("SUCCEEDED", job["state"])
                losses = [summary["test_loss"] for summary in job["history"]]
                self.assertLess(losses[-1], 0.7 * losses[0])
                # Four of six bytes are the same as in the line before.
                self.assertGreater(job["history"][-1]["test_accuracy"], 0.6)
                density = 1 if name == "dense" else 0.5
                self.assertAlmostEqual(density, job["history"][-1]["density"], delta=0.01)

    def test_text_is_read_by_a_tokenizer_json(self):
        job = text_job(2, dataset="merged", method=METHODS["dense"])
        job["data"]["text"]["tokenizer"] = "file"
        refused = self.cluster.wait_state(self.cluster.submit(job)["name"], "FAILED")
        self.assertIn("258", refused["failure_message"])  # tokens, and the model has 64
        job["model"]["transformer"]["vocabulary"] = 258
        done = self.cluster.run(job)
        self.assertGreater(done["history"][-1]["test_accuracy"], 0)
        prune = {
            "model": {"pretrained": done["latest_checkpoint"]},
            "data": job["data"],
            "method": {"name": "wanda"},
        }
        lines = [f"{number}\n" for number in range(10_000, 11_500)]  # what datasets.write_text writes
        tokens = sum(len(line.replace("10", "a").replace("11", "b")) for line in lines)
        examples = int(self.cluster.run(prune)["history"][0]["examples"])
        self.assertEqual((tokens - 1) // 24, examples)

    def test_same_job_gives_the_same_model(self):
        jobs = [self.cluster.run(text_job(rounds=2, method=METHODS["rigl"])) for _ in range(2)]
        losses = [[summary["test_loss"] for summary in job["history"]] for job in jobs]
        self.assertEqual(losses[0], losses[1])

    def test_what_does_not_fit_is_named(self):
        def refused(expected, job):
            result = self.cluster.cli("job", "submit", self.cluster.file(job))
            self.assertNotEqual(0, result.code)
            self.assertIn(expected, " ".join(result.err.split()))

        refused("data set 'mine' is not text but csv", text_job(dataset="mine"))
        refused("data set 'counting' is text", datasets.csv_job(dataset="counting"))
        job = text_job()
        del job["data"]["text"]
        refused("a transformer learns from text", job)

    def test_a_vocabulary_that_is_too_small_fails_the_job(self):
        job = text_job()
        job["model"]["transformer"]["vocabulary"] = 57
        name = self.cluster.submit(job)["name"]
        message = self.cluster.wait_state(name, "FAILED")["failure_message"]
        # The largest byte of the text is the digit nine.
        for word in ("tokens below 57", "found token 57", "vocabulary to 58"):
            self.assertIn(word, message)

    def test_text_in_utf_16_is_not_learned_as_bytes(self):
        job = text_job(dataset="wide")
        job["model"]["transformer"]["vocabulary"] = 256
        name = self.cluster.submit(job)["name"]
        message = self.cluster.wait_state(name, "FAILED")["failure_message"]
        for word in ("wide/train.txt, line 1", "UTF-16", "iconv"):
            self.assertIn(word, message)

    def test_text_that_is_too_short_fails_the_job(self):
        job = self.cluster.submit(text_job(dataset="brief"))
        failed = self.cluster.wait_state(job["name"], "FAILED")
        self.assertIn("at least 25 tokens", failed["failure_message"])


if __name__ == "__main__":
    unittest.main()
