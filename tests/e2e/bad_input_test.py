"""What people get wrong: each mistake has its exit code and a paragraph: expected, found, fix."""

import gzip
import pathlib
import tempfile
import unittest

import cluster
import datasets
from cluster import digits_job, espalier

USAGE, NOT_FOUND, CONFLICT, UNAVAILABLE, JOB_FAILED = 2, 3, 5, 6, 7


def changed(path, value):
    """The digits job with one field, "a.b.0.c", replaced."""
    job = digits_job()
    *parents, last = path.split(".")
    node = job
    for key in parents:
        node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
    node[int(last) if isinstance(node, list) else last] = value
    return job


class PhraseTest(unittest.TestCase):
    """Checks shared by the tables below."""

    def check_error(self, result, code, reasons, *words):
        self.assertEqual(code, result.code, result.err)
        error = result.error
        self.assertIn(error["reason"], reasons.split(), error)
        self.assertRegex(error["code"], "^[A-Z_]+$")
        text = error["message"] + "".join(
            f"\n{v['field']}: {v['description']}" for v in error["violations"]
        )
        self.assertNotIn("\n\n", text, "one paragraph")
        self.assertLess(len(text), 700, "one paragraph")
        for word in words:
            self.assertIn(word, text)
        return error

    def check_field(self, result, field, *words):
        """One invalid field, and what is said of it, by the command line or by the coordinator."""
        error = self.check_error(result, USAGE, "JOB_FILE_INVALID INVALID_JOB", *words)
        self.assertIn(field, [violation["field"] for violation in error["violations"]], error)
        return error


class JobFileTest(PhraseTest):
    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.enterClassContext(cluster.Cluster(workers=1))

    def submit(self, job, *arguments):
        return self.cluster.cli("job", "submit", self.cluster.file(job), "-o", "json", *arguments)

    # field to change, value, field that the error names, words of the error
    FIELDS = [
        ("federation.roundz", 3, "federation.roundz", ["unknown", "rounds"]),
        ("modle", {}, "modle", ["unknown", "model"]),
        ("method.name", "sett", "method.name", ["sett", "did you mean", "set", "dense", "rigl"]),
        ("method.parameters.densty", 0.1, "method.parameters.densty", ["did you mean", "density"]),
        ("method.parameters.density", 2, "method.parameters.density", ["0 < x ≤ 1", "2"]),
        ("method.parameters.density", "thin", "method.parameters.density", ["number", "thin"]),
        ("method.parameters.density", 0, "method.parameters.density", ["0 < x ≤ 1"]),
        ("federation.rounds", 0, "federation.rounds", ["1..1,000,000", "found 0"]),
        ("federation.rounds", 2000000, "federation.rounds", ["1..1,000,000", "2,000,000"]),
        ("federation.rounds", "many", "federation.rounds", ["whole number", "many"]),
        ("federation.rounds", 1.5, "federation.rounds", ["whole number", "1.5"]),
        ("federation.min_workers", 0, "federation.min_workers", ["1..10,000", "found 0"]),
        ("federation.quorum", 1.5, "federation.quorum", ["1.5"]),
        ("federation.round_deadline", "soon", "federation.round_deadline", ["soon", "10m"]),
        ("federation.round_deadline", "1ms", "federation.round_deadline", ["1s..24h"]),
        ("federation.cohort_size", 9, "federation.cohort_size", ["3", "9"]),
        ("training.optimizer.learning_rate", 0, "training.optimizer.learning_rate", ["> 0"]),
        ("training.optimizer.learning_rate", ".nan", "training.optimizer.learning_rate", ["nan"]),
        ("training.optimizer.momentum", 1, "training.optimizer.momentum", ["0 ≤ x < 1"]),
        ("training.optimizer.kind", "adma", "training.optimizer.kind", ["adma", "adam", "sgd"]),
        ("training.batch_size", 100000, "training.batch_size", ["65,536", "100,000"]),
        ("training.local_steps", 5, "training.local_steps", ["local_epochs"]),
        ("model.input_features", -1, "model.input_features", ["found -1"]),
        ("model.layers", [], "model.layers", ["at least one"]),
        ("model.layers.0.linear.units", 0, "model.layers[0].linear.units", ["found 0"]),
        ("model.layers.0.linear.units", 100000000, "model.layers[0].linear.units", ["10,000,000"]),
        (
            "model.layers.0.linear.activation",
            "relo",
            "model.layers[0].linear.activation",
            ["relo", "relu"],
        ),
        ("model.layers.0.linear.dropout", 1, "model.layers[0].linear.dropout", ["0 ≤ x < 1"]),
        ("model.loss", "l2", "model.loss", ["l2", "cross_entropy", "mean_squared_error"]),
        ("data.partition.kind", "even", "data.partition.kind", ["even", "iid", "dirichlet"]),
        ("data.partition.shards", 0, "data.partition.shards", ["1..100,000", "found 0"]),
        ("data.test_fraction", 1, "data.test_fraction", ["0 ≤ x < 1", "found 1"]),
        ("data.scale", "0x", "data.scale", ["number", "0x"]),
        ("data.dataset", "../digits", "data.dataset", ["../digits"]),
        ("data.dataset", "", "data.dataset", []),
        ("data.partition", {"kind": "local", "shards": 3}, "data.partition.shards", ["local"]),
        ("evaluation.every_rounds", -1, "evaluation.every_rounds", ["-1"]),
        ("checkpoint.keep", -1, "checkpoint.keep", ["-1"]),
        ("seed", -1, "seed", ["-1"]),
        ("display_name", "x" * 300, "display_name", ["200"]),
    ]

    def test_fields(self):
        for path, value, field, words in self.FIELDS:
            with self.subTest(path, value=value):
                self.check_field(self.submit(changed(path, value), "--dry-run"), field, *words)

    def test_all_mistakes_are_told_at_once(self):
        job = changed("federation.rounds", 0)
        job["training"]["optimizer"]["learning_rate"] = -1
        job["data"]["test_fraction"] = 2
        error = self.submit(job).error
        self.assertEqual(
            {"federation.rounds", "training.optimizer.learning_rate", "data.test_fraction"},
            {violation["field"] for violation in error["violations"]},
        )
        text = self.cluster.cli("job", "submit", self.cluster.file(job))
        self.assertEqual((USAGE, 4), (text.code, len(text.err.splitlines())), text.err)

    def test_mistakes_of_all_kinds_are_told_at_once(self):
        job = changed("federation.rounds", 0)
        job["modle"] = {}
        job["method"]["parameters"]["density"] = 7
        self.assertEqual(
            {"modle", "federation.rounds", "method.parameters.density"},
            {violation["field"] for violation in self.submit(job).error["violations"]},
        )

    def test_one_mistake_is_one_problem(self):
        good = cluster.EXAMPLES.joinpath("digits-set.yaml").read_text()
        for old, new, field in (
            ("seed:", "\tseed:", ""),
            ("model:", "modle:", "modle"),
            ("{kind: iid, shards: 3}", "[iid]", "data.partition"),
            ("  layers:", "  layer:", "model.layer"),
            ("data:", "datta:", "datta"),
            ("  dataset:", "  datset:", "data.datset"),
            ("  name: set", "  nam: set", "method.nam"),
            ("  name: set", "  name: sett", "method.name"),
            ("kind: sgd", "kind: sdg", "training.optimizer.kind"),
            ("federation:", "federaton:", "federaton"),
            ("\nseed: 1", "\nseed: \u00a01", ""),
        ):
            with self.subTest(new=new):
                self.assertIn(old, good)
                file = self.cluster.folder / "one-mistake.yaml"
                file.write_text(good.replace(old, new, 1))
                violations = self.submit(file).error["violations"]
                self.assertEqual([field], [one["field"] for one in violations], violations)

    # What stands in the place of "seed: 1", and the seed that it means, or words of the refusal.
    SPELLINGS = [
        ("seed: 0x10", 16),
        ("seed: 0o20", 16),
        ("seed: 18446744073709551615", 2**64 - 1),
        ("seed: 18446744073709551616", ["line", "18446744073709551615"]),
        ("seed: 010", ["line", "010"]),
        ("seed: 1_000", ["line", "write 1000"]),
        ("seed: 1e1", ["line", "whole number"]),
        ("seed: 2.0", ["line", "whole number"]),
        ('seed: "16"', ["line", "quotes"]),
        ("seed: 1\nseed: 2", ["line", "given twice"]),
        ("\tseed: 1", ["line", "tab"]),
        ("seed:\u00a01", ["line", "U+00A0"]),
        ("seed: 1\n...", 1),
    ]

    def test_spellings_of_yaml(self):
        good = cluster.EXAMPLES.joinpath("digits-set.yaml").read_text()
        file = self.cluster.folder / "spelled.yaml"
        for text, meaning in self.SPELLINGS:
            with self.subTest(text):
                file.write_text("---\n" + good.replace("seed: 1", text, 1))
                result = self.submit(file, "--dry-run")
                if isinstance(meaning, int):
                    self.assertEqual(meaning, result.ok().json["spec"]["seed"])
                    continue
                (violation,) = result.error["violations"]
                for word in meaning:
                    self.assertIn(word, violation["description"])
        for old, new, words in (
            ("momentum: 0.9", "momentum: 0,9", ["decimal point"]),
            ("momentum: 0.9", "momentum: 0.9, nesterov: yes", ["write true"]),
            ("momentum: 0.9", "momentum: 0.9, nesterov: On", ["write true"]),
            ("  optimizer:", "  <<: {batch_size: 8}\n  optimizer:", ["merge keys"]),
            ("federation:", "federation: {round_deadline: 90}\nfederatio:", ["duration"]),
        ):
            with self.subTest(new):
                self.assertIn(old, good)
                file.write_text(good.replace(old, new, 1))
                error = self.submit(file, "--dry-run").err
                for word in words:
                    self.assertIn(word, error)
        for encoding in ("utf-8-sig", "utf-16"):
            with self.subTest(encoding):
                file.write_bytes(good.replace("\n", "\r\n").encode(encoding))
                result = self.submit(file, "--dry-run")
                self.assertEqual(encoding == "utf-8-sig", result.code == 0, result.err)
                if result.code != 0:
                    self.assertIn("UTF-16", result.err)

    def test_unknown_dataset_names_those_there_are(self):
        result = self.submit(changed("data.dataset", "digitz"))
        self.check_field(result, "data.dataset", "digitz", "digits")
        # Sizes that the data would say are not missed as well.
        job = changed("data.dataset", "wine")
        del job["model"]["input_features"]
        del job["model"]["layers"][-1]["linear"]["units"]
        result = self.submit(job)
        self.check_field(result, "data.dataset", "wine", "digits", "espalier dataset list")
        self.assertEqual(1, len(result.error["violations"]))

    def test_overrides(self):
        for text, words in (
            ("federation.roundz=3", ["federation.roundz", "rounds"]),
            ("federation.rounds", ["federation.rounds", "="]),
            ("federation.rounds=0", ["federation.rounds", "1..1,000,000"]),
        ):
            with self.subTest(text):
                result = self.submit(digits_job(), "--set", text)
                self.assertEqual(USAGE, result.code)
                for word in words:
                    self.assertIn(word, result.err)

    def test_files_that_are_no_job(self):
        folder = self.cluster.folder
        for name, content, words in (
            ("empty", b"", ["empty"]),
            ("list", b"- 1\n- 2\n", ["expected"]),
            ("syntax", b"model: {layers: [\n", ["line"]),
            ("twice", b"seed: 1\nseed: 2\n", ["seed", "twice"]),
            ("binary", bytes(range(256)), ["expected"]),
            ("aliases", b"a: &a [1,1]\nb: *a\n", []),
        ):
            with self.subTest(name):
                (folder / name).write_bytes(content)
                result = self.submit(folder / name)
                self.assertIn(result.code, (USAGE, NOT_FOUND), result.err)
                for word in words:
                    self.assertIn(word, result.err)

    def test_file_that_is_not_there(self):
        result = self.submit("/nonexistent/job.yaml")
        self.assertIn(result.code, (USAGE, NOT_FOUND))
        self.assertIn("/nonexistent/job.yaml", result.error["message"])

    def test_endless_file(self):
        result = self.submit("/dev/zero")
        self.assertEqual(USAGE, result.code)
        self.assertIn("/dev/zero", result.error["message"])

    def test_bad_id(self):
        result = self.submit(digits_job(), "--name", "Not An Id")
        self.assertEqual(USAGE, result.code)
        self.assertIn("Not An Id", result.err)

    def test_unknown_names(self):
        for arguments, words in (
            (("job", "get", "nobody"), ["jobs/nobody", "job list"]),
            (("job", "watch", "nobody"), ["jobs/nobody", "job list"]),
            (("job", "cancel", "nobody"), ["jobs/nobody", "job list"]),
            (("checkpoint", "get", "none-1"), ["checkpoints/none-1", "checkpoint list"]),
            (("method", "describe", "sett"), ["sett", "did you mean 'set'"]),
        ):
            with self.subTest(" ".join(arguments)):
                result = self.cluster.cli(*arguments, "-o", "json")
                self.assertEqual(NOT_FOUND, result.code, result.err)
                for word in words:
                    self.assertIn(word, result.error["message"])

    def test_coordinator_is_unharmed(self):
        self.assertEqual(
            1, int(self.cluster.cli("cluster", "status", "-o", "json").ok().json["workers_active"])
        )
        self.cluster.run(digits_job(1))


class UsageTest(PhraseTest):
    def test_commands(self):
        for arguments, words in (
            (["jb", "list"], ["jb", "job", "--help"]),
            (["job", "sumbit", "x"], ["sumbit", "submit"]),
            (["job"], ["expected a command"]),
            (["job", "submit"], ["FILE"]),
            (["job", "list", "--limt", "3"], ["--limt"]),
            (["job", "list", "--limit", "many"], ["many"]),
            (["job", "watch", "x", "--after", "-5"], ["--after", "a whole number from 0", 'found "-5"']),
            (["job", "list", "--limit", "0"], ["--limit", "1 to 100000", 'found "0"']),
            (["checkpoint", "get", "x", "--format", "zip"], ["--format", "espalier, hf", "zip"]),
            (["job", "list", "--timeout", "soon"], ["soon", "30s"]),
            (["up", "--workers", "0"], ["--workers", "1 to 256"]),
            (["demo", "--workers", "0"], ["--workers", "1 to 64"]),
        ):
            with self.subTest(" ".join(arguments)):
                self.check_error(espalier(*arguments, "-o", "json"), USAGE, "USAGE", *words)

    def test_flags_of_the_daemons(self):
        for program, flag, value, expected in (
            ("espalier-coordinator", "--heartbeat-timeout", "nan", "number from 0.5 to 3600"),
            ("espalier-coordinator", "--log-level", "loud", "debug, info, warning, error"),
            ("espalier-worker", "--threads", "0", "whole number from 1 to 1024"),
            ("espalier-worker", "--flops-budget", "-1", "number from 0 to"),
        ):
            with self.subTest(f"{program} {flag}"), tempfile.TemporaryDirectory() as folder:
                log = pathlib.Path(folder) / "log"
                with cluster.Process(program, [flag, value], log) as daemon:
                    self.assertEqual(64, daemon.wait())
                for word in (flag, expected, f'found "{value}"'):
                    self.assertIn(word, log.read_text())

    def test_unknown_output_format(self):
        result = espalier("job", "list", "-o", "xml")
        self.assertEqual(USAGE, result.code)
        for word in ("xml", "table", "json", "yaml"):
            self.assertIn(word, result.err)

    def test_coordinator_that_is_down(self):
        for arguments in (
            ["job", "list"],
            ["worker", "list"],
            ["cluster", "status"],
            ["job", "get", "x"],
        ):
            with self.subTest(" ".join(arguments)):
                self.check_error(
                    espalier(*arguments, "-o", "json", server="127.0.0.1:1"),
                    UNAVAILABLE,
                    "COORDINATOR_UNREACHABLE",
                    "127.0.0.1:1",
                    "--server",
                    "espalier up",
                )

    def test_server_name_without_a_host(self):
        self.check_error(
            espalier("--insecure", "job", "list", "-o", "json", server="no-such-host.invalid:7070"),
            UNAVAILABLE,
            "COORDINATOR_UNREACHABLE",
            "no-such-host.invalid:7070",
            "--server",
        )

    def test_text_errors_are_one_paragraph(self):
        result = espalier("job", "list")
        self.assertEqual(UNAVAILABLE, result.code)
        self.assertEqual(1, len(result.err.splitlines()), result.err)
        self.assertTrue(result.err.startswith("error: expected a coordinator at 127.0.0.1:1"))

    def test_port_in_use_is_one_paragraph(self):
        with cluster.Cluster() as own:
            port = own.address.rpartition(":")[2]
            log = own.folder / "second.log"
            with cluster.Process(
                "espalier-coordinator",
                [
                    "--listen",
                    own.address,
                    "--metrics-listen",
                    "127.0.0.1:0",
                    "--data-dir",
                    own.folder / "second",
                ],
                log,
            ) as second:
                self.assertEqual(69, second.wait())
            # The audit log has told its head before.
            [line] = [line for line in log.read_text().splitlines() if " audit_head " not in line]
            for word in ("PORT_IN_USE", own.address, "--listen"):
                self.assertIn(word, line)
            up = espalier(
                "up",
                "--port",
                port,
                "--metrics-port",
                0,
                "--data-root",
                cluster.DATA,
                "--data-dir",
                own.folder / "up",
                "-o",
                "json",
            )
            self.check_error(
                up, UNAVAILABLE, "PROCESS_ENDED", "PORT_IN_USE", own.address, "--listen"
            )
            log = (own.folder / "up/logs/coordinator.log").read_text()
            self.assertEqual(1, len([line for line in log.splitlines() if " audit_head " not in line]))

    def test_up_without_data(self):
        result = espalier(
            "up", "--data-root", "/nonexistent", "--port", "0", "--metrics-port", "0", "-o", "json"
        )
        self.check_error(result, NOT_FOUND, "DATA_ROOT_NOT_FOUND", "/nonexistent", "--data-root")


class DataTest(PhraseTest):
    """Mistakes that only the workers can see."""

    @classmethod
    def setUpClass(cls):
        cls.root = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        datasets.write_csv(cls.root / "good")
        datasets.write_csv(cls.root / "short-line", extra=["1,2,0"])
        datasets.write_csv(cls.root / "words", extra=["1,2,three,4,0"])
        datasets.write_csv(cls.root / "high-label", extra=["1,2,3,4,7"])
        datasets.write_csv(cls.root / "negative-label", extra=["1,2,3,4,-1"])
        datasets.write_csv(cls.root / "fraction-label", extra=["1,2,3,4,0.5"])
        datasets.write_idx(cls.root / "cut", train=20, test=10)
        images = cls.root / "cut/train-images-idx3-ubyte.gz"
        images.write_bytes(gzip.compress(gzip.decompress(images.read_bytes())[:-100]))
        datasets.write_idx(cls.root / "cut-gzip", train=20, test=10)
        images = cls.root / "cut-gzip/train-images-idx3-ubyte.gz"
        images.write_bytes(images.read_bytes()[:-100])
        datasets.write_idx(cls.root / "no-labels", train=20, test=10)
        (cls.root / "no-labels/train-labels-idx1-ubyte.gz").unlink()
        datasets.write_idx(cls.root / "no-magic", train=20, test=10)
        (cls.root / "no-magic/train-labels-idx1-ubyte.gz").write_bytes(
            gzip.compress(b"hello, I am a label file")
        )
        (cls.root / "nothing").mkdir()
        cls.cluster = cls.enterClassContext(cluster.Cluster(workers=1, data_root=cls.root))

    def run_job(self, job):
        return self.cluster.cli(
            "job", "submit", self.cluster.file(job), "--wait", "-o", "json", "--timeout", "30s"
        )

    def check_failure(self, job, reason, *words):
        """The job fails or is refused; either way the reason and the words are there."""
        result = self.run_job(job)
        if result.code == JOB_FAILED:
            done = result.json
            self.assertEqual("FAILED", done["state"])
            self.assertEqual(reason, done["failure_reason"], done["failure_message"])
            text = done["failure_message"]
        else:
            self.assertEqual(USAGE, result.code, result.err + result.out)
            text = result.err
        for word in words:
            self.assertIn(word, text)

    def said_at_start(self, dataset):
        """What the worker logged of an unusable data set."""
        return "".join(
            line
            for line in self.cluster.workers["w1"].errors().splitlines()
            if "dataset_unusable" in line
            and (f"data set {dataset}:" in line or f"data set {dataset}/" in line)
        )

    def test_training_that_diverges(self):
        job = datasets.csv_job(dataset="good")
        job["training"]["optimizer"]["learning_rate"] = 1e30
        self.check_failure(
            job, "NON_FINITE", "expected a finite loss", "training.optimizer.learning_rate"
        )

    def test_good_data(self):
        self.assertEqual(0, self.run_job(datasets.csv_job(dataset="good")).code)

    def test_shapes(self):
        self.check_failure(
            datasets.csv_job(dataset="good", features=5),
            "SHAPE_MISMATCH",
            "model.input_features",
            "5",
            "4",
            "good",
        )
        self.check_failure(
            datasets.csv_job(dataset="good", classes=2), "SHAPE_MISMATCH", "units", "2", "3", "good"
        )

    def test_files(self):
        images = {"model": {"input_features": 784, "layers": [{"linear": {"units": 10}}]}}
        # data set, what is said of it, and the model that would fit it
        for dataset, words, sections in (
            ("short-line", ["short-line/train.csv", "201", "5", "3"], {}),
            ("words", ["words/train.csv", "201", "three"], {}),
            ("negative-label", ["negative-label/train.csv", "201", "-1"], {}),
            ("fraction-label", ["fraction-label/train.csv", "201", "0.5"], {}),
            ("cut", ["cut/train-images-idx3-ubyte", "bytes"], images),
            ("cut-gzip", ["cut-gzip/train-images-idx3-ubyte"], images),
            ("no-labels", ["no-labels/train-labels-idx1-ubyte", "no such file"], images),
            ("no-magic", ["no-magic/train-labels-idx1-ubyte"], images),
            ("nothing", ["nothing", "none of them"], images),
        ):
            with self.subTest(dataset):
                job = datasets.csv_job(dataset=dataset, **sections)
                said = self.said_at_start(dataset)
                if said:  # the worker does not offer it, so the job is refused
                    for word in words:
                        self.assertIn(word, said)
                    self.check_failure(
                        job,
                        "",
                        "data.dataset",
                        dataset,
                        "expected a worker that can use data set",
                    )
                else:
                    self.check_failure(job, "DATASET_INVALID", *words)

    def test_labels_out_of_range(self):
        self.check_failure(
            datasets.csv_job(dataset="high-label"), "SHAPE_MISMATCH", "high-label", "3", "8"
        )

    def test_more_shards_than_examples(self):
        job = datasets.csv_job(dataset="good")
        job["data"]["partition"]["shards"] = 1000
        self.check_failure(job, "PARTITION_IMPOSSIBLE", "1000", "200", "data.partition.shards")

    def test_missing_groups_file(self):
        job = datasets.csv_job(dataset="good")
        job["data"]["partition"] = {"kind": "groups", "shards": 3, "groups_file": "writers.npy"}
        self.check_failure(job, "DATASET_NOT_FOUND", "good/writers.npy", "data root")

    def test_accuracy_is_not_made_up_without_test_examples(self):
        (self.root / "no-test").mkdir()
        (self.root / "no-test/train.csv").write_text((self.root / "good/train.csv").read_text())
        with cluster.Cluster(workers=1, data_root=self.root) as own:
            result = own.cli(
                "job",
                "submit",
                own.file(datasets.csv_job(dataset="no-test")),
                "--wait",
                "-o",
                "json",
            )
        if result.code == 0:
            self.assertTrue(
                all("test_accuracy" not in summary for summary in result.json["history"])
            )
            self.assertEqual(0, result.json["best_round"])
        else:
            self.assertIn("test_fraction", result.err + result.out)


if __name__ == "__main__":
    unittest.main()
