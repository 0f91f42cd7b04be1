"""Processes that die, hang, come back, or should not start at all."""

import contextlib
import os
import signal
import socket
import tempfile
import time
import unittest

import cluster
from cluster import ENDLESS, Process, digits_job, eventually

# 6 participants on 3 workers, each round long enough for a worker to be caught at work, and rounds
# enough (a second or two in all) that the job is not over before a test has done its harm.
ROUNDS = 400
LONG_S = 100
FILE = object()  # stands for the job file among arguments
LONG = digits_job(ROUNDS, data=digits_job()["data"] | {"partition": {"kind": "iid", "shards": 6}})


def training(own, name):
    """Whether the worker has a task now."""
    workers = own.cli("worker", "list", "-o", "json").ok().json["workers"]
    return any(w["task"] for w in workers if w["name"] == f"workers/{name}")


class WorkerFaultsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with cluster.Cluster(workers=1) as own:
            cls.undisturbed = own.run(LONG)["model_hash"]

    def start(self, workers, *arguments):
        own = self.enterContext(cluster.Cluster(workers, coordinator=arguments))
        job = own.submit(LONG, "--name", "long")
        own.wait_round(job["name"], 3)
        return own, job["name"]

    def stop_at_work(self, own, name, number):
        """Signals the worker while it has a task: SIGSTOP first, so that it cannot finish it."""

        def probe():
            own.workers[name].send(signal.SIGSTOP)
            if training(own, name):
                return True
            own.workers[name].send(signal.SIGCONT)
            return False

        eventually(f"{name} is at work", probe)
        if number != signal.SIGSTOP:
            own.workers[name].send(number)

    def test_killed_worker_changes_nothing(self):
        own, name = self.start(3)
        self.stop_at_work(own, "w2", signal.SIGKILL)
        job = own.wait_state(name, "SUCCEEDED", "FAILED", seconds=LONG_S)
        self.assertEqual("SUCCEEDED", job["state"], job["failure_message"])
        self.assertEqual(self.undisturbed, job["model_hash"])
        self.assertEqual("LOST", own.worker_states()["w2"])
        moved = [e["task_reassigned"] for e in own.events(name) if "task_reassigned" in e]
        self.assertEqual(["w2"], [e["worker"].removeprefix("workers/") for e in moved])
        self.assertEqual("WORKER_DISCONNECTED", moved[0]["reason"])

    def test_hanging_worker_is_replaced_and_comes_back(self):
        own, name = self.start(3, "--heartbeat-timeout", "1")
        self.stop_at_work(own, "w1", signal.SIGSTOP)
        job = own.wait_state(name, "SUCCEEDED", "FAILED", seconds=LONG_S)
        self.assertEqual("SUCCEEDED", job["state"], job["failure_message"])
        self.assertEqual(self.undisturbed, job["model_hash"])
        self.assertEqual("LOST", own.worker_states()["w1"])
        moved = [e["task_reassigned"] for e in own.events(name) if "task_reassigned" in e]
        self.assertIn("HEARTBEAT_TIMEOUT", [e["reason"] for e in moved])
        own.workers["w1"].send(signal.SIGCONT)
        eventually("w1 is back", lambda: own.worker_states()["w1"] == "ACTIVE")
        self.assertEqual(self.undisturbed, own.run(LONG)["model_hash"])

    def test_job_without_workers_waits_and_goes_on(self):
        own, name = self.start(2)
        for worker in own.workers.values():
            worker.send(signal.SIGKILL)

        def waiting():
            job = own.job(name)
            return job["conditions"] and job

        job = eventually("the job says why it waits", waiting)
        self.assertEqual("RUNNING", job["state"])
        self.assertEqual(["WAITING_WORKERS"], [c["type"] for c in job["conditions"]])
        self.assertIn("0 workers are connected", job["conditions"][0]["message"])
        own.add_worker("late")
        job = own.wait_state(name, "SUCCEEDED", "FAILED", seconds=LONG_S)
        self.assertEqual("SUCCEEDED", job["state"], job["failure_message"])
        self.assertEqual(self.undisturbed, job["model_hash"])
        self.assertEqual([], job["conditions"])

    def test_watch_says_that_a_job_waits(self):
        own = self.enterContext(cluster.Cluster(0))
        name = own.submit(digits_job(1), "--name", "waits")["name"]
        watch = own.background("job", "watch", name)
        eventually("the watch explains", lambda: "WAITING_WORKERS" in watch.errors())
        own.add_worker("w1")
        self.assertEqual(0, watch.wait())

    def test_stopped_worker_leaves_in_order(self):
        own, name = self.start(2)
        own.workers["w1"].send(signal.SIGTERM)
        self.assertEqual(0, own.workers["w1"].wait())
        job = own.wait_state(name, "SUCCEEDED", "FAILED", seconds=LONG_S)
        self.assertEqual(self.undisturbed, job["model_hash"])

    def test_watching_tells_once_that_the_coordinator_is_gone(self):
        own = self.enterContext(cluster.Cluster(1))
        name = own.submit(digits_job(ENDLESS))["name"]
        watch = own.background("job", "watch", name)
        eventually("the watch has begun", lambda: "round" in watch.errors())
        own.coordinator.send(signal.SIGKILL)
        eventually("it tells", lambda: "connection lost" in watch.errors())
        time.sleep(3)  # a handful of attempts, none of which it should tell of: nothing to wait for
        self.assertTrue(watch.running())
        self.assertEqual(1, watch.errors().count("connection lost"))

    def lost(self, *arguments):
        """A command that waits for a job whose coordinator was killed meanwhile."""
        own = self.enterContext(cluster.Cluster(1))
        file = own.file(digits_job(ENDLESS))
        waiting = own.background(*(file if word is FILE else word for word in arguments), "--name", "endless")
        eventually("it waits", lambda: "round" in waiting.errors())
        own.coordinator.send(signal.SIGKILL)
        own.coordinator.wait()
        return own, waiting

    def test_what_is_said_of_a_job_whose_coordinator_is_gone(self):
        own, waiting = self.lost("job", "submit", FILE, "--watch")
        eventually("it tells", lambda: "connection lost" in waiting.errors())
        waiting.send(signal.SIGINT)
        self.assertEqual(130, waiting.wait())
        self.assertIn("jobs/endless goes on when it is back", " ".join(waiting.errors().split()))
        result = own.cli("--timeout", "2s", "job", "get", "endless", "-o", "json")
        self.assertEqual((6, "COORDINATOR_UNREACHABLE"), (result.code, result.error["reason"]))

    def test_a_wait_that_runs_out_without_its_coordinator(self):
        _, waiting = self.lost("--timeout", "6s", "job", "submit", FILE, "--watch")
        self.assertEqual(6, waiting.wait())
        self.assertIn("cannot be reached; the job goes on when that is back", " ".join(waiting.errors().split()))

    def test_a_job_that_its_coordinator_does_not_know_any_more(self):
        own, waiting = self.lost("job", "submit", FILE, "--watch")
        again = self.enterContext(self.second_coordinator(own, "--store", "memory"))
        again.line()
        self.assertEqual(3, waiting.wait())
        self.assertIn("began without the jobs of the one before", " ".join(waiting.errors().split()))
        for command in (("job", "get"), ("job", "cancel"), ("job", "watch")):
            result = own.cli(*command, "endless")
            self.assertEqual(3, result.code)
            self.assertIn("espalier job list", " ".join(result.err.split()))

    def second_coordinator(self, own, *arguments):
        listen = ["--listen", own.address, "--metrics-listen", "127.0.0.1:0", *arguments]
        return Process(
            "espalier-coordinator", [*listen, "--data-dir", own.folder / "data"], own.folder / "second.log"
        )

    def test_worker_outlives_its_coordinator(self):
        own = self.enterContext(cluster.Cluster(1))
        own.coordinator.send(signal.SIGTERM)
        self.assertEqual(0, own.coordinator.wait())
        eventually(
            "the worker tells", lambda: "coordinator_unreachable" in own.workers["w1"].errors()
        )
        again = self.enterContext(self.second_coordinator(own))
        again.line()
        eventually("the worker is back", lambda: own.worker_states() == {"w1": "ACTIVE"})
        own.run(digits_job(1))


class StartTest(unittest.TestCase):
    def refused(self, program, *arguments):
        """The exit code of a program that should not start, and what it says."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        with Process(program, arguments, os.path.join(folder, "log")) as process:
            return process.wait(10), process.errors()

    def coordinator(self, listen="127.0.0.1:0", metrics="127.0.0.1:0", data_dir=None):
        data_dir = data_dir or self.enterContext(tempfile.TemporaryDirectory())
        return self.refused(
            "espalier-coordinator",
            "--listen",
            listen,
            "--metrics-listen",
            metrics,
            "--data-dir",
            data_dir,
        )

    def says(self, message, *words):
        """The last words of the process are one line that contains these."""
        line = message.strip().splitlines()[-1]
        self.assertIn(" error cannot_start ", line)
        for word in words:
            self.assertIn(word, line)

    def test_idle_coordinator_stops_with_0(self):
        with cluster.Cluster(0) as own:
            own.coordinator.send(signal.SIGTERM)
            self.assertEqual(0, own.coordinator.wait())

    def test_busy_coordinator_stops_with_0(self):
        with cluster.Cluster(2) as own:
            name = own.submit(digits_job(ENDLESS))["name"]
            own.wait_round(name, 2)
            own.background("job", "watch", name)
            own.coordinator.send(signal.SIGTERM)
            self.assertEqual(0, own.coordinator.wait())

    def test_data_folder_has_one_coordinator(self):
        with cluster.Cluster(1) as own:
            code, message = self.coordinator(data_dir=own.folder / "data")
            self.assertEqual(75, code)
            self.says(message, "another coordinator", str(own.folder / "data"), "--data-dir")
            own.run(digits_job(1))

    def test_taken_port(self):
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            code, message = self.coordinator(listen=address)
            self.assertEqual(69, code)
            self.says(message, "PORT_IN_USE", address, "--listen")
            code, message = self.coordinator(metrics=address)
            self.assertEqual(69, code)
            self.says(message, "PORT_IN_USE", address, "--metrics-listen")

    def test_address_that_is_none(self):
        for address in ("nonsense", "127.0.0.1:99999", "203.0.113.1:0"):
            with self.subTest(address):
                code, message = self.coordinator(listen=address)
                self.assertIn(code, (64, 69, 78))
                self.says(message, address, "--listen")

    def test_unusable_data_folder(self):
        with tempfile.NamedTemporaryFile() as file:
            code, message = self.coordinator(data_dir=f"{file.name}/data")
            self.assertEqual(78, code)
            self.says(message, file.name, "--data-dir")

    def test_worker_without_data_root(self):
        code, message = self.refused("espalier-worker", "--data-root", "/nonexistent/data")
        self.assertEqual(78, code)
        self.says(message, "expected a folder", "/nonexistent/data", "--data-root")

    def test_worker_with_a_bad_name(self):
        with cluster.Cluster(0) as own:
            code, message = self.refused(
                "espalier-worker",
                "--coordinator",
                own.address,
                "--id",
                "No Name",
                "--data-root",
                cluster.DATA,
            )
            self.assertEqual(78, code)
            self.assertIn("INVALID_WORKER_ID", message)
            self.assertIn("--id", message)

    def test_unknown_flag(self):
        for program in ("espalier-coordinator", "espalier-worker"):
            code, message = self.refused(program, "--lisen", "127.0.0.1:0")
            self.assertEqual(64, code)
            self.assertIn("--lisen", message)

    def test_health_check(self):
        with cluster.Cluster(0) as own:
            check = ("espalier-coordinator", "--health-check", "--listen", own.address)
            self.assertEqual(0, self.refused(*check)[0])
            own.coordinator.send(signal.SIGTERM)
            own.coordinator.wait()
            self.assertEqual(69, self.refused(*check)[0])


if __name__ == "__main__":
    unittest.main()
