"""What the command line prints: text from elsewhere steers no terminal and forges no line, an output that
cannot be written is an error, and a printed job file can be submitted again.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
import terminal
from cluster import digits_job, espalier

SUPPORT = pathlib.Path(__file__).parents[2] / "support"
sys.path.insert(0, str(SUPPORT))
from hostile_text import HOSTILE  # noqa: E402  # pylint: disable=wrong-import-position

EXHAUSTED = 8
IO_ERROR = 74

FORBIDDEN = set(HOSTILE) - set("x forged  SUCCEEDED[2J]0;titley")


COMMANDS = [
    ("job", "list"),
    ("job", "get", "x"),
    ("job", "get", "x", "--spec"),
    ("job", "rounds", "x"),
    ("job", "rounds", "x", "-o", "csv"),
    ("job", "watch", "x"),
    ("job", "cancel", "x"),
    ("job", "submit", cluster.EXAMPLES / "digits-set.yaml"),
    ("job", "submit", cluster.EXAMPLES / "digits-set.yaml", "--watch"),
    ("job", "submit", cluster.EXAMPLES / "digits-set.yaml", "--dry-run"),
    ("worker", "list"),
    ("method", "list"),
    ("method", "describe", "x"),
    ("checkpoint", "list"),
    ("checkpoint", "get", "x", "-O", "/nonexistent/x"),
    ("recommend", "x", "--user", "1"),
    ("generate", "x", "--tokenizer", "bytes", "--prompt", "x"),
    ("cluster", "status"),
]


def run_program(words, out, **options):
    """One of the programs with `out` as its standard output."""
    return subprocess.run(
        [cluster.BIN / words[0], *map(str, words[1:])],
        stdout=out,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
        **options,
    )


class HostileTextTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.addresses = {fails: cls.start(*(["--fails"] if fails else [])) for fails in (False, True)}

    @classmethod
    def start(cls, *arguments):
        """The address of a hostile coordinator."""
        process = subprocess.Popen(
            [sys.executable, SUPPORT / "hostile_coordinator.py", *arguments],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=cluster.die_with_parent,
        )
        cls.addClassCleanup(process.stdout.close)
        cls.addClassCleanup(process.wait)
        cls.addClassCleanup(process.kill)
        return cluster.words(process.stdout.readline())["address"]

    def check(self, text, what):
        self.assertFalse((FORBIDDEN - set("\n\t")) & set(text), (what, text))
        for line in text.splitlines():
            self.assertFalse(line.lstrip().startswith("forged"), (what, text))

    def test_pipes_and_data_formats(self):
        for fails, address in self.addresses.items():
            for command in COMMANDS:
                for form in ((),) if "-o" in command else ((), ("-o", "json"), ("-o", "yaml")):
                    with self.subTest(command=command, form=form, fails=fails):
                        result = espalier(*command, *form, server=address)
                        self.check(result.out, command)
                        self.check(result.err, command)
                        self.assertNotEqual("", result.out + result.err)

    def test_terminals(self):
        for fails, address in self.addresses.items():
            for command in COMMANDS:
                with self.subTest(command=command, fails=fails):
                    with terminal.Terminal(
                        *command, columns=100, ESPALIER_SERVER=address
                    ) as person:
                        person.read_to_end()
                        self.check(person.screen, command)


class FullDiskTest(unittest.TestCase):
    def test_every_command_fails(self):
        with cluster.Cluster(workers=1) as own:
            done = own.run(digits_job(rounds=1), "--name", "done")
            commands = [
                ("job", "list"),
                ("job", "get", "done"),
                ("job", "get", "done", "--spec"),
                ("job", "rounds", "done"),
                ("job", "watch", "done"),
                ("job", "submit", own.file(digits_job(rounds=1))),
                ("worker", "list"),
                ("method", "list"),
                ("method", "describe", "set"),
                ("checkpoint", "list"),
                ("checkpoint", "get", done["latest_checkpoint"], "-O", own.folder / "model"),
                ("cluster", "status"),
                ("version",),
                ("--help",),
                ("job", "submit", "--help"),
            ]
            for command in commands:
                for form in ((), ("-o", "json")):
                    with self.subTest(command=command, form=form), open("/dev/full", "wb") as full:
                        result = subprocess.run(
                            [cluster.BIN / "espalier", "--server", own.address]
                            + [str(word) for word in (*command, *form)],
                            stdout=full,
                            stderr=subprocess.PIPE,
                            check=False,
                            timeout=60,
                        )
                        self.assertEqual(EXHAUSTED, result.returncode, result.stderr)
                        self.assertIn(b"could not be written", result.stderr)

    def test_questions_to_every_program(self):
        questions = [
            ("espalier-coordinator", "--help"),
            ("espalier-coordinator", "--version"),
            ("espalier-coordinator", "--describe-metrics"),
            ("espalier-worker", "--help"),
            ("espalier-worker", "--version"),
        ]
        for question in questions:
            with self.subTest(question=question), open("/dev/full", "wb") as full:
                result = run_program(question, full)
                self.assertEqual(IO_ERROR, result.returncode, result.stderr)
                self.assertIn("could not be written", result.stderr)
                self.assertEqual(1, len(result.stderr.splitlines()))

    def test_programs_that_would_run_for_long(self):
        with tempfile.TemporaryDirectory() as folder:
            local = ("--data-root", cluster.DATA)
            ports = ("--port", "0", "--metrics-port", "0", "--data-dir", f"{folder}/up")
            listen = ("--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0")
            programs = [
                (EXHAUSTED, ("espalier", "up", "--workers", "1", *local, *ports)),
                (EXHAUSTED, ("espalier", "demo", "--workers", "1", *local)),
                (IO_ERROR, ("espalier-coordinator", *listen, "--data-dir", f"{folder}/c")),
                (IO_ERROR, ("espalier-worker", "--coordinator", "127.0.0.1:1", *local)),
            ]
            for code, program in programs:
                with self.subTest(program=program), open("/dev/full", "wb") as full:
                    result = run_program(program, full)
                    self.assertEqual(code, result.returncode, result.stderr)
                    self.assertIn("could not be written", result.stderr)

    def test_output_that_is_closed(self):
        for program in ("espalier", "espalier-coordinator", "espalier-worker"):
            with self.subTest(program=program):
                result = run_program((program, "--version"), None, preexec_fn=lambda: os.close(1))
                self.assertNotEqual(0, result.returncode)
                self.assertIn("could not be written", result.stderr)

    def test_readers_that_end_are_nobodys_fault(self):
        """Whether SIGPIPE ends the program or, as under many supervisors, is ignored."""
        for ignored in (False, True):
            for program in (("espalier", "--help"), ("espalier-coordinator", "--help"), ("espalier-worker", "--help")):
                with self.subTest(program=program, ignored=ignored):
                    reader, writer = os.pipe()
                    os.close(reader)
                    result = run_program(program, writer, restore_signals=not ignored)
                    os.close(writer)
                    self.assertNotEqual(0, result.returncode)
                    self.assertEqual("", result.stderr)

    def test_closed_pipe_ends_quietly(self):
        with cluster.Cluster(workers=1) as own:
            own.submit(digits_job(rounds=cluster.ENDLESS), "--name", "endless")
            watcher = own.background("job", "watch", "endless", "-o", "json")
            watcher.line()
            watcher._popen.stdout.close()
            self.assertNotEqual(0, watcher.wait())
            self.assertEqual("", watcher.errors())


class NarrowTerminalTest(unittest.TestCase):
    def test_tables_fit_sixty_columns(self):
        with cluster.Cluster(workers=2) as own:
            done = own.run(digits_job(rounds=2), "--name", "a-job-with-a-name-of-some-length")
            commands = [
                ("job", "list"),
                ("job", "get", done["name"]),
                ("worker", "list"),
                ("method", "list"),
                ("method", "describe", "fedmef"),
                ("checkpoint", "list"),
                ("cluster", "status"),
            ]
            for command in commands:
                for width in (60, 200):
                    with self.subTest(command=command, width=width):
                        with terminal.Terminal(*command, columns=width, ESPALIER_SERVER=own.address) as person:
                            person.read_to_end()
                            rows = person.screen.split("\n")
                        self.assertLessEqual(max(map(len, rows)), width, person.screen)
                        self.assertNotIn("…", person.screen)
            with terminal.Terminal("job", "list", columns=60, ESPALIER_SERVER=own.address) as person:
                person.read_to_end()
                self.assertRegex(person.screen, "NAME +STATE")
                self.assertIn(f"{done['name']}  SUCCEEDED", person.screen)

    def test_columns_is_heard(self):
        with cluster.Cluster(workers=1) as own:
            with terminal.Terminal(
                "method", "list", columns=200, COLUMNS="60", ESPALIER_SERVER=own.address
            ) as person:
                person.read_to_end()
                self.assertLessEqual(max(map(len, person.screen.split("\n"))), 60)

    def test_states_choose_jobs(self):
        with cluster.Cluster(workers=1) as own:
            own.run(digits_job(rounds=1), "--name", "done")
            own.submit(digits_job(rounds=cluster.ENDLESS), "--name", "jobs/endless")
            own.wait_state("endless", "RUNNING")
            for states, expected in (
                (["running"], ["jobs/endless"]),
                (["SUCCEEDED"], ["jobs/done"]),
                (["failed"], []),
                (["running", "succeeded"], ["jobs/endless", "jobs/done"]),
            ):
                arguments = [word for state in states for word in ("--state", state)]
                listed = own.cli("job", "list", *arguments, "-o", "json").ok().json["jobs"]
                self.assertEqual(expected, [job["name"] for job in listed])


class LocalClusterDataTest(unittest.TestCase):
    """`up` and `demo` as data for programs."""

    def test_up(self):
        with tempfile.TemporaryDirectory() as folder:
            options = ["--workers", "1", "--port", "0", "--metrics-port", "0", "--data-root", cluster.DATA]
            with cluster.Process(
                "espalier", ["up", *options, "--data-dir", f"{folder}/up", "-o", "json"], f"{folder}/log"
            ) as up:
                said = json.loads(up.line())
                self.assertEqual(1, len(said["worker_metrics_addresses"]))
                espalier("worker", "list", server=said["address"]).ok()


class SpecTest(unittest.TestCase):
    """`job get --spec` of jobs that ran is a job file of the same job."""

    def check(self, own, job, name, *words):
        own.run(job, "--name", name)
        text = own.cli("job", "get", name, "--spec").ok().out
        for word in words:
            self.assertIn(word, text)
        path = pathlib.Path(own.folder) / f"{name}.yaml"
        path.write_text(text)
        own.cli("job", "submit", path, "--dry-run").ok()
        own.cli("job", "submit", path, "--name", f"{name}-again").ok()
        self.assertEqual(text, own.cli("job", "get", f"{name}-again", "--spec").ok().out)

    def test_lists(self):
        with cluster.Cluster(workers=1) as own:
            steps = digits_job(rounds=2)
            steps["training"] = steps["training"] | {
                "schedule": {"kind": "step", "milestones": [2, 4], "factor": 0.5}
            }
            self.check(own, steps, "steps", "    milestones:\n      - 2\n      - 4\n")
            image = {
                "input_features": 64,
                "input_image": {"channels": 1, "height": 8, "width": 8},
                "layers": [
                    {"conv2d": {"channels": 2, "kernel": 3, "padding": 0, "activation": "relu"}},
                    {"global_avg_pool": {}},
                    {"linear": {"units": 10}},
                ],
            }
            given = digits_job(rounds=1, model=image, method={"name": "dense"})
            del given["data"]["scale"]
            given["data"] = given["data"] | {"channel_mean": [5.5], "channel_std": [4]}
            self.check(own, given, "given", "  channel_mean:\n    - 5.5\n")
            measured = digits_job(rounds=1, model=image, method={"name": "dense"})
            measured["data"] = measured["data"] | {"normalization": "federated"}
            self.check(own, measured, "measured", "  channel_std:\n    - ")


if __name__ == "__main__":
    unittest.main()
