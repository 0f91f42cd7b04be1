"""Convolutional networks from a job file: every method trains one on the digits as images of 1 × 8 × 8."""

import gzip
import math
import pathlib
import tempfile
import unittest

import cluster
import datasets
from cluster import digits_job

MODEL = {
    "input_image": {"channels": 1, "height": 8, "width": 8},
    "layers": [
        {"conv2d": {"channels": 12, "no_bias": True}},
        {"batch_norm": {"activation": "relu"}},
        {
            "residual": {
                "body": [
                    {"conv2d": {"channels": 24, "stride": 2, "activation": "relu"}},
                    {"conv2d": {"channels": 24, "no_bias": True}},
                    {"batch_norm": {}},
                ],
                "shortcut": [{"conv2d": {"channels": 24, "kernel": 1, "stride": 2}}],
                "activation": "relu",
            }
        },
        {"max_pool": {"kernel": 2}},
        {"linear": {"units": 10}},
    ],
}
SPARSE = {"density": 0.3, "distribution": "erk"}
METHODS = {
    "dense": {"name": "dense"},
    "static": {"name": "static", "parameters": SPARSE},
    "set": {"name": "set", "parameters": SPARSE},
    "rigl": {"name": "rigl", "parameters": SPARSE},
    "fedtiny": {
        "name": "fedtiny",
        "parameters": {"density": 0.3, "pool_size": 3, "update_every": 2, "stop_round": 6},
    },
    "fedmef": {
        "name": "fedmef",
        "parameters": {"density": 0.3, "pool_size": 2, "update_every": 2, "stop_round": 6},
    },
    "exact growth": {"name": "rigl", "parameters": {**SPARSE, "top_k": "exact"}},
    "feddst": {"name": "feddst", "parameters": {**SPARSE, "alpha": 0.2, "update_every": 2}},
}


class ConvTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.enterClassContext(cluster.Cluster(workers=2))

    def test_every_method_learns_digits(self):
        for name, method in METHODS.items():
            with self.subTest(name):
                job = self.cluster.run(digits_job(rounds=8, model=MODEL, method=method))
                self.assertEqual("SUCCEEDED", job["state"])
                accuracies = [summary["test_accuracy"] for summary in job["history"]]
                self.assertGreater(accuracies[-1], accuracies[0])
                self.assertGreater(accuracies[-1], 0.85)
                density = 1 if name == "dense" else 0.3
                self.assertAlmostEqual(density, job["history"][-1]["density"], delta=0.01)

    def test_with_batch_norm_every_aggregation_learns_digits(self):
        plain_sgd = {
            "batch_size": 16,
            "local_epochs": 1,
            "optimizer": {"kind": "sgd", "learning_rate": 0.05},
        }
        for sections in (
            {"aggregation": {"rule": "median"}},
            {"aggregation": {"rule": "multi_krum", "selected": 2}},
            {"aggregation": {"clip_norm": 2, "server_optimizer": "adam"}},
            {"training": plain_sgd | {"control_variates": True}},
            {"training": plain_sgd | {"proximal_mu": 0.1}},
        ):
            with self.subTest(**sections):
                job = self.cluster.run(
                    digits_job(rounds=8, model=MODEL, method=METHODS["fedtiny"], **sections)
                )
                history = job["history"]
                self.assertGreater(sum(int(s["weights_changed"]) for s in history), 0)
                self.assertLess(history[-1]["train_loss"], history[0]["train_loss"])
                self.assertGreater(history[-1]["test_accuracy"], 0.7)

    def test_same_job_gives_the_same_model(self):
        for name in ("rigl", "exact growth", "feddst", "fedmef"):
            with self.subTest(name):
                jobs = [
                    self.cluster.run(digits_job(rounds=3, model=MODEL, method=METHODS[name]))
                    for _ in range(2)
                ]
                self.assertEqual(jobs[0]["model_hash"], jobs[1]["model_hash"])
                self.assertEqual(
                    jobs[0]["history"][-1]["train_loss"], jobs[1]["history"][-1]["train_loss"]
                )

    def test_steps_before_the_first_round_are_told_and_counted(self):
        method = {"name": "fedtiny", "parameters": {"density": 0.3, "pool_size": 3}}
        path = self.cluster.file(digits_job(rounds=1, model=MODEL, method=method))
        result = self.cluster.cli("job", "submit", path, "--watch")
        self.assertEqual(0, result.code, result.err)
        lines = [line for line in result.err.splitlines() if "before round 1" in line]
        self.assertEqual(6, len(lines), result.err)
        self.assertIn("select_statistics  candidate 1 of 3", lines[0])
        self.assertRegex(lines[5], r"select_loss  candidate 3 of 3  loss \d\.\d+  \d+ kB")
        job = self.cluster.run(path)
        self.assertGreater(int(job["prelude_bytes_sent"]), int(job["prelude_bytes_received"]))
        self.assertGreater(int(job["prelude_bytes_received"]), 0)
        # Round 1 alone: values down and up for three shards, and the structure for two workers.
        self.assertLess(
            int(job["history"][0]["bytes_sent"]), int(job["prelude_bytes_sent"]) / 2
        )

    def test_normalization_is_measured_over_participants(self):
        data = digits_job()["data"] | {"normalization": "federated"}
        job = self.cluster.run(digits_job(rounds=2, model=MODEL, data=data))
        stored = job["spec"]["data"]
        pixels = []
        with gzip.open(cluster.DATA / "digits/digits.csv.gz", "rt") as lines:
            for line in lines:
                pixels.append([int(field) / 16 for field in line.split(",")[:-1]])
        train = [value for row in pixels[: len(pixels) - 360] for value in row]
        mean = sum(train) / len(train)
        std = math.sqrt(sum(value**2 for value in train) / len(train) - mean**2)
        self.assertAlmostEqual(mean, stored["channel_mean"][0], delta=1e-6)
        self.assertAlmostEqual(std, stored["channel_std"][0], delta=1e-6)
        self.assertEqual("GIVEN", stored["normalization"])

    def test_recalibrated_model_is_what_is_evaluated(self):
        def run(**evaluation):
            evaluation = {"central": True} | evaluation
            return self.cluster.run(digits_job(rounds=2, model=MODEL, evaluation=evaluation))

        plain, last, pooled = (
            run(),
            run(recalibration="last"),
            run(recalibration="last", pooled_variance=True),
        )
        self.assertEqual(
            plain["history"][0]["test_loss"], last["history"][0]["test_loss"]
        )
        self.assertEqual(3, len({job["model_hash"] for job in (plain, last, pooled)}))
        for job in (last, pooled):
            self.assertGreater(job["history"][1]["test_accuracy"], 0.6)

    def test_named_model_is_stored_as_its_layers(self):
        model = {
            "name": "resnet8",
            "parameters": {"width": 0.25},
            "input_image": MODEL["input_image"],
        }
        job = self.cluster.run(digits_job(rounds=1, model=model))
        stored = job["spec"]["model"]
        self.assertEqual("", stored["name"])
        self.assertEqual(64, int(stored["input_features"]))
        self.assertEqual(4, int(stored["layers"][0]["conv2d"]["channels"]))
        self.assertEqual(10, int(stored["layers"][-1]["linear"]["units"]))

    def test_standardised_weights_take_the_place_of_batch_norm(self):
        model = {
            "name": "resnet8",
            "parameters": {"width": 0.5, "normalization": "weight"},
            "input_image": MODEL["input_image"],
        }
        methods = {name: METHODS[name] for name in ("dense", "set", "fedtiny", "fedmef")}
        methods["snip"] = {"name": "snip", "parameters": {"density": 0.3}}
        methods["synflow"] = {"name": "synflow", "parameters": {"density": 0.3}}
        for name, method in methods.items():
            with self.subTest(name):
                job = self.cluster.run(digits_job(rounds=8, model=model, method=method))
                self.assertGreater(job["history"][-1]["test_accuracy"], 0.85)
        stored = job["spec"]["model"]["layers"]
        self.assertTrue(stored[0]["conv2d"]["standardize"])
        self.assertNotIn("batch_norm", str([sorted(layer) for layer in stored]))
        dense = self.cluster.run(digits_job(rounds=3, model=model, method=METHODS["dense"]))
        prune = {
            "model": {"pretrained": dense["name"]},
            "data": digits_job()["data"],
            "method": {"name": "wanda", "parameters": {"sparsity": 0.3}},
        }
        refused = self.cluster.cli("job", "submit", self.cluster.file(prune))
        self.assertIn("found standardised ones (layers.0.scale)", refused.err)
        prune["method"]["name"] = "magnitude"
        self.assertGreater(self.cluster.run(prune)["history"][-1]["test_accuracy"], 0.5)

    def test_layers_that_do_not_fit_are_refused_at_their_place(self):
        model = {**MODEL, "layers": [{"max_pool": {"kernel": 9}}, {"linear": {"units": 10}}]}
        result = self.cluster.cli("job", "submit", self.cluster.file(digits_job(model=model)))
        self.assertNotEqual(0, result.code)
        self.assertIn("model.layers[0].max_pool", result.err)
        self.assertIn("does not fit the 8 × 8 positions", result.err)

    def test_folders_train_the_same_model_as_a_table_of_the_same_values(self):
        root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        datasets.write_digits(root, cluster.DATA / "digits/digits.csv.gz")
        running = self.enterContext(cluster.Cluster())
        running.add_worker("one", data_root=root)
        jobs = {}
        for name in ("images", "table"):
            data = digits_job()["data"] | {"dataset": name}
            jobs[name] = running.run(digits_job(rounds=4, model=MODEL, data=data))
        self.assertEqual(jobs["table"]["model_hash"], jobs["images"]["model_hash"])
        accuracies = [job["history"][-1]["test_accuracy"] for job in jobs.values()]
        self.assertEqual(accuracies[0], accuracies[1])
        self.assertGreater(accuracies[0], 0.8)
        data = digits_job()["data"] | {
            "dataset": "images",
            "image_size": {"height": 4, "width": 8},
        }
        refused = running.cli("job", "submit", running.file(digits_job(model=MODEL, data=data)))
        self.assertNotEqual(0, refused.code)
        self.assertIn("data.image_size.height", refused.err)


if __name__ == "__main__":
    unittest.main()
