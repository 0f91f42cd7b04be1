"""What Espalier trained can be pruned by its checkpoint's name, and leaves as a folder that other programs load."""

import json
import math
import pathlib
import tempfile
import unittest

import numpy
import safetensors.numpy

import cluster
import conv_test
import datasets

METHODS = ("magnitude", "wanda", "sparsegpt", "dsnot")
SPARSE = {"name": "rigl", "parameters": {"density": 0.5, "distribution": "uniform"}}


def prune_job(trained, method, **parameters):
    """Prunes what the job `trained` left, with its own data as calibration."""
    text = "text" in trained["spec"]["data"]
    return {
        "model": {"pretrained": trained["latest_checkpoint"]},
        "data": (datasets.text_job if text else cluster.digits_job)()["data"],
        "method": {"name": method, "parameters": parameters},
    }


def zeros(folder):
    """{linear layer: share of its weights that are zero} of a folder in Hugging Face's layout."""
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    return {n: float(numpy.mean(t == 0)) for n, t in tensors.items() if "_proj" in n}


class TrainedNetworkTest(unittest.TestCase):
    """Networks of layers, on digits."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.enterClassContext(cluster.Cluster(workers=2))
        cls.trained = {
            "mlp": cls.cluster.run(cluster.digits_job(6, method={"name": "dense"})),
            "cnn": cls.cluster.run(
                cluster.digits_job(6, model=conv_test.MODEL, method={"name": "dense"})
            ),
        }

    def check(self, trained, density, delta=0.01, **job):
        pruned = self.cluster.run(prune_job(trained, layer_errors=True, **job))
        last = pruned["history"][-1]
        self.assertAlmostEqual(density, last["density"], delta=delta)
        self.assertEqual(trained["history"][-1]["test_accuracy"], last["dense_test_accuracy"])
        self.assertGreater(last["test_accuracy"], 0.5)
        for layer in (layer for summary in pruned["history"] for layer in summary["layers"]):
            self.assertLess(layer["output_error"], 1)
        return pruned

    def test_every_method_prunes_both_kinds(self):
        for kind, trained in self.trained.items():
            for method in METHODS:
                with self.subTest(kind=kind, method=method):
                    self.check(trained, 0.5, method=method, sparsity=0.5, delta=0.02)

    def test_groups_of_four_inputs_keep_two(self):
        for method in METHODS:
            with self.subTest(method):
                self.check(self.trained["mlp"], 0.5, method=method, pattern="2:4")

    def test_refinement_of_magnitude_makes_errors_smaller(self):
        for kind, trained in self.trained.items():
            with self.subTest(kind):
                pruned = self.check(
                    trained, 0.4, method="dsnot", sparsity=0.6, init="magnitude", delta=0.02
                )
                layers = [layer for summary in pruned["history"] for layer in summary["layers"]]
                self.assertGreater(sum(int(layer["exchanged"]) for layer in layers), 0)
                before = sum(layer["initial_output_error"] for layer in layers)
                self.assertLess(sum(layer["output_error"] for layer in layers), before)

    def test_a_width_that_groups_do_not_divide_is_named(self):
        job = self.cluster.submit(prune_job(self.trained["cnn"], "wanda", pattern="2:4"))
        failed = self.cluster.wait_state(job["name"], "FAILED")
        self.assertIn("groups of 4", failed["failure_message"])


class TrainedTransformerTest(unittest.TestCase):
    """Transformers, on text that is a line of numbers."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        datasets.write_text(cls.folder / "data" / "counting")
        cls.cluster = cls.enterClassContext(
            cluster.Cluster(workers=2, data_root=cls.folder / "data")
        )
        cls.dense = cls.cluster.run(datasets.text_job(6, method={"name": "dense"}))
        cls.sparse = cls.cluster.run(datasets.text_job(6, method=SPARSE))

    def hugging_face(self, checkpoint):
        folder = self.folder / checkpoint.split("/")[1]
        self.cluster.cli("checkpoint", "get", checkpoint, "--format", "hf", "-O", folder).ok()
        return folder

    def test_every_method_prunes_one(self):
        for method in METHODS:
            for parameters in ({"sparsity": 0.6}, {"pattern": "2:4"}):
                if method == "dsnot":
                    parameters = parameters | {"sign_check": "on"}  # rows are narrow
                with self.subTest(method, **parameters):
                    job = self.cluster.run(prune_job(self.dense, method, **parameters))
                    last = job["history"][-1]
                    # Two implementations of the forward pass, for training and for pruning.
                    trained = self.dense["history"][-1]
                    self.assertAlmostEqual(
                        math.exp(trained["test_loss"]), last["dense_perplexity"], delta=1e-3
                    )
                    self.assertAlmostEqual(
                        trained["test_accuracy"], last["dense_test_accuracy"], delta=1e-3
                    )
                    density = 1 - parameters.get("sparsity", 0.5)
                    self.assertAlmostEqual(density, last["density"], delta=0.02)
                    self.assertGreater(last["perplexity"], last["dense_perplexity"])
                    self.assertLess(last["perplexity"], 64)  # the size of the vocabulary

    def test_a_sparse_one_keeps_its_zeros(self):
        before = zeros(self.hugging_face(self.sparse["latest_checkpoint"]))
        job = self.cluster.run(prune_job(self.sparse, "dsnot", sparsity=0.75, refine="all"))
        folder = self.hugging_face(job["latest_checkpoint"])
        after = safetensors.numpy.load_file(folder / "model.safetensors")
        trained = safetensors.numpy.load_file(
            self.hugging_face(self.sparse["latest_checkpoint"]) / "model.safetensors"
        )
        self.assertAlmostEqual(0.25, job["history"][-1]["density"], delta=0.03)
        for name in before:
            kept = after[name] != 0
            self.assertTrue(numpy.array_equal(after[name][kept], trained[name][kept]), name)

    def test_a_pruned_one_is_pruned_again(self):
        half = self.cluster.run(prune_job(self.dense, "wanda", sparsity=0.5))
        job = self.cluster.run(prune_job(half, "wanda", sparsity=0.7))
        self.assertEqual(
            half["history"][-1]["perplexity"], job["history"][-1]["dense_perplexity"]
        )
        self.assertAlmostEqual(0.3, job["history"][-1]["density"], delta=0.02)

    def test_a_sweep_finds_the_curve_of_one(self):
        sweep = {"from": 0.2, "to": 0.8, "step": 0.3}
        job = self.cluster.run(prune_job(self.sparse, "essential-sparsity", **sweep))
        self.assertEqual(3, len(job["history"]))

    def test_other_programs_load_it(self):
        pruned = self.cluster.run(prune_job(self.dense, "dsnot", pattern="2:4"))
        expected = {
            self.dense["latest_checkpoint"]: 0,
            self.sparse["latest_checkpoint"]: 0.5,
            pruned["latest_checkpoint"]: 0.5,
        }
        for checkpoint, share in expected.items():
            with self.subTest(checkpoint):
                folder = self.hugging_face(checkpoint)
                config = json.loads((folder / "config.json").read_text())
                self.assertEqual("llama", config["model_type"])
                self.assertEqual(24, config["max_position_embeddings"])
                self.assertEqual(
                    ["config.json", "model.safetensors"], sorted(p.name for p in folder.iterdir())
                )
                found = zeros(folder)
                self.assertEqual(2 * 7, len(found))
                self.assertAlmostEqual(share, sum(found.values()) / len(found), delta=0.05)
                said = cluster.espalier(
                    "generate", folder, "--tokenizer", "bytes", "--prompt", "10500\n1050"
                ).ok()
                self.assertTrue(said.out.startswith("10500\n1050"), said.out)
                # From the coordinator, the same.
                self.assertEqual(
                    said.out,
                    self.cluster.cli(
                        "generate", checkpoint, "--tokenizer", "bytes", "--prompt", "10500\n1050"
                    ).ok().out,
                )

    def test_what_does_not_fit_is_named(self):
        result = self.cluster.cli(
            "job", "submit", self.cluster.file(prune_job(self.dense, "wanda") | {
                "model": {"pretrained": "checkpoints/none-1"}
            })
        )
        self.assertIn("there is no checkpoint 'checkpoints/none-1'", " ".join(result.err.split()))
        job = prune_job(self.dense, "wanda")
        job["data"] = job["data"] | {"text": job["data"]["text"] | {"context": 25}}
        result = self.cluster.cli("job", "submit", self.cluster.file(job))
        self.assertIn("at most 24 tokens", " ".join(result.err.split()))


if __name__ == "__main__":
    unittest.main()
