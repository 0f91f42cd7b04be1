"""A job's result depends on its file alone: not on the workers, their number, or what else runs."""

import unittest

import cluster
from cluster import digits_job, example

METHODS = ("dense", "static", "set", "rigl")


def hashes(workers, extra=()):
    """Method → hash of the model after three rounds, all four at once."""
    with cluster.Cluster(workers=workers) as own:
        names = {m: own.submit(*example(f"digits-{m}", 3), *extra)["name"] for m in METHODS}
        return {m: own.wait_state(name, "SUCCEEDED")["model_hash"] for m, name in names.items()}


class DeterminismTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.expected = hashes(workers=1)

    def test_methods_differ(self):
        self.assertEqual(len(METHODS), len(set(self.expected.values())))

    def test_three_workers_compute_what_one_does(self):
        self.assertEqual(self.expected, hashes(workers=3))

    def test_another_cluster_computes_the_same(self):
        self.assertEqual(self.expected, hashes(workers=1))

    def test_another_seed_gives_other_models(self):
        other = hashes(workers=2, extra=("--set", "seed=2"))
        for method in METHODS:
            self.assertNotEqual(self.expected[method], other[method], method)

    def test_state_that_crosses_rounds_does_not_depend_on_the_workers(self):
        carry = ("--set", "training.optimizer.across_rounds=average")
        carried = hashes(workers=1, extra=carry)
        for method in METHODS:
            self.assertNotEqual(self.expected[method], carried[method], method)
        self.assertEqual(carried, hashes(workers=3, extra=carry))

    def test_uneven_shards_and_drawn_cohorts_too(self):
        job = digits_job(
            4,
            federation={"rounds": 4, "cohort_size": 3},
            training={
                "batch_size": 16,
                "local_steps": 7,
                "optimizer": {"kind": "adam", "learning_rate": 0.002},
            },
            data=digits_job()["data"]
            | {"partition": {"kind": "dirichlet", "shards": 8, "alpha": 0.3}},
            evaluation={"central": True, "federated": True},
        )
        results = []
        for workers in (1, 3):
            with cluster.Cluster(workers=workers) as own:
                done = own.run(job)
                results.append(
                    (
                        done["model_hash"],
                        [
                            (s["train_loss"], s["test_loss"], s["federated_test_loss"])
                            for s in done["history"]
                        ],
                    )
                )
        self.assertEqual(results[0], results[1])


    def test_with_state_across_rounds_one_participant_trains_as_without_rounds(self):
        def hash_of(own, rounds, epochs, optimizer):
            job = digits_job(
                rounds,
                training={
                    "batch_size": 16,
                    "local_epochs": epochs,
                    "optimizer": optimizer,
                },
                data=digits_job()["data"] | {"partition": {"kind": "iid", "shards": 1}},
                method={"name": "dense"},
            )
            return own.run(job)["model_hash"]

        sgd = {"kind": "sgd", "learning_rate": 0.05, "momentum": 0.9}
        adam = {"kind": "adam", "learning_rate": 0.002}
        with cluster.Cluster(workers=1) as own:
            for optimizer in (sgd, adam):
                carried = optimizer | {"across_rounds": "average"}
                whole = hash_of(own, 1, 4, optimizer)
                self.assertEqual(whole, hash_of(own, 4, 1, carried), optimizer)
                self.assertNotEqual(whole, hash_of(own, 4, 1, optimizer), optimizer)


if __name__ == "__main__":
    unittest.main()
