"""A coordinator that is killed at any system call that writes: row 2 of docs/reliability.md, and the same for jobs and parts.

    syscalls_test.py                                              one call of each kind, which is drawn
    ESPALIER_EVERY_CALL=1 tests/e2e/durable/syscalls_test.py      every call, with a report

strace kills the coordinator as it enters the n-th call of a kind, which is not done any more. There are four periods: the
first start on an empty folder, a job, the next start in the middle of that job, and an end in order. Which calls there are is
not written here: each period is traced first. After a kill the next coordinator must begin on the same folder, end the job
like an undisturbed one, and leave no other files.
"""

import collections
import contextlib
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
from cluster import Process, digits_job, eventually
from lives import Lives, history

EVERY = os.environ.get("ESPALIER_EVERY_CALL", "0") != "0"
# Those with a question mark do not exist on every processor.
CALLS = (
    "?open,openat,?mkdir,mkdirat,write,writev,pwrite64,pwritev,fsync,fdatasync,ftruncate,fallocate,"
    "?rename,renameat,renameat2,?link,linkat,?unlink,unlinkat"
)
# SQLite writes its log into the database when it has so many pages. The folder that the job begins on has nearly as many.
LOG_PAGES = 1000
FILLED_PAGES = 900
PAGE_BYTES = 4096 + 24
NAME = "calls"
JOB_S = 30
# The exit code of a command that reaches no coordinator.
UNAVAILABLE = 6


class Moments(collections.namedtuple("Moments", "call group count paths")):
    """Calls of one kind on a group of files: how many there were, and the files."""

    def __str__(self):
        return f"{self.call} on {self.group}"

    def strace(self, number):
        """Options that kill at the call of this number."""
        inject = f"inject={self.call}:signal=SIGKILL:when={number}"
        paths = [word for path in self.paths for word in ("-P", path)]
        return ["-f", "-qq", "-o", "/dev/null", "-e", f"trace={self.call}", "-e", inject, *paths]


def small_job():
    """Its first layer takes more than 64 KiB, which become a file in parts, and its updates are a few pages of the store."""
    model = {"input_features": 64, "layers": [{"linear": {"units": 260, "activation": "relu"}}, {"linear": {"units": 10}}]}
    data = digits_job()["data"] | {"partition": {"kind": "iid", "shards": 2}}
    return digits_job(
        5, model=model, data=data, method={"name": "dense"}, checkpoint={"every_rounds": 1}, wire={"up": "int8"}
    )


def filling_job():
    """A round whose updates take many pages of the store."""
    return small_job() | {"federation": {"rounds": 1}, "checkpoint": {}, "wire": {}}


def group_of(name):
    """The group of a file in the data folder."""
    if name.startswith("jobs.sqlite"):
        return "the store"
    if name.startswith("audit"):
        return "the audit log"
    return name.split("/")[0] if name.startswith(("parts", "checkpoints")) else "folders"


def moments_of(trace, data):
    """All calls on files in the data folder, by call and group."""
    lines = []
    for thread, call, rest in re.findall(r"^(\d+) +(\w+)\((.*)$", trace, re.M):
        # A path is in quotes; that of a descriptor, which option -y adds, in <>.
        paths = re.findall(rf'["<]({re.escape(str(data))}(?:/[^">]*)?)[">]', rest)
        if paths:
            lines.append((thread, call, group_of(paths[0][len(str(data)) + 1 :]), paths))
    threads = collections.defaultdict(set)
    for thread, call, group, _ in lines:
        threads[call, group].add(thread)
    # strace counts the calls of each thread apart: those of a second thread would not all be tried, unless each file is a group.
    counts, files = collections.Counter(), collections.defaultdict(set)
    for _, call, group, paths in lines:
        key = call, group if len(threads[call, group]) == 1 else paths[0][len(str(data)) + 1 :]
        counts[key] += 1
        files[key].update(paths)
    return [Moments(*key, counts[key], sorted(files[key])) for key in sorted(counts)]


def is_traced(pid):
    """Whether strace has all threads of a process."""
    with contextlib.suppress(FileNotFoundError):
        tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
        return all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)
    return False


class SyscallsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.own = cls.enterClassContext(Lives(1))
        cls.own.kill_coordinator()
        cls.folder = cls.own.folder.resolve()
        cls.data = cls.folder / "data"
        cls.worker_log = cls.own.workers["w1"].log
        cls.job = cls.own.file(small_job())
        cls.coordinator = cls.own.coordinator
        cls.command = None
        cls.addClassCleanup(cls.end_all)
        cls.fill()
        cls.expect()
        cls.trace()

    @classmethod
    def fill(cls):
        """Keeps a folder in which the store's log is nearly so long that SQLite writes it into the database."""
        cls.begin_with(None)
        cls.serve()
        log, number = cls.data / "jobs.sqlite-wal", 0
        while log.stat().st_size < FILLED_PAGES * PAGE_BYTES:
            number += 1
            cls.own.run(filling_job(), "--name", f"filling-{number}")
        if log.stat().st_size >= LOG_PAGES * PAGE_BYTES:
            raise AssertionError("expected a log that is not written into the database yet; change filling_job()")
        cls.keep("filled")

    @classmethod
    def expect(cls):
        """Runs the job undisturbed."""
        cls.begin_with("filled")
        cls.serve()
        cls.submit()
        cls.command.wait(JOB_S)
        job = cls.own.job(NAME)
        cls.expected_hash, cls.expected_events = job["model_hash"], history(cls.own.events(NAME))
        # Round 1 and 2 are not kept, unless one is the best.
        kept = {5, 4, 3, max(job["history"], key=lambda one: one["test_accuracy"])["round"]}
        cls.expected_files = {"lock", "jobs.sqlite", "jobs.sqlite-wal", "jobs.sqlite-shm"}
        cls.expected_files |= {f"checkpoints/{NAME}-{number}.safetensors" for number in kept}
        eventually("all is tidy", cls.is_tidy)
        cls.keep("done")

    @classmethod
    def trace(cls):
        """Finds the calls of each period."""
        cls.first_start = cls.traced(lambda options: cls.starts_under(None, options))
        cls.in_job = cls.traced(cls.job_under)
        cls.at_end = cls.traced(cls.end_under)
        # Folders with a file that is whole and has its temporary name: the second checkpoint, and a part of the second round.
        cls.next_start = {}
        for group in ("checkpoints", "parts"):
            renames = next(one for one in cls.in_job if one.group == group and one.call.startswith("rename"))
            if not cls.job_under(renames.strace(2)):
                raise AssertionError(f"expected that a file in {group} is renamed twice")
            cls.keep(group)
            # What a part adds to a start is another file to sweep.
            found = cls.traced(lambda options, group=group: cls.starts_under(group, options))
            cls.next_start[group] = [one for one in found if group == "checkpoints" or one.group == group]

    @classmethod
    def traced(cls, run):
        log = cls.folder / "trace.log"
        run(["-f", "-qq", "-y", "-o", log, "-e", f"trace={CALLS}"])
        moments = moments_of(log.read_text(errors="replace"), cls.data)
        cls.coordinator.kill()
        return moments

    @classmethod
    def end_all(cls):
        cls.coordinator.kill()
        if cls.command is not None:
            cls.command.kill()

    @classmethod
    def keep(cls, name):
        """Keeps the folder as a kill leaves it."""
        cls.end_all()
        shutil.copytree(cls.data, cls.folder / name)

    @classmethod
    def begin_with(cls, name):
        """Puts a folder that was kept in the place of the one that is there, or none."""
        cls.end_all()
        shutil.rmtree(cls.data, ignore_errors=True)
        if name is not None:
            shutil.copytree(cls.folder / name, cls.data)

    @classmethod
    def start(cls, *strace):
        """Starts the coordinator, by strace where there are options of it; with -D the process is the coordinator's."""
        cls.coordinator.kill()
        cls.worker_log_size = cls.worker_log.stat().st_size
        command = [shutil.which("strace"), *strace] if strace else []
        command += [cluster.BIN / "espalier-coordinator", "--listen", cls.own.address]
        command += ["--metrics-listen", "127.0.0.1:0", "--data-dir", cls.data]
        cls.coordinator = Process(command[0], command[1:], cls.folder / "coordinator.log")
        return cls.coordinator

    @classmethod
    def serve(cls):
        """Starts the coordinator, and waits for the worker."""
        cls.start().line()

        def registered():
            with open(cls.worker_log, "rb") as log:
                log.seek(cls.worker_log_size)
                return b" registered " in log.read()

        eventually("the worker registers", registered)

    @classmethod
    def submit(cls):
        """Starts the command that ends with the job. Once it has an answer it goes on by itself when the coordinator is killed."""
        log = cls.folder / "submit.log"
        log.unlink(missing_ok=True)
        arguments = ["job", "submit", cls.job, "--name", NAME, "--request-id", NAME, "--wait", "--timeout", f"{JOB_S}s"]
        cls.command = Process("espalier", arguments, log, env=os.environ | {"ESPALIER_SERVER": cls.own.address})

    @classmethod
    def attach(cls, options):
        """strace, which has all threads of the coordinator from now on."""
        command = [shutil.which("strace"), *options, "-p", str(cls.coordinator.pid)]
        tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=cluster.die_with_parent)
        eventually("strace is at work", lambda: is_traced(cls.coordinator.pid))
        return tracer

    @classmethod
    def killed(cls):
        """Whether the coordinator was killed; it runs, or has ended in order, otherwise."""
        if cls.coordinator.running():
            return False
        code = cls.coordinator.wait()
        if code not in (0, -signal.SIGKILL):
            raise AssertionError(f"the coordinator ended with {code}: {cls.coordinator.errors()[-2000:]}")
        return code != 0

    @classmethod
    def job_under(cls, options):
        """Runs the job under strace until it has ended or the coordinator is killed: whether it was."""
        cls.begin_with("filled")
        cls.serve()
        tracer = cls.attach(options)
        cls.submit()
        eventually("the job ends", lambda: not (cls.command.running() and cls.coordinator.running()), JOB_S)
        # Files may be removed after the end is told.
        eventually("all is tidy", lambda: not cls.coordinator.running() or cls.is_tidy())
        tracer.terminate()
        tracer.wait(cluster.DEADLINE_S)
        return cls.killed()

    @classmethod
    def end_under(cls, options):
        """Ends the coordinator in order under strace: whether it was killed."""
        cls.begin_with("done")
        cls.serve()
        tracer = cls.attach(options)
        cls.coordinator.send(signal.SIGTERM)
        cls.coordinator.wait()
        tracer.wait(cluster.DEADLINE_S)
        return cls.killed()

    @classmethod
    def starts_under(cls, name, options):
        """Starts the coordinator under strace on a folder: whether it is killed before it serves."""
        cls.begin_with(name)
        process = cls.start("-D", *options)
        with contextlib.suppress(AssertionError):
            process.line()
            return False
        process.wait()
        if not cls.killed():
            raise AssertionError(f"the coordinator does not start: {process.errors()[-2000:]}")
        return True

    @classmethod
    def files(cls):
        """What lies in the folder, but for the jobs that filled the store, and the audit log, which has a file more with each life."""
        names = {str(path.relative_to(cls.data)) for path in cls.data.rglob("*") if not path.is_dir()}
        return {name for name in names if not name.startswith(("checkpoints/filling-", "audit/"))}

    @classmethod
    def is_tidy(cls):
        return cls.files() == cls.expected_files

    def check_job(self):
        """Waits for the end of the job, which must be that of the undisturbed one."""
        job = self.own.wait_state(NAME, "SUCCEEDED", "FAILED", "CANCELLED", seconds=JOB_S)
        self.assertEqual("SUCCEEDED", job["state"], job["failure_message"])
        self.assertEqual(self.expected_hash, job["model_hash"])
        self.assertEqual(self.expected_events, history(self.own.events(NAME)))
        with contextlib.suppress(AssertionError):
            eventually("all is tidy", self.is_tidy, 5)
        self.assertEqual(self.expected_files, self.files())
        self.own.cli("checkpoint", "verify").ok()
        self.own.cli("audit", "verify", self.data / "audit").ok()

    def check_command(self):
        code = self.command.wait(2 * JOB_S)
        if code == UNAVAILABLE and "Submitted " not in self.command.errors():
            # Nobody listened when it tried again, and it does not know whether the job was accepted.
            self.command.kill()
            self.submit()
            code = self.command.wait(2 * JOB_S)
        self.assertEqual(0, code, self.command.errors()[-2000:])
        self.check_job()

    def each(self, period, disturb):
        """Calls disturb(options of strace), which says whether it killed, for a drawn call of each kind, or for all in turn."""
        draw = random.Random(self.id())
        kills = 0
        for moments in period:
            # Every run makes about as many calls as the one that was traced; after the last one nothing is killed.
            numbers = range(1, 3 * moments.count + 10) if EVERY else [draw.randint(1, moments.count)]
            tried = good = 0
            for number in numbers:
                killed = True
                with self.subTest(moments=str(moments), number=number):
                    killed = disturb(moments.strace(number))
                    good += killed
                tried += killed
                if not killed:
                    break
            kills += tried
            if EVERY:
                print(f"{self._testMethodName}: {moments}: killed at {tried} calls, {good} as undisturbed", flush=True)
        self.assertGreater(kills, len(period) // 2)

    def test_first_start(self):
        def disturb(options):
            killed = self.starts_under(None, options)
            if killed:
                self.serve()
                self.submit()
                self.check_command()
            return killed

        self.each(self.first_start, disturb)

    def test_job(self):
        def disturb(options):
            killed = self.job_under(options)
            if killed:
                self.start().line()
            self.check_command()
            return killed

        # The log was written into the database, too.
        written = {path for moments in self.in_job if moments.call == "pwrite64" for path in moments.paths}
        self.assertIn(str(self.data / "jobs.sqlite"), written)
        self.each(self.in_job, disturb)

    def next_start_on(self, name):
        def disturb(options):
            killed = self.starts_under(name, options)
            if killed:
                self.start().line()
                self.check_job()
            return killed

        self.each(self.next_start[name], disturb)

    def test_next_start_with_half_a_checkpoint(self):
        self.next_start_on("checkpoints")

    def test_next_start_with_half_a_part(self):
        self.next_start_on("parts")

    def test_end_in_order(self):
        def disturb(options):
            killed = self.end_under(options)
            self.start().line()
            self.check_job()
            return killed

        self.each(self.at_end, disturb)


if __name__ == "__main__":
    unittest.main()
