"""What a round costs on the wire: with an unchanged topology only the active values travel."""

import unittest

import cluster

ROUNDS = 6
PARTICIPANTS = 3
BYTES_PER_VALUE = 4
MOST = 1.05
# About 60,000 active weights: small against nothing but large against headers.
JOB = cluster.digits_job(
    ROUNDS,
    evaluation={"central": True, "every_rounds": 1000},
    training={
        "batch_size": 16,
        "local_steps": 2,
        "optimizer": {"kind": "sgd", "learning_rate": 0.05},
    },
    method={"name": "static", "parameters": {"density": 0.1}},
    model={
        "input_features": 64,
        "layers": [
            {"linear": {"units": 700, "activation": "relu", "no_bias": True}},
            {"linear": {"units": 700, "activation": "relu", "no_bias": True}},
            {"linear": {"units": 10, "no_bias": True}},
        ],
    },
)


class WireBytesTest(unittest.TestCase):
    def history(self, workers, job):
        with cluster.Cluster(workers) as own:
            return own.run(job)["history"]

    def check_steady(self, workers):
        for summary in self.history(workers, JOB)[1:-1]:  # the last is evaluated
            needed = int(summary["active_weights"]) * BYTES_PER_VALUE * PARTICIPANTS
            self.assertGreaterEqual(needed, 50_000 * BYTES_PER_VALUE * PARTICIPANTS)
            for direction in ("bytes_sent", "bytes_received"):
                self.assertLessEqual(
                    int(summary[direction]), MOST * needed, (direction, summary["round"])
                )
            self.assertGreaterEqual(int(summary["bytes_received"]), needed)

    def test_as_many_workers_as_participants(self):
        self.check_steady(PARTICIPANTS)

    def test_one_worker_for_all(self):
        self.check_steady(1)

    def test_model_larger_than_one_message(self):
        units = 1500  # over a million weights, 4.7 MB: blobs and updates go in many chunks
        model = JOB["model"] | {
            "layers": [
                {"linear": {"units": units}},
                {"linear": {"units": units}},
                {"linear": {"units": 10}},
            ]
        }
        job = JOB | {"model": model, "method": {"name": "rigl", "parameters": {"density": 0.5}}}
        histories = []
        for workers in (1, PARTICIPANTS):
            history = self.history(workers, job | {"federation": {"rounds": 3}})
            self.assertGreater(int(history[0]["active_weights"]), 1_000_000)
            histories.append([summary["train_loss"] for summary in history])
        self.assertEqual(histories[0], histories[1])

    def test_evolving_topology_travels_as_a_difference(self):
        job = JOB | {"method": {"name": "set", "parameters": {"density": 0.1, "zeta": 0.3}}}
        for summary in self.history(PARTICIPANTS, job)[1:-1]:
            values = int(summary["active_weights"]) * BYTES_PER_VALUE * PARTICIPANTS
            # A changed weight costs about a byte for the drop; growth is a seed.
            changes = int(summary["weights_changed"]) * PARTICIPANTS
            self.assertLessEqual(int(summary["bytes_sent"]), MOST * values + changes)
            self.assertLessEqual(int(summary["bytes_received"]), MOST * values)

    def test_dense_bytes_are_those_of_a_dense_model(self):
        sparse = self.history(1, JOB)
        dense = self.history(1, JOB | {"method": {"name": "dense"}})
        for one, other in zip(sparse[1:-1], dense[1:-1]):
            sent = int(other["bytes_sent"]) + int(other["bytes_received"])
            self.assertAlmostEqual(1, int(one["dense_bytes"]) / sent, delta=0.05)


if __name__ == "__main__":
    unittest.main()
