"""What commands print for programs, on a real cluster, has the keys and kinds that docs/reference/json.md says."""

import csv
import io
import json
import pathlib
import re
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
from cluster import digits_job, espalier

PAGE = cluster.SOURCE / "docs/reference/json.md"
ROUNDS = 40

KINDS = {
    "text": str,
    "base64": str,
    "duration": str,
    "time": str,
    "integer": int,
    "number": (int, float, str),
    "true or false": bool,
    "value": (bool, int, float, str),
}
PATTERNS = {"duration": r"-?\d+(\.\d+)?s", "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "base64": r"[\w+/]*=*"}


def tables(text):
    """The tables of keys of the page by their headings: {heading: {key: (kind, always)}}."""
    found, heading = {}, None
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ").replace("`", "")
        elif match := re.fullmatch(r"\| `(\w+)` \| (.+?) \| (always|perhaps) \| .*\|", line):
            found.setdefault(heading, {})[match[1]] = (match[2], match[3] == "always")
    return found


class Checker:
    """Compares values with the page; says every difference with its path."""

    def __init__(self):
        self.tables = tables(PAGE.read_text())

    def object(self, table, value, path):
        keys = self.tables[table]
        for key in value:
            if key not in keys:
                yield f"{path}.{key} is not documented in {table}"
        for key, (kind, always) in keys.items():
            if key in value:
                yield from self.value(kind, value[key], f"{path}.{key}")
            elif always:
                yield f"{path}.{key} is absent"

    def value(self, kind, value, path):
        if kind.startswith("list of "):
            if not isinstance(value, list):
                yield f"{path} is no list"
                return
            for i, item in enumerate(value):
                yield from self.value(kind[len("list of ") :], item, f"{path}[{i}]")
        elif kind.startswith("one of "):
            if f"`{value}`" not in kind:
                yield f"{path}: expected {kind}, found {value!r}"
        elif kind in KINDS:
            whole = not isinstance(value, bool) or kind in ("true or false", "value")
            if not whole or not isinstance(value, KINDS[kind]):
                yield f"{path}: expected {kind}, found {value!r}"
            elif kind in PATTERNS and not re.fullmatch(PATTERNS[kind], value):
                yield f"{path}: expected {kind}, found {value!r}"
        elif match := re.match(r"\[(\w+)\]\(#", kind):
            yield from self.object(match[1], value, path)
        elif not isinstance(value, dict):  # described in words
            yield f"{path}: expected an object, found {value!r}"


class JsonTest(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.checker = Checker()
        cls.cluster = cls.enterClassContext(cluster.Cluster(workers=1))
        job = digits_job(ROUNDS, method={"name": "set", "parameters": {"density": 0.1}})
        job["evaluation"] = {"every_rounds": 10}
        cls.job = cls.cluster.run(job, "--name", "digits")

    def check(self, table, value):
        self.assertEqual([], list(self.checker.object(table, value, table)))

    def print(self, *arguments):
        return self.cluster.cli(*arguments, "-o", "json").ok().json

    def test_every_command_prints_what_is_documented(self):
        checkpoint = self.job["latest_checkpoint"]
        with tempfile.TemporaryDirectory() as folder:
            for table, arguments in (
                ("Job", ["job", "get", "digits"]),
                ("ListJobsResponse", ["job", "list"]),
                ("ListRoundsResponse", ["job", "rounds", "digits"]),
                ("ListWorkersResponse", ["worker", "list"]),
                ("ListWorkersResponse", ["dataset", "list"]),
                ("ListWorkersResponse", ["dataset", "describe", "digits"]),
                ("ListMethodsResponse", ["method", "list"]),
                ("Method", ["method", "describe", "set"]),
                ("ListCheckpointsResponse", ["checkpoint", "list"]),
                ("Checkpoint", ["checkpoint", "get", checkpoint, "-O", f"{folder}/model"]),
                ("ClusterInfo", ["cluster", "status"]),
                ("version", ["version"]),
            ):
                with self.subTest(arguments):
                    self.check(table, self.print(*arguments))
        self.check("Job", self.job)
        for event in self.cluster.events("digits"):
            self.check("JobEvent", event)

    def test_numbers_words_and_times_are_plain(self):
        self.assertEqual("SUCCEEDED", self.job["state"])
        self.assertEqual("SGD", self.job["spec"]["training"]["optimizer"]["kind"])
        self.assertEqual({"density": 0.1}, {k: v for k, v in self.job["spec"]["method"]["parameters"].items() if k == "density"})
        first = self.job["history"][0]
        self.assertIsInstance(first["active_weights"], int)
        self.assertIsInstance(first["train_loss"], float)

    def test_errors(self):
        refused = self.cluster.cli("job", "get", "digit", "-o", "json")
        self.assertEqual(3, refused.code)
        self.check("Errors", refused.error)
        self.assertEqual(("NOT_FOUND", "JOB_NOT_FOUND"), (refused.error["code"], refused.error["reason"]))

    def test_init_and_up(self):
        with tempfile.TemporaryDirectory() as folder:
            data = cluster.SOURCE / "data/digits"
            written = espalier("init", data, "--out", f"{folder}/job.yaml", "-o", "json").ok().json
            self.check("init", written)
            up = self.enterContext(
                cluster.Process(
                    "espalier",
                    ["up", "--workers", "1", "--port", "0", "--metrics-port", "0"]
                    + ["--data-root", cluster.DATA, "--data-dir", f"{folder}/up", "-o", "json"],
                    pathlib.Path(folder) / "log",
                )
            )
            self.check("up", json.loads(up.line()))

    def test_all_rounds(self):
        rounds = self.print("job", "rounds", "digits")
        self.assertEqual(ROUNDS, rounds["total_rounds"])
        self.assertEqual(self.job["history"], rounds["rounds"])

    def test_some_rounds(self):
        rounds = self.print("job", "rounds", "jobs/digits", "--points", "12")
        numbers = [one["round"] for one in rounds["rounds"]]
        self.assertEqual((12, ROUNDS), (len(numbers), rounds["total_rounds"]))
        self.assertEqual(sorted(set(numbers)), numbers)
        self.assertLessEqual({1, 10, 20, 30, 40, self.job["best_round"]}, set(numbers))

    def test_rounds_as_csv(self):
        text = self.cluster.cli("job", "rounds", "digits", "-o", "csv").ok().out
        rows = list(csv.DictReader(io.StringIO(text)))
        self.assertEqual(ROUNDS, len(rows))
        for row, summary in zip(rows, self.job["history"]):
            self.assertEqual(str(summary["round"]), row["round"])
            self.assertEqual(summary["train_loss"], float(row["train_loss"]))
            self.assertEqual(float(summary["duration"].removesuffix("s")), float(row["duration_seconds"]))
            self.assertEqual("test_accuracy" in summary, row["test_accuracy"] != "")

    def test_rounds_as_text(self):
        text = self.cluster.cli("job", "rounds", "digits").ok().out
        self.assertEqual([str(i + 1) for i in range(ROUNDS)], [line.split("\t")[0] for line in text.splitlines()])
        some = self.cluster.cli("job", "rounds", "digits", "--points", "3").ok()
        self.assertEqual(3, len(some.out.splitlines()))
        self.assertIn(f"3 of {ROUNDS} rounds", some.err)

    def test_rounds_of_a_job_that_does_not_exist(self):
        refused = self.cluster.cli("job", "rounds", "digit", "-o", "json")
        self.assertEqual((3, "JOB_NOT_FOUND"), (refused.code, refused.error["reason"]))
        self.assertIn("did you mean 'jobs/digits'", refused.error["message"])

    def test_csv_is_refused_by_other_commands(self):
        refused = self.cluster.cli("job", "list", "-o", "csv")
        self.assertEqual(2, refused.code)
        self.assertIn("expected -o table, json or yaml, found csv", refused.err)


if __name__ == "__main__":
    unittest.main()
