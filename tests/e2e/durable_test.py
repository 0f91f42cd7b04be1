"""Coordinators that are killed, and jobs that go on: the promises of docs/reliability.md.

    durable_test.py                                   a few kills of each kind of job
    ESPALIER_KILLS=200 tests/e2e/durable_test.py      so many in all, with a report
"""

import contextlib
import os
import pathlib
import random
import signal
import statistics
import subprocess
import tempfile
import time
import unittest

import cluster
import datasets
import pruning_test
import recommender_test
from cluster import Process, digits_job, eventually

KILLS = int(os.environ.get("ESPALIER_KILLS", "0"))
KILLS_OF_A_JOB = max(3, KILLS // 5)
JOB_S = 120 + 2 * KILLS_OF_A_JOB
# What depends on when something happened, and on how often something was sent.
TIMES_AND_BYTES = {"time", "duration", "bytes_sent", "bytes_received", "dense_bytes", "compute_time", "worker_peak_memory_bytes"}


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES_AND_BYTES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def history(events):
    """What must be the same however often programs were killed; workers that vanished are told of, too."""
    kept = [without_times(event) for event in events if "task_reassigned" not in event]
    for number, event in enumerate(kept):
        event["sequence"] = number
    return kept


@contextlib.contextmanager
def small_disk(size):
    """A folder that is a file system of so many bytes."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
        try:
            yield pathlib.Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


def fill(path):
    """Takes all space that is left on a disk."""
    with open(path, "wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(64 * 1024))
            file.flush()


@contextlib.contextmanager
def failing_syncs(pid, log):
    """From now on every sync of a process fails."""
    command = ["strace", "-f", "-p", str(pid), "-o", log, "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"]
    tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=cluster.die_with_parent)
    try:
        yield
    finally:
        tracer.kill()
        tracer.wait()


class Lives(cluster.Cluster):
    """A cluster whose coordinator is killed and comes back at the same address."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._coordinator_arguments = options.get("coordinator", ())
        self.recoveries = []

    def kill_coordinator(self, number=signal.SIGKILL):
        self.coordinator.send(number)
        self.coordinator.wait()

    def start_again(self, arguments=None):
        arguments = self._coordinator_arguments if arguments is None else arguments
        begin = time.monotonic()
        self.coordinator = self.enter_context(
            self.new_coordinator(self.data_dir, "--listen", self.address, *arguments)
        )
        self.coordinator.line()
        self.recoveries.append(time.monotonic() - begin)


def fedtiny_job():
    job = digits_job(40, method={"name": "fedtiny", "parameters": {"density": 0.2, "pool_size": 4, "update_every": 3, "stop_round": 20}})
    # It selects by the statistics of batch normalisation.
    job["model"]["layers"] = [
        {"linear": {"units": 60}},
        {"batch_norm": {"activation": "relu"}},
        {"linear": {"units": 10}},
    ]
    return job


def imp_job():
    return digits_job(6, method={"name": "imp", "parameters": {"levels": 3, "rewind_round": 1}})


class KillsTest(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.random = random.Random(self.id())

    def cluster(self, workers=2, data_root=cluster.DATA, **options):
        own = self.enterContext(Lives(data_root=data_root, **options))
        for i in range(workers):
            name = f"w{i + 1}"
            own.add_worker(name, arguments=("--state-dir", own.folder / name))
        return own

    def killed_again_and_again(self, job, **options):
        """The same model and the same events, however often the coordinator is killed."""
        calm = self.cluster(**options)
        expected = calm.run(job)
        calm_events = calm.events(expected["name"])
        calm.close()
        own = self.cluster(**options)
        name = own.submit(job, "--name", expected["name"].removeprefix("jobs/"))["name"]
        kills = 0
        while kills < KILLS_OF_A_JOB or own.job(name)["state"] == "RUNNING":
            # Not a wait for something: the moment of the kill is drawn.
            time.sleep(self.random.uniform(0, 0.4))
            if kills < KILLS_OF_A_JOB:
                own.kill_coordinator()
                own.start_again()
                kills += 1
        done = own.wait_state(name, "SUCCEEDED", "FAILED", "CANCELLED", seconds=JOB_S)
        self.assertEqual("SUCCEEDED", done["state"], done["failure_message"])
        self.assertEqual(expected["model_hash"], done["model_hash"])
        self.assertEqual(history(calm_events), history(own.events(name)))
        if KILLS:
            times = sorted(own.recoveries)
            print(
                f"{self._testMethodName}: {kills} kills, back after p50 {statistics.median(times):.3f} s, "
                f"p99 {times[int(0.99 * len(times))]:.3f} s",
                flush=True,
            )

    def test_promise_1_set(self):
        self.killed_again_and_again(digits_job(150))

    def test_promise_1_fedtiny(self):
        self.killed_again_and_again(fedtiny_job())

    def test_promise_1_imp_with_runs_side_by_side(self):
        self.killed_again_and_again(imp_job())

    def test_promise_1_dsl_with_private_rows(self):
        datasets.write_interactions(self.root / "likes", recommender_test.USERS, recommender_test.ITEMS, recommender_test.TASTES)
        self.killed_again_and_again(recommender_test.job(rounds=100, private=True), workers=3, data_root=self.root)

    def test_promise_1_dsnot_on_a_language_model(self):
        pruning_test.write_model(self.root / "models" / "tiny")
        pruning_test.write_text(self.root / "data" / "words")
        job = self.root / "job.yaml"
        job.write_text(pruning_test.JOB.format(method="dsnot", shards=3, parameters="sparsity: 0.5"))
        self.killed_again_and_again(
            job, data_root=self.root / "data", coordinator=("--models", self.root / "models")
        )


class PromisesTest(unittest.TestCase):
    def lives(self, workers):
        return self.enterContext(Lives(workers))

    def test_promise_1_a_job_that_waits_and_one_that_has_ended(self):
        own = self.lives(0)
        waits = own.submit(digits_job(3), "--name", "waits")["name"]
        own.submit(digits_job(3), "--name", "cancelled")
        own.cli("job", "cancel", "cancelled").ok()
        own.kill_coordinator()
        own.start_again()
        self.assertEqual("PENDING", own.job(waits)["state"])
        self.assertEqual("CANCELLED", own.job("jobs/cancelled")["state"])
        own.add_worker("w1")
        done = own.wait_state(waits, "SUCCEEDED", "FAILED")
        self.assertEqual("SUCCEEDED", done["state"], done["failure_message"])
        self.assertEqual(3, len(done["history"]))
        own.kill_coordinator()
        own.start_again()
        again = own.job(waits)
        self.assertEqual(done, again)
        refused = own.cli("job", "submit", own.file(digits_job(3)), "--name", "waits", "-o", "json")
        self.assertEqual("JOB_EXISTS", refused.error["reason"])

    def test_promise_1_with_a_worker_killed_too(self):
        own = self.lives(3)
        expected = own.run(digits_job(100))["model_hash"]
        name = own.submit(digits_job(100))["name"]
        own.wait_round(name, 5)
        own.workers["w2"].send(signal.SIGKILL)
        own.kill_coordinator()
        own.start_again()
        done = own.wait_state(name, "SUCCEEDED", "FAILED", seconds=JOB_S)
        self.assertEqual(expected, done["model_hash"], done["failure_message"])

    def long_task(self):
        """A job of one task that takes a few seconds."""
        training = digits_job()["training"] | {"local_epochs": 3000}
        return digits_job(1, training=training, data=digits_job()["data"] | {"partition": {"kind": "iid", "shards": 1}})

    def in_task(self, own):
        workers = own.cli("worker", "list", "-o", "json").ok().json["workers"]
        return [worker["name"] for worker in workers if worker["task"]]

    def test_promise_1_a_task_in_work_is_not_begun_anew(self):
        own = self.lives(1)
        expected = own.run(self.long_task())["model_hash"]
        name = own.submit(self.long_task())["name"]
        eventually("the worker is at work", lambda: self.in_task(own))
        own.kill_coordinator()
        own.start_again()
        done = own.wait_state(name, "SUCCEEDED", "FAILED", seconds=JOB_S)
        self.assertEqual(expected, done["model_hash"], done["failure_message"])
        self.assertIn(" task_goes_on ", own.workers["w1"].errors())

    def test_promise_1_a_result_waits_for_the_coordinator(self):
        own = self.lives(1)
        expected = own.run(self.long_task())["model_hash"]
        name = own.submit(self.long_task())["name"]
        eventually("the worker is at work", lambda: self.in_task(own))
        own.kill_coordinator()
        eventually("it has finished", lambda: " result_is_kept " in own.workers["w1"].errors(), seconds=60)
        own.start_again()
        done = own.wait_state(name, "SUCCEEDED", "FAILED", seconds=JOB_S)
        self.assertEqual(expected, done["model_hash"], done["failure_message"])
        self.assertIn(" result_is_there ", own.workers["w1"].errors())

    def test_a_job_waits_for_a_coordinator_that_has_what_it_needs(self):
        root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        pruning_test.write_model(root / "models" / "tiny")
        pruning_test.write_text(root / "data" / "words")
        job = root / "job.yaml"
        job.write_text(pruning_test.JOB.format(method="wanda", shards=1, parameters="sparsity: 0.5"))
        own = self.enterContext(Lives(0, data_root=root / "data", coordinator=("--models", root / "models")))
        name = own.submit(job)["name"]
        own.kill_coordinator()
        own.start_again(arguments=())
        own.add_worker("w1")
        waits = eventually("it says so", lambda: (job := own.job(name))["conditions"] and job)
        self.assertEqual(["CANNOT_GO_ON"], [condition["type"] for condition in waits["conditions"]])
        self.assertIn("--models", waits["conditions"][0]["message"])
        own.kill_coordinator()
        own.start_again()
        self.assertEqual("SUCCEEDED", own.wait_state(name, "SUCCEEDED", "FAILED")["state"])

    def test_promise_3_a_watch_goes_on_without_gap_or_repeat(self):
        own = self.lives(2)
        name = own.submit(digits_job(150))["name"]
        watch = own.background("job", "watch", name, "-o", "json")
        for _ in range(3):
            own.wait_round(name, own.job(name)["round"] + 5)
            own.kill_coordinator()
            own.start_again()
        own.wait_state(name, "SUCCEEDED", "FAILED", seconds=JOB_S)
        lines = watch.lines()
        self.assertEqual(0, watch.wait())
        numbers = [int(line["sequence"]) for line in lines]
        self.assertEqual(list(range(1, len(numbers) + 1)), numbers)
        self.assertEqual(history(own.events(name)), history(lines))

    def test_a_coordinator_that_is_stopped_in_order_tells_nothing_of_its_workers(self):
        own = self.lives(2)
        expected = own.run(digits_job(100))
        name = own.submit(digits_job(100))["name"]
        own.wait_round(name, 5)
        own.kill_coordinator(signal.SIGTERM)
        own.start_again()
        done = own.wait_state(name, "SUCCEEDED", "FAILED", seconds=JOB_S)
        self.assertEqual(expected["model_hash"], done["model_hash"], done["failure_message"])
        self.assertEqual([], [event for event in own.events(name) if "task_reassigned" in event])

    def test_row_9_a_damaged_store_is_named_and_stays(self):
        own = self.lives(1)
        own.run(digits_job(50))
        own.kill_coordinator(signal.SIGTERM)
        path = own.folder / "data" / "jobs.sqlite"
        with open(path, "r+b") as file:
            file.seek(4096 * 4)
            file.write(b"\xa5" * 4096)
        before = path.read_bytes()
        self.assertEqual(65, self.refused(own, str(path), "damaged"))
        self.assertEqual(before, path.read_bytes())

    def test_row_10_a_store_of_a_later_version_stays_untouched(self):
        own = self.lives(0)
        own.kill_coordinator(signal.SIGTERM)
        path = own.folder / "data" / "jobs.sqlite"
        # The header's field user_version (SQLite's file format, section 1.3).
        with open(path, "r+b") as file:
            file.seek(60)
            file.write((99).to_bytes(4, "big"))
        before = path.read_bytes()
        self.assertEqual(78, self.refused(own, "version 99"))
        self.assertEqual(before, path.read_bytes())

    def refused(self, own, *words):
        log = own.folder / "refused.log"
        arguments = ["--listen", own.address, "--metrics-listen", "127.0.0.1:0", "--data-dir", own.folder / "data"]
        with Process("espalier-coordinator", arguments, log) as process:
            code = process.wait(10)
        line = log.read_text().strip().splitlines()[-1]
        self.assertIn(" error cannot_start ", line)
        for word in words:
            self.assertIn(word, line)
        return code

    def test_row_7_a_full_disk_holds_jobs_up_and_loses_nothing(self):
        calm = self.lives(2)
        job = digits_job(200, checkpoint={"every_rounds": 1, "keep": 1})
        expected = calm.run(job)["model_hash"]
        calm.close()
        small = self.enterContext(small_disk(24 * 1024 * 1024))
        own = self.enterContext(Lives(2, data_dir=small))
        name = own.submit(job)["name"]
        own.wait_round(name, 5)
        filler = small / "filler"
        fill(filler)

        def condition():
            conditions = own.job(name)["conditions"]
            return conditions and conditions[0]["type"] == "WAITING_STORAGE" and conditions[0]

        waits = eventually("the job says that it waits", condition)
        self.assertIn("space", waits["message"])
        refused = own.cli("job", "submit", own.file(digits_job(1)), "-o", "json")
        self.assertNotEqual(0, refused.code)
        filler.unlink()
        done = own.wait_state(name, "SUCCEEDED", "FAILED", seconds=JOB_S)
        self.assertEqual("SUCCEEDED", done["state"], done["failure_message"])
        self.assertEqual(expected, done["model_hash"])
        self.assertEqual([], list((small / "checkpoints").glob("*.tmp*")))

    def test_row_8_a_failed_sync_ends_the_process_and_the_next_one_goes_on(self):
        own = self.lives(2)
        expected = own.run(digits_job(100))["model_hash"]
        name = own.submit(digits_job(100))["name"]
        own.wait_round(name, 5)
        with failing_syncs(own.coordinator.pid, own.folder / "strace.log"):
            self.assertEqual(74, own.coordinator.wait())
        self.assertIn("SYNC_FAILED", own.coordinator.errors())
        own.start_again()
        done = own.wait_state(name, "SUCCEEDED", "FAILED", seconds=JOB_S)
        self.assertEqual(expected, done["model_hash"], done["failure_message"])

    def test_jobs_in_memory_end_with_the_coordinator(self):
        own = self.enterContext(Lives(1, coordinator=("--store", "memory")))
        own.submit(digits_job(cluster.ENDLESS), "--name", "endless")
        own.wait_round("endless", 1)
        own.kill_coordinator()
        own.start_again()
        self.assertEqual("JOB_NOT_FOUND", own.cli("job", "get", "endless", "-o", "json").error["reason"])
        self.assertFalse((own.folder / "data" / "jobs.sqlite").exists())
        eventually("the worker is back", lambda: own.worker_states() == {"w1": "ACTIVE"})
        own.run(digits_job(1))


if __name__ == "__main__":
    unittest.main()
