"""Aggregation rules, server optimizers, FedProx and SCAFFOLD with real processes."""

import pathlib
import tempfile
import unittest

import cluster
import datasets

WORKERS = 5
LOCAL = {"dataset": "mine", "partition": {"kind": "local"}}
SGD = {"kind": "sgd", "learning_rate": 0.1}
UNEVEN = {"kind": "dirichlet", "shards": 5, "alpha": 0.3}


def mislabel(folder):
    """Every label of the training part becomes another one; the test part stays as it is."""
    path = folder / "train.csv"
    rows = [line.rsplit(",", 1) for line in path.read_text().splitlines()]
    path.write_text("".join(f"{x},{(int(label) + 1) % 3}\n" for x, label in rows))


def local_job(**sections):
    return datasets.csv_job(
        20,
        data=LOCAL,
        method={"name": "static", "parameters": {"density": 0.8}},
        training={
            "batch_size": 10,
            "local_epochs": 3,
            "optimizer": SGD,
        },
        federation={"rounds": 20, "min_workers": WORKERS},
        evaluation={"federated": True, "every_rounds": 20},
        **sections,
    )


class PoisonedDataTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        root = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.cluster = cls.enterClassContext(cluster.Cluster())
        for seed in range(WORKERS):
            folder = root / f"site-{seed}" / "mine"
            bad = seed == 2
            datasets.write_csv(folder, rows=800 if bad else 200, seed=seed)
            if bad:
                mislabel(folder)
            cls.cluster.add_worker(f"site-{seed}", data_root=folder.parent)

    def accuracy(self, **aggregation):
        last = self.cluster.run(local_job(aggregation=aggregation))["history"][-1]
        self.assertEqual(WORKERS, int(last["participants"]))
        return last["federated_test_accuracy"]

    def test_one_participant_with_wrong_labels_ruins_the_mean(self):
        self.assertLess(self.accuracy(), 0.6)

    def test_and_none_of_the_robust_rules(self):
        for aggregation in (
            {"rule": "median"},
            {"rule": "trimmed_mean", "trim_fraction": 0.2},
            {"rule": "krum", "byzantine": 1},
            {"rule": "multi_krum", "byzantine": 1},
        ):
            with self.subTest(**aggregation):
                self.assertGreater(self.accuracy(**aggregation), 0.9)

    def test_krum_refuses_more_hostile_participants_than_it_can_stand(self):
        job = self.cluster.file(local_job(aggregation={"rule": "krum", "byzantine": 2}))
        refused = self.cluster.cli("job", "submit", job, "-o", "json")
        self.assertNotEqual(0, refused.code)
        self.assertIn("aggregation.byzantine", refused.err)
        self.assertIn("7 updates in every round, found 5", refused.err)


def digits(**sections):
    data = {"dataset": "digits", "scale": 16, "test_fraction": 0.2003339, "partition": UNEVEN}
    training = {"batch_size": 16, "local_epochs": 2, "optimizer": SGD} | sections.pop(
        "training", {}
    )
    return cluster.digits_job(4, data=data, training=training, **sections)


class UnevenParticipantsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.enterClassContext(cluster.Cluster(workers=2))
        cls.plain = cls.cluster.run(digits())

    def check_changes_the_model(self, job):
        done = self.cluster.run(job)
        self.assertNotEqual(self.plain["model_hash"], done["model_hash"])
        self.assertGreater(done["history"][-1]["test_accuracy"], 0.5)
        return done

    def test_proximal_term(self):
        self.check_changes_the_model(digits(training={"proximal_mu": 0.1}))
        same = self.cluster.run(digits(training={"proximal_mu": 0}))
        self.assertEqual(self.plain["model_hash"], same["model_hash"])

    def test_control_variates_cost_downloads_only_and_do_not_depend_on_workers(self):
        job = digits(training={"control_variates": True})
        done = self.check_changes_the_model(job)
        first, second = done["history"][:2]
        for before, after in zip(self.plain["history"], done["history"]):
            slack = 0.01 * int(before["bytes_received"])
            self.assertAlmostEqual(
                int(before["bytes_received"]), int(after["bytes_received"]), delta=slack
            )
        self.assertGreater(int(second["bytes_sent"]), int(first["bytes_sent"]))
        with cluster.Cluster(workers=1) as other:
            self.assertEqual(done["model_hash"], other.run(job)["model_hash"])

    def test_control_variates_count_minibatches_of_sequences(self):
        # 2 × 150 sequences: a pass is 10 minibatches of 15, whatever the number of predictions in them. A pass and
        # as many steps are the same training.
        with tempfile.TemporaryDirectory() as root:
            datasets.write_text(pathlib.Path(root, "counting"), numbers=1201)
            with cluster.Cluster(workers=1, data_root=root) as own:
                hashes = []
                for length in ({"local_epochs": 1}, {"local_steps": 10}):
                    training = {"batch_size": 15, "optimizer": SGD, "control_variates": True}
                    job = datasets.text_job(3, training=training | length)
                    job["data"]["train_limit"] = 300
                    hashes.append(own.run(job)["model_hash"])
        self.assertEqual(*hashes)

    def test_server_optimizers(self):
        for aggregation in (
            {"server_optimizer": "momentum", "server_momentum": 0.5},
            {"server_optimizer": "adam", "server_learning_rate": 0.03},
            {"server_optimizer": "yogi", "server_learning_rate": 0.03},
        ):
            with self.subTest(**aggregation):
                self.check_changes_the_model(digits(aggregation=aggregation))
        plain = {"server_optimizer": "momentum", "server_momentum": 0}
        same = self.cluster.run(digits(aggregation=plain))
        self.assertEqual(self.plain["model_hash"], same["model_hash"])


if __name__ == "__main__":
    unittest.main()
