"""What users did with items, in the files that people have: trained on by the right meaning, or refused with the remedy."""

import os
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
import datasets

USERS, ITEMS = 12, 15
SOURCE = random.Random(4)
PAIRS = [(user, item) for user in range(USERS) for item in sorted(SOURCE.sample(range(ITEMS), 6))]
# Every item is there.
PAIRS = sorted(set(PAIRS) | {(item % USERS, item) for item in range(ITEMS)})

LIGHTGCN = "".join(
    " ".join(map(str, [user, *(item for of, item in PAIRS if of == user)])) + "\n" for user in range(USERS)
)
MOVIELENS = "".join(f"{user + 1}\t{item + 1}\t4\t{100 + 7 * user + item}\n" for user, item in PAIRS)


def csv(line, header="user,item"):
    return (header + "\n" if header else "") + "".join(line(user, item) + "\n" for user, item in PAIRS)


def plain(user, item):
    return f"{user},{item}"


def titled(user, item):
    return f'u{user},"Film {item}, the {"first" if item % 2 else "second"}"'


# Name: file name and content. All are the same interactions.
READ = {
    "plain": ("data.csv", csv(plain)),
    "semicolons": ("data.csv", csv(plain).replace(",", ";")),
    "carriage-returns": ("data.csv", csv(plain).replace("\n", "\r")),
    "quoted-commas": ("data.csv", csv(titled)),
    "no-header-and-numbers": ("data.csv", csv(lambda u, i: f"{u},{i},4,{i}", header="")),
    "no-header-and-words": ("data.csv", csv(lambda u, i: f"A{u}X,B00{i},4.0,{1400 + i}", header="")),
    "other-names": ("data.csv", csv(lambda u, i: f"A{u}X,B00{i},4.0,{1400 + i}", "who,what,stars,when")),
    "identifiers": (
        "train.csv",
        csv(lambda u, i: f"{u:08x}-9b1d-4c2e-8f00-0123456789ab,{i:08x}-77aa-4000-8000-ba9876543210", header=""),
    ),
    "lightgcn": ("train.txt", LIGHTGCN),
    "lightgcn-crlf": ("train.txt", LIGHTGCN.replace("\n", "\r\n")),
    "lightgcn-carriage-returns": ("train.txt", LIGHTGCN.replace("\n", "\r")),
    "lightgcn-tabs": ("train.txt", LIGHTGCN.replace(" ", "\t")),
    "movielens": ("u.data", MOVIELENS),
    "movielens-carriage-returns": ("u.data", MOVIELENS.replace("\n", "\r")),
}

REFUSED = {
    "comment": ("data.csv", "# from the shop\n" + csv(plain), ["line 1", "a comment", "remove the lines of comments"]),
    "lightgcn-comment": ("train.txt", "# users\n" + LIGHTGCN, ["line 1", "a comment"]),
    "movielens-comment": ("u.data", "# ratings\n" + MOVIELENS, ["line 1", "a comment"]),
    "lightgcn-utf-16": ("train.txt", LIGHTGCN.encode("utf-16"), ["line 1", "UTF-16", "iconv"]),
    "movielens-utf-16": ("u.data", MOVIELENS.encode("utf-16"), ["line 1", "UTF-16", "iconv"]),
    "lightgcn-commas": ("train.txt", LIGHTGCN.replace(" ", ","), ["line 1", "separated by blanks"]),
    "header-only": ("data.csv", "user,item\n", ["at least one interaction"]),
    "empty-id": ("data.csv", csv(plain) + "3,\n", ["column 2", "expected an id"]),
    "delimiter-at-line-ends": ("data.csv", csv(lambda u, i: f"{u},{i},"), ["line 2", "found 3"]),
}


def job(dataset, split="ratio", **interactions):
    """Neither users nor items are typed: the data says them."""
    return {
        "model": {"recommender": {"lightgcn": {"dimensions": 8, "layers": 2, "initial_deviation": 0.1}}},
        "data": {
            "dataset": dataset,
            "interactions": {"split": split} | interactions,
            "partition": {"kind": "users", "shards": 1},
        },
        "method": {"name": "dense"},
        "training": {
            "batch_size": 64,
            "local_steps": 10,
            "optimizer": {"kind": "adam", "learning_rate": 0.02, "across_rounds": "average"},
        },
        "federation": {"rounds": 1},
        "evaluation": {"top_k": [10]},
    }


class InteractionFilesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        for name, (file, content, *_) in (READ | REFUSED).items():
            cls.write(name, **{file: content})
        cls.write_times()
        cls.write_lightgcn_with_gaps()
        people = [f"usér{user},Amélie {item}" for user in range(6) for item in range(4) if user != item]
        for name, encoding in (("latin-1", "latin-1"), ("utf-8", "utf-8")):
            cls.write(name, **{"data.csv": ("user,item\n" + "\n".join(people) + "\n").encode(encoding)})
        cls.cluster = cls.enterClassContext(cluster.Cluster(workers=2, data_root=cls.root))

    @classmethod
    def write(cls, name, **files):
        datasets.write_files(cls.root, name, files)

    @classmethod
    def write_times(cls):
        """Of each user's three items c comes first in the file and last in time; a is the earliest."""

        def lines(time):
            return "".join(f"u{u},{kind}{u},{time(u, place)}\n" for u in range(40) for kind, place in (("c", 2), ("a", 0), ("b", 1)))

        named = "user,item,timestamp\n"
        cls.write("fractions", **{"data.csv": named + lines(lambda u, place: f"1700000000.{u:02d}{place + 1}")})
        cls.write("whole", **{"data.csv": named + lines(lambda u, place: 1_700_000_000_000 + 10 * u + place)})
        cls.write("scaled", **{"data.csv": named + lines(lambda u, place: f"0.{500 + 10 * u + place}")})
        cls.write("dates", **{"data.csv": named + lines(lambda u, place: f"2024-01-{1 + u % 28:02d}T12:00:0{place}Z")})
        typed = "user_id:token,item_id:token,timestamp:float\n"
        cls.write("typed-header", **{"data.csv": typed + lines(lambda u, place: 3 * u + place)})
        cls.write("untimed", **{"data.csv": "user,item\n" + "".join(f"u{u},{k}{u}\n" for u in range(40) for k in "cab")})

    @classmethod
    def write_lightgcn_with_gaps(cls):
        """Users without items, and users and items that only the test file has."""
        train = "0 0 1\r\n1 \r\n2 2 3 \r\n3\r\n\r\n4 4 5\r\n5 0 2\r\n"
        test = "0 3\n1\n2 0\n5 1\n6 6\n3\n"
        cls.write("gaps", **{"train.txt": train, "test.txt": test})

    def refusal(self, given):
        (violation,) = self.cluster.violations(given)
        return violation["description"]

    def test_spellings_that_are_read(self):
        for name in READ:
            with self.subTest(name):
                trained = self.cluster.run(job(name))
                recommender = trained["spec"]["model"]["recommender"]
                self.assertEqual((USERS, ITEMS), (recommender["users"], recommender["items"]))
                # A fifth of each user's, rounded down, is asked for.
                held_out = sum(sum(of == user for of, _ in PAIRS) // 5 for user in range(USERS))
                self.assertEqual(len(PAIRS) - held_out, int(trained["history"][-1]["examples"]))

    def test_spellings_that_are_refused_say_where_and_what_to_do(self):
        for name, (_, _, words) in REFUSED.items():
            with self.subTest(name):
                text = self.refusal(job(name))
                for word in words:
                    self.assertIn(word, text)

    def test_times_order_what_users_did_to_their_last_digit(self):
        for name in ("fractions", "whole", "scaled", "dates", "typed-header"):
            with self.subTest(name):
                trained = self.cluster.run(job(name, split="leave_one_out", order_by_time=True))
                asked = self.cluster.cli(
                    "recommend", trained["latest_checkpoint"], "--user", "u3", "-k", "120", "-o", "json"
                ).ok().out
                # Recommendations leave out what the user had; the latest is what the model was asked for.
                found = {kind for kind in "abc" if f'"{kind}3"' in asked}
                self.assertEqual({"c"}, found)

    def test_order_by_time_needs_times(self):
        text = self.refusal(job("untimed", split="leave_one_out", order_by_time=True))
        for word in ("a column of times", "'user', 'item'", "leave order_by_time out"):
            self.assertIn(word, text)

    def test_users_without_items_and_what_only_the_test_file_has(self):
        trained = self.cluster.run(job("gaps", split="given"))
        recommender = trained["spec"]["model"]["recommender"]
        self.assertEqual((7, 7), (recommender["users"], recommender["items"]))
        metrics = {metric["name"]: metric["value"] for metric in trained["history"][-1]["test_metrics"]}
        # Each list holds every item that the user has not, and each of four users is asked for one.
        self.assertEqual(1, metrics["recall@10"])
        self.assertEqual(1, metrics["hit_rate@10"])
        self.assertAlmostEqual(0.1, metrics["precision@10"], places=12)

    def test_names_that_are_not_utf_8_are_asked_for_in_either_encoding(self):
        for name in ("latin-1", "utf-8"):
            trained = self.cluster.run(job(name))
            for encoding in ("latin-1", "utf-8"):
                with self.subTest(name, asked=encoding):
                    found = subprocess.run(
                        [
                            *(os.fsencode(cluster.BIN / "espalier"), b"--server", self.cluster.address.encode()),
                            *(b"recommend", trained["latest_checkpoint"].encode()),
                            *(b"--user", "usér3".encode(encoding), b"-k", b"4"),
                        ],
                        capture_output=True,
                        timeout=60,
                        check=False,
                    )
                    self.assertEqual(0, found.returncode, found.stderr)
                    (line,) = found.stdout.decode().splitlines()
                    self.assertEqual("Amélie 3", line.split("\t")[1])


if __name__ == "__main__":
    unittest.main()
