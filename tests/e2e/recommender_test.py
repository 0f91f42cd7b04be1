"""Recommenders end to end: trained on users of shards, asked by users, and with rows that stay."""

import pathlib
import signal
import tempfile
import unittest

import cluster
import datasets
from cluster import eventually

USERS, ITEMS, TASTES = 90, 60, 6
DIMENSIONS = 8


def job(rounds=6, method="dsl", shards=3, private=False, **sections):
    """LightGCN on what datasets.write_interactions() writes."""
    sparse = {"density": 0.5}
    return {
        "model": {
            "recommender": {
                "users": USERS,
                "items": ITEMS,
                "private_users": private,
                "lightgcn": {"dimensions": DIMENSIONS, "layers": 2, "initial_deviation": 0.1},
            }
        },
        "data": {
            "dataset": "likes",
            "interactions": {"split": "ratio"},
            "partition": {"kind": "users", "shards": shards},
        },
        "method": {"name": method, "parameters": {} if method == "dense" else sparse},
        "training": {
            "batch_size": 64,
            "local_steps": 20,
            "optimizer": {"kind": "adam", "learning_rate": 0.02},
        },
        "federation": {"rounds": rounds},
        "evaluation": {"federated": True} if private else {"central": True},
    } | sections


def metrics(summary, kind="test_metrics"):
    return {metric["name"]: metric["value"] for metric in summary[kind]}


class RecommenderTest(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.liked = datasets.write_interactions(self.root / "likes", USERS, ITEMS, TASTES)

    def start(self, workers):
        own = self.enterContext(cluster.Cluster(data_root=self.root))
        for i in range(workers):
            self.add_worker(own, f"w{i + 1}")
        return own

    def add_worker(self, own, name, root=None):
        state = self.root / "state" / name
        return own.add_worker(name, data_root=root, arguments=("--state-dir", state))

    def test_every_method_learns_what_users_like(self):
        own = self.start(2)
        for method in ("dsl", "static", "set", "rigl", "dense"):
            with self.subTest(method):
                done = own.run(job(rounds=20, method=method, shards=1))
                last = metrics(done["history"][-1])
                self.assertEqual(
                    {"recall@20", "capped_recall@20", "precision@20", "ndcg@20", "hit_rate@20"},
                    set(last),
                )
                self.assertEqual(last["ndcg@20"], done["history"][-1]["main_metric"])
                self.assertNotIn("test_accuracy", done["history"][-1])
                # A random order of 60 items would find a bit more than a third in the first 20.
                self.assertGreater(last["recall@20"], 0.6)
                if method == "dsl":
                    self.assertGreater(int(done["history"][0]["weights_changed"]), 0)
                    self.assertGreater(done["history"][-1]["explored"], 0.5)

    def test_other_models_train_and_a_worker_may_die(self):
        own = self.start(2)
        for kind in ("neumf", "multvae"):
            with self.subTest(kind):
                spec = job(rounds=4)
                del spec["model"]["recommender"]["lightgcn"]
                spec["model"]["recommender"][kind] = (
                    {"dimensions": 4} if kind == "neumf" else {"hidden": 16, "latent": 4}
                )
                first = own.run(spec)
                again = own.run(spec)
                self.assertEqual(first["model_hash"], again["model_hash"])
        spec = job(rounds=cluster.ENDLESS, evaluation={"central": True, "every_rounds": 400})
        name = own.submit(spec)["name"]
        own.wait_round(name, 2)
        own.workers["w2"].send(signal.SIGKILL)
        own.wait_round(name, own.job(name)["round"] + 3)
        own.cli("job", "cancel", name).ok()

    def test_recommendations_leave_out_what_the_user_had(self):
        own = self.start(1)
        done = own.run(job(rounds=15, shards=1))
        checkpoint = done["latest_checkpoint"]
        user = 7
        answer = own.cli("recommend", checkpoint, "--user", user, "-k", ITEMS, "-o", "json").ok()
        items = [int(item["item"]) for item in answer.json["items"]]
        scores = [item["score"] for item in answer.json["items"]]
        self.assertEqual(scores, sorted(scores, reverse=True))
        self.assertEqual(len(items), len(set(items)))
        left_out = set(range(ITEMS)) - set(items)
        self.assertTrue(left_out < self.liked[user], "what was left out was liked")
        self.assertEqual(len(left_out), len(self.liked[user]) - len(self.liked[user]) // 5)
        # The first ones are of the user's taste.
        first = own.cli("recommend", checkpoint, "--user", user, "-k", 3).ok()
        best = [int(line.split()[1]) for line in first.out.splitlines()]
        self.assertEqual(best, items[:3])
        self.assertIn(user % TASTES, {item % TASTES for item in best})
        error = own.cli("recommend", checkpoint, "--user", "nobody", "-o", "json")
        self.assertEqual((3, "USER_NOT_FOUND"), (error.code, error.error["reason"]))
        error = own.cli("recommend", checkpoint + "9", "--user", user, "-o", "json")
        self.assertEqual((3, "CHECKPOINT_NOT_FOUND"), (error.code, error.error["reason"]))
        own.workers["w1"].kill()
        eventually("the worker is lost", lambda: own.worker_states()["w1"] == "LOST")
        error = own.cli("recommend", checkpoint, "--user", user, "-o", "json")
        self.assertEqual(error.error["reason"], "WAITING_WORKERS")

    def test_private_rows_are_never_sent(self):
        own = self.start(3)
        done = own.run(job(rounds=12, private=True))
        # The model is the item table: what is sent, averaged and stored.
        self.assertEqual(int(done["dense_parameters"]), ITEMS * DIMENSIONS)
        last = done["history"][-1]
        self.assertGreater(metrics(last, "federated_test_metrics")["recall@20"], 0.5)
        steady = [r for r in done["history"] if int(r["weights_changed"]) == 0]
        for summary in steady:
            values = int(summary["active_weights"]) * 4
            self.assertLess(int(summary["bytes_received"]), 3 * values + 3 * 2 * 400)
        files = sorted(path.name for path in (self.root / "state").rglob("*.rows"))
        self.assertEqual(files, [f"shard-{s}-{r}.rows" for s in range(3) for r in (10, 11, 12)])
        # The owner of a user answers, whichever it is.
        checkpoint = done["latest_checkpoint"]
        known = 0
        for user in range(0, USERS, 15):
            answer = own.cli("recommend", checkpoint, "--user", user, "-k", ITEMS // 2, "-o", "json").ok()
            items = [int(item["item"]) for item in answer.json["items"]]
            self.assertEqual(len(set(items)), ITEMS // 2)
            known += len(self.liked[user] & set(items))
            self.assertIn(user % TASTES, {item % TASTES for item in items[:3]})
            self.assertFalse(any(item.get("score") for item in answer.json["items"]), "scores tell of the row")
        # Of what a user likes only the fifth that was not trained on is ever recommended.
        self.assertLessEqual(known, sum(len(self.liked[user]) // 5 for user in range(0, USERS, 15)))
        error = own.cli("recommend", checkpoint, "--user", 1, "-k", ITEMS // 2 + 1, "-o", "json")
        self.assertIn(f"at most {ITEMS // 2} items", error.error["message"])
        for path in (self.root / "state").rglob("*.rows"):
            path.unlink()
        error = own.cli("recommend", checkpoint, "--user", 1, "-o", "json")
        self.assertEqual(error.error["reason"], "PRIVATE_ROWS_MISSING")
        self.assertIn("user '1'", error.error["message"])

    def test_private_rows_survive_a_kill(self):
        own = self.start(2)
        expected = own.run(job(rounds=300, private=True))["model_hash"]
        name = own.submit(job(rounds=300, private=True))["name"]
        own.wait_round(name, 3)
        own.workers["w2"].kill()
        # Its users' rows are nowhere else, so that the job cannot end without it.
        self.assertEqual("RUNNING", own.job(name)["state"])
        self.add_worker(own, "w2")
        done = own.wait_state(name, "SUCCEEDED", "FAILED", seconds=90)
        self.assertEqual("SUCCEEDED", done["state"], done["failure_message"])
        self.assertEqual(expected, done["model_hash"])
        self.assertNotIn("private_rows_begin_anew", own.workers["w2"].errors())

    def test_bad_input_names_the_fix(self):
        own = self.start(1)

        def refused(spec):
            result = own.cli("job", "submit", own.file(spec), "--wait", "-o", "json")
            self.assertNotEqual(0, result.code)
            return result.out + result.err

        wrong = job()
        wrong["model"]["recommender"]["items"] = 59
        self.assertIn("expected 60", refused(wrong))
        central = job(private=True, evaluation={"central": True})
        self.assertIn("use federated", refused(central))
        iid = job()
        iid["data"]["partition"]["kind"] = "iid"
        self.assertIn("kind: users", refused(iid))
        many = job(shards=91)
        self.assertIn("lower data.partition.shards", refused(many))
        (self.root / "likes" / "train.txt").write_text("0 1 2\n1;2;3\n")
        self.assertIn("line 2", refused(job(rounds=1, shards=1)))


if __name__ == "__main__":
    unittest.main()
