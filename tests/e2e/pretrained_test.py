"""Training that goes on from a model: FedTiny, sparse methods, and the state of the optimizer."""

import json
import unittest

import cluster
from cluster import digits_job
from conv_test import MODEL

PUBLIC = {
    "dataset": "digits",
    "scale": 16,
    "test_fraction": 0.2003339,
    "partition": {"kind": "iid", "shards": 1},
}


def fedtiny(model, **parameters):
    method = {
        "name": "fedtiny",
        "parameters": {"density": 0.1, "pool_size": 2, "update_every": 2, "stop_round": 6}
        | parameters,
    }
    return digits_job(rounds=2, model=model, method=method)


class PretrainedTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.enterClassContext(cluster.Cluster(workers=2))
        cls.trained = cls.cluster.run(
            digits_job(rounds=4, model=MODEL, method={"name": "dense"}, data=PUBLIC)
        )

    def refused(self, job):
        result = self.cluster.cli("job", "submit", self.cluster.file(job), "-o", "json")
        self.assertNotEqual(0, result.code)
        return json.dumps(result.error, ensure_ascii=False)

    def test_a_trained_start_is_ahead_of_a_random_one(self):
        random = self.cluster.run(fedtiny(MODEL))
        for model in (
            {"pretrained": self.trained["name"]},
            {**MODEL, "pretrained": self.trained["latest_checkpoint"]},
        ):
            with self.subTest(**model):
                job = self.cluster.run(fedtiny(model))
                self.assertEqual(
                    self.trained["latest_checkpoint"], job["spec"]["model"]["pretrained"]
                )
                self.assertAlmostEqual(0.1, job["history"][0]["density"], delta=0.01)
                self.assertLess(
                    job["history"][0]["train_loss"], 0.5 * random["history"][0]["train_loss"]
                )
                self.assertGreater(
                    job["history"][0]["test_accuracy"], random["history"][0]["test_accuracy"]
                )

    def test_dense_training_goes_on_where_it_ended(self):
        job = self.cluster.run(
            digits_job(
                rounds=1,
                model={"pretrained": self.trained["name"]},
                method={"name": "dense"},
                data=PUBLIC,
            )
        )
        self.assertLess(
            job["history"][0]["train_loss"], 0.5 * self.trained["history"][0]["train_loss"]
        )

    def test_the_optimizer_goes_on_where_it_ended(self):
        def training(model, rounds, **optimizer):
            momentum = {"kind": "sgd", "learning_rate": 0.05, "momentum": 0.9}
            return digits_job(
                rounds=rounds,
                model=model,
                method={"name": "dense"},
                data=PUBLIC,
                training={
                    "batch_size": 16,
                    "local_steps": 20,
                    "optimizer": momentum | {"across_rounds": "average"} | optimizer,
                },
                seed=5,
            )

        whole = self.cluster.run(training(MODEL, 4))
        first = self.cluster.run(training(MODEL, 2))
        second = self.cluster.run(training({"pretrained": first["name"]}, 2))
        self.assertEqual(whole["model_hash"], second["model_hash"])
        self.assertNotIn("optimizer_start", whole)
        state = {"checkpoint": first["latest_checkpoint"], "steps": 40, "why_fresh": ""}
        self.assertEqual(state, second["optimizer_start"])
        shown = self.cluster.cli("job", "get", second["name"]).ok().out
        self.assertIn(f"began with the state in {state['checkpoint']}, after 40 minibatches", shown)
        fresh = self.cluster.run(training({"pretrained": first["name"]}, 2, across_rounds="reset"))
        self.assertEqual("optimizer.across_rounds is reset", fresh["optimizer_start"]["why_fresh"])
        shown = self.cluster.cli("job", "get", fresh["name"]).ok().out
        self.assertIn("began fresh: optimizer.across_rounds is reset", shown)

    def test_sparse_training_keeps_the_largest_weights_and_then_its_structure(self):
        def training(pretrained, **method):
            return digits_job(rounds=2, model={"pretrained": pretrained}, method=method, data=PUBLIC)

        density = {"density": 0.3, "distribution": "uniform"}
        sparse = self.cluster.run(training(self.trained["name"], name="static", parameters=density))
        self.assertAlmostEqual(0.3, sparse["history"][0]["density"], delta=0.01)
        self.assertLess(sparse["history"][0]["train_loss"], self.trained["history"][0]["train_loss"])
        further = self.cluster.run(training(sparse["name"], name="set"))
        self.assertEqual(sparse["history"][0]["density"], further["history"][0]["density"])
        self.assertLess(further["history"][0]["train_loss"], sparse["history"][0]["train_loss"])

    def test_what_does_not_fit_is_refused_when_the_job_is_created(self):
        wider = json.loads(json.dumps(MODEL))
        wider["layers"][0]["conv2d"]["channels"] = 16
        wider["pretrained"] = self.trained["name"]
        text = self.refused(fedtiny(wider))
        self.assertIn("layers.0.weight (16 × 1 × 3 × 3)", text)
        self.assertIn("layers.0.weight (12 × 1 × 3 × 3)", text)
        sparse = self.cluster.run(fedtiny(MODEL))["latest_checkpoint"]
        text = self.refused(fedtiny({"pretrained": sparse}))
        self.assertIn("expected a dense checkpoint, found one of density 0.", text)
        text = self.refused(fedtiny({"pretrained": "jobs/nothing"}))
        self.assertIn("expected a job with a checkpoint, found 'jobs/nothing'", text)
        text = self.refused(fedtiny({"pretrained": "checkpoints/nothing-3"}))
        self.assertIn("there is no checkpoint", text)
        job = digits_job(rounds=1, model={"pretrained": self.trained["name"]}, method={"name": "snip"})
        self.assertIn("expected a method that begins with a trained model", self.refused(job))


if __name__ == "__main__":
    unittest.main()
