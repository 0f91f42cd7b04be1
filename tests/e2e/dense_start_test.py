"""Methods that prune a dense model: snip, synflow, gmp and prunefl, on digits as features and as images of 1 × 8 × 8."""

import unittest

import cluster
from cluster import digits_job
from conv_test import MODEL as CONV

ROUNDS = 8
METHODS = {
    "snip": {"density": 0.3, "batches": 2},
    "synflow": {"density": 0.3, "initial_weights": "fresh"},
    "gmp": {"density": 0.3, "end_round": 6},
    "prunefl": {
        "max_density": 0.4,
        "update_every": 3,
        "initial_adjustments": 5,
        "initial_updates": 40,
    },
}


def job(method, parameters=None, model=None, **sections):
    if model is not None:
        sections["model"] = model
    parameters = METHODS[method] if parameters is None else parameters
    return digits_job(
        sections.pop("rounds", ROUNDS),
        method={"name": method, "parameters": parameters},
        **sections,
    )


class PruningTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.enterClassContext(cluster.Cluster(workers=2))

    def check(self, model):
        for method in METHODS:
            with self.subTest(method):
                done = self.cluster.run(job(method, model=model))
                history = done["history"]
                accuracies = [summary["test_accuracy"] for summary in history]
                self.assertGreater(accuracies[-1], 0.85, accuracies)
                if method == "prunefl":
                    self.assertLess(history[-1]["density"], 0.45)
                else:
                    self.assertAlmostEqual(0.3, history[-1]["density"], delta=0.001)

    def test_every_method_learns_digits(self):
        self.check(None)

    def test_every_method_learns_a_convolutional_network(self):
        self.check(CONV)

    def test_gradual_pruning_begins_dense_and_bytes_fall_with_the_density(self):
        quiet = {"central": True, "every_rounds": 1000}
        history = self.cluster.run(job("gmp", evaluation=quiet))["history"]
        densities = [summary["density"] for summary in history]
        self.assertEqual(1, densities[0])
        self.assertEqual(densities, sorted(densities, reverse=True))
        self.assertAlmostEqual(0.3, densities[6], delta=0.001)
        for direction in ("bytes_sent", "bytes_received"):
            sizes = [int(summary[direction]) for summary in history[:-1]]
            self.assertLess(sizes[6], 0.4 * sizes[0], (direction, sizes))
        for before, after in zip(history, history[1:]):
            dropped = int(before["active_weights"]) - int(after["active_weights"])
            self.assertEqual(int(before.get("weights_changed", 0)), dropped)

    def test_structures_chosen_at_the_start_stay(self):
        for method in ("snip", "synflow"):
            history = self.cluster.run(job(method, rounds=3))["history"]
            for summary in history:
                self.assertEqual(0, int(summary.get("weights_changed", 0)))
            self.assertEqual(1, len({summary["active_weights"] for summary in history}))

    def test_random_start_of_prunefl_keeps_its_limit(self):
        parameters = {"density": 0.2, "max_density": 0.2, "update_every": 2, "importance_rounds": 2}
        history = self.cluster.run(job("prunefl", parameters))["history"]
        self.assertAlmostEqual(0.2, history[0]["density"], delta=0.001)
        for summary in history:
            self.assertLessEqual(summary["density"], 0.2001)
        self.assertGreater(int(history[1]["weights_changed"]), 0)
        # Importance of all positions travels up in every round but those after the last adjustment.
        self.assertGreater(int(history[1]["bytes_received"]), 2 * int(history[7]["bytes_received"]))

    def test_what_cannot_be_is_refused_with_numbers(self):
        large = {
            "input_features": 64,
            "layers": [
                {"linear": {"units": 40000}},
                {"linear": {"units": 40000}},
                {"linear": {"units": 10}},
            ],
        }
        for method in METHODS:
            result = self.cluster.cli("job", "submit", self.cluster.file(job(method, model=large)))
            self.assertNotEqual(0, result.code)
            self.assertIn("expected at most 4294967296", result.err)
        result = self.cluster.cli(
            "job", "submit", self.cluster.file(job("gmp", {"end_round": ROUNDS}))
        )
        self.assertIn("method.parameters.end_round", result.err)
        self.assertIn("found 8 of 8 rounds", result.err)

    def test_methods_say_that_workers_need_dense_memory(self):
        for method in METHODS:
            described = self.cluster.cli("method", "describe", method).ok().out
            self.assertIn("need memory for dense tensors", described)


class PruningDeterminismTest(unittest.TestCase):
    def hashes(self, workers):
        with cluster.Cluster(workers=workers) as own:
            names = {m: own.submit(job(m, rounds=7, model=CONV))["name"] for m in METHODS}
            return {m: own.wait_state(name, "SUCCEEDED", seconds=100)["model_hash"]
                    for m, name in names.items()}

    def test_three_workers_compute_what_one_does(self):
        one = self.hashes(1)
        self.assertEqual(len(METHODS), len(set(one.values())))
        self.assertEqual(one, self.hashes(3))


if __name__ == "__main__":
    unittest.main()
