"""A real cluster for a test: processes on free ports, driven through the command line.

Nothing here sleeps to let something happen: `eventually` asks until it is so, within a deadline.
Every child is killed when its context ends, and by the kernel when the test process is killed.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import tempfile
import time

# What tests share with other kinds of tests.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))

SOURCE = pathlib.Path(os.environ.get("ESPALIER_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
BIN = pathlib.Path(os.environ.get("ESPALIER_BIN_DIR", SOURCE / "build/release/bin"))
DATA = SOURCE / "data"
EXAMPLES = SOURCE / "docs/examples"

# Generous: a slow machine is not a failure. Whoever waits goes on as soon as the condition holds.
DEADLINE_S = 30
# Programs that are so many times slower, because they look at themselves, have so many times longer.
SLOWNESS = float(os.environ.get("ESPALIER_SLOWNESS", "1"))
POLL_S = 0.02
# Rounds of a job that ends only with its cluster or by `job cancel`, however late a test looks at it.
ENDLESS = 100_000
_PR_SET_PDEATHSIG = 1


def die_with_parent():
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def eventually(what, probe, seconds=DEADLINE_S):
    """The first true result of `probe`; fails after `seconds`, saying `what` did not happen."""
    end = time.monotonic() + seconds * SLOWNESS
    while True:
        result = probe()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}; last seen: {result!r}")
        time.sleep(POLL_S)


class Process:
    """A child process. Its stderr goes to the file `log`."""

    def __init__(self, program, arguments, log, **popen):
        self.log = pathlib.Path(log)
        with open(self.log, "ab") as stderr:
            self._popen = subprocess.Popen(
                [BIN / program, *map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=stderr,
                preexec_fn=die_with_parent,
                **popen,
            )
        self.pid = self._popen.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def line(self, seconds=DEADLINE_S):
        """The next line of stdout."""
        end = time.monotonic() + seconds * SLOWNESS
        text = b""
        while not text.endswith(b"\n"):
            ready, _, _ = select.select(
                [self._popen.stdout], [], [], max(0, end - time.monotonic())
            )
            byte = os.read(self._popen.stdout.fileno(), 1) if ready else b""
            if not byte:
                raise AssertionError(f"no line from {self._popen.args}: {text!r} {self.errors()}")
            text += byte
        return text.decode().rstrip("\n")

    def lines(self):
        """All of stdout, to its end, as JSON line by line."""
        return [json.loads(line) for line in self._popen.stdout.read().splitlines()]

    def errors(self):
        return self.log.read_text(errors="replace")

    def send(self, number):
        self._popen.send_signal(number)

    def running(self):
        return self._popen.poll() is None

    def wait(self, seconds=DEADLINE_S):
        """The exit code."""
        return self._popen.wait(seconds * SLOWNESS)

    def kill(self):
        if self.running():
            self.send(signal.SIGKILL)
        self._popen.wait(DEADLINE_S)
        self._popen.stdout.close()


def words(line):
    """{"address": "…"} from "listening address=…"."""
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


class Result:
    """What a command of the command line left behind."""

    def __init__(self, completed):
        self.code = completed.returncode
        self.out = completed.stdout
        self.err = completed.stderr

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def error(self):
        """The error as `-o json` writes it: the last thing on stderr."""
        return json.loads(self.err[self.err.index("{\n") :])

    def ok(self):
        if self.code != 0:
            raise AssertionError(f"exit code {self.code}: {self.err}{self.out}")
        return self


def espalier(*arguments, server="127.0.0.1:1", seconds=60, stdin=None, **environment):
    """Runs `espalier` to its end."""
    return Result(
        subprocess.run(
            [BIN / "espalier", *map(str, arguments)],
            input=stdin,
            text=True,
            capture_output=True,
            timeout=seconds * SLOWNESS,
            check=False,
            env=os.environ | {"ESPALIER_SERVER": server} | environment,
        )
    )


class Cluster(contextlib.ExitStack):
    """A coordinator and its workers, until the context ends."""

    def __init__(self, workers=0, data_root=DATA, coordinator=(), worker=(), data_dir=None):
        super().__init__()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.data_dir = data_dir or self.folder / "data"
        self.programs = BIN  # where those that are started next come from
        self.workers = {}
        self._worker_arguments = worker
        self._data_root = data_root
        try:
            self._start(coordinator, workers)
        except BaseException:
            self.close()
            raise

    def _start(self, arguments, workers):
        self.coordinator = self.enter_context(
            self.new_coordinator(self.data_dir, *arguments)
        )
        line = words(self.coordinator.line())
        self.address, self.metrics = line["address"], line["metrics"]
        for i in range(workers):
            self.add_worker(f"w{i + 1}")

    def new_coordinator(self, data_dir, *arguments):
        listen = [] if "--listen" in arguments else ["--listen", "127.0.0.1:0"]
        return Process(
            self.programs / "espalier-coordinator",
            [
                *listen,
                "--metrics-listen",
                "127.0.0.1:0",
                "--data-dir",
                data_dir,
                *arguments,
            ],
            self.folder / "coordinator.log",
        )

    def add_worker(self, name, data_root=None, wait=True, arguments=()):
        """Starts a worker; `wait`: until it is registered."""
        worker = self.enter_context(
            Process(
                self.programs / "espalier-worker",
                [
                    "--coordinator",
                    self.address,
                    "--id",
                    name,
                    "--data-root",
                    data_root or self._data_root,
                    *self._worker_arguments,
                    *arguments,
                ],
                self.folder / f"{name}.log",
            )
        )
        worker.metrics = words(worker.line())["metrics"]
        self.workers[name] = worker
        if wait:
            eventually(f"{name} registers", lambda: " registered " in worker.errors())
        return worker

    def cli(self, *arguments, **options):
        return espalier(*arguments, server=self.address, **options)

    def background(self, *arguments):
        """A command that is still running; its stdout is read with line()."""
        return self.enter_context(
            Process(
                "espalier",
                arguments,
                self.folder / f"cli-{time.monotonic_ns()}.log",
                env=os.environ | {"ESPALIER_SERVER": self.address},
            )
        )

    def submit(self, job, *arguments):
        """Submits a file, or a dictionary, and returns at once with the job."""
        return self.cli("job", "submit", self.file(job), "-o", "json", *arguments).ok().json

    def violations(self, job, *arguments):
        """Submits what is refused, and returns what is wrong with which field."""
        result = self.cli("job", "submit", self.file(job), "-o", "json", *arguments)
        if result.code != 2:
            raise AssertionError(f"expected a refusal, found exit code {result.code}: {result.err}{result.out}")
        return result.error["violations"]

    def run(self, job, *arguments):
        """Submits and waits for success; returns the finished job."""
        done = self.cli(
            "job",
            "submit",
            self.file(job),
            "--wait",
            "--timeout",
            "100s",
            "-o",
            "json",
            *arguments,
            seconds=120,
        )
        return done.ok().json

    def file(self, job):
        if not isinstance(job, dict):
            return job
        path = self.folder / f"job-{time.monotonic_ns()}.yaml"
        path.write_text(json.dumps(job))  # JSON is YAML
        return path

    def job(self, name):
        return self.cli("job", "get", name, "-o", "json").ok().json

    def wait_state(self, name, *states, seconds=DEADLINE_S):
        def probe():
            job = self.job(name)
            return job if job["state"] in states else None

        return eventually(f"{name} is {states}", probe, seconds)

    def wait_round(self, name, number):
        return eventually(
            f"{name} commits round {number}",
            lambda: (job := self.job(name))["round"] >= number and job,
        )

    def events(self, name):
        """All events of a finished job."""
        out = self.cli("job", "watch", name, "-o", "json").out
        return [json.loads(line) for line in out.splitlines()]

    def worker_states(self):
        workers = self.cli("worker", "list", "-o", "json").ok().json["workers"]
        return {
            w["name"].removeprefix("workers/"): w["state"] for w in workers
        }


def example(name, rounds):
    """Arguments of `job submit` for an example, shortened."""
    return EXAMPLES / f"{name}.yaml", "--set", f"federation.rounds={rounds}"


def digits_job(rounds=3, **sections):
    """A small job on data/digits; `sections` replace or add to its top-level fields."""
    job = {
        "model": {
            "input_features": 64,
            "layers": [{"linear": {"units": 100, "activation": "relu"}}, {"linear": {"units": 10}}],
        },
        "data": {
            "dataset": "digits",
            "scale": 16,
            "test_fraction": 0.2003339,
            "partition": {"kind": "iid", "shards": 3},
        },
        "method": {"name": "set", "parameters": {"density": 0.2}},
        "training": {
            "batch_size": 16,
            "local_epochs": 1,
            "optimizer": {"kind": "sgd", "learning_rate": 0.05, "momentum": 0.9},
        },
        "federation": {"rounds": rounds},
        "evaluation": {"central": True},
    }
    return job | sections
