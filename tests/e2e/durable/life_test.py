"""What people do with jobs, checkpoints and workers beside submitting jobs."""

import pathlib
import re
import signal
import socket
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
from cluster import digits_job, eventually
from lives import JOB_S, Lives, history

LONG = 60


def rounds(events):
    return [event["round_committed"] for event in history(events) if "round_committed" in event]


class JobLifeTest(unittest.TestCase):
    def setUp(self):
        self.own = self.enterContext(Lives(2))

    def state(self, word, job):
        return self.own.cli("job", word, job, "-o", "json").ok().json["state"]

    def test_job_is_paused_and_goes_on_with_the_same_bits(self):
        own = self.own
        undisturbed = own.submit(digits_job(LONG))["name"]
        expected = own.wait_state(undisturbed, "SUCCEEDED", "FAILED", seconds=JOB_S)
        name = own.submit(digits_job(LONG), "--name", "paused")["name"]
        watch = own.background("job", "watch", name)
        for at in (5, 20):
            own.wait_round(name, at)
            self.assertEqual("PAUSED", self.state("pause", name))
            eventually("no worker is at work", lambda: not self.tasks())
            other = own.run(digits_job(2))
            self.assertEqual("SUCCEEDED", other["state"])
            if at == 20:
                own.kill_coordinator()
                own.start_again()
            self.assertEqual("PAUSED", own.job(name)["state"])
            self.assertIn(name, own.cli("job", "list", "--state", "paused").ok().out)
            self.assertEqual("RUNNING", self.state("resume", name))
        done = own.wait_state(name, "SUCCEEDED", "FAILED", seconds=JOB_S)
        self.assertEqual(expected["model_hash"], done["model_hash"], done["failure_message"])
        self.assertEqual(LONG, len(rounds(own.events(name))))
        self.assertEqual(rounds(own.events(undisturbed)), rounds(own.events(name)))
        self.assertEqual(0, watch.wait())

    def tasks(self):
        workers = self.own.cli("worker", "list", "-o", "json").ok().json["workers"]
        return [worker["task"] for worker in workers if worker["task"]]

    def test_failed_job_is_retried(self):
        own = self.own
        expected = own.run(digits_job(LONG))["model_hash"]
        federation = {"rounds": LONG, "round_deadline": "1s", "on_quorum_loss": "fail"}
        name = own.submit(digits_job(federation=federation), "--name", "fails")["name"]
        own.wait_round(name, 3)
        for worker in own.workers.values():
            worker.send(signal.SIGSTOP)
        failed = own.wait_state(name, "FAILED")
        self.assertEqual("QUORUM_LOST", failed["failure_reason"])
        for worker in own.workers.values():
            worker.send(signal.SIGCONT)
        own.kill_coordinator()
        own.start_again()
        self.assertEqual("FAILED", own.job(name)["state"])
        self.assertEqual("RUNNING", self.state("retry", name))
        done = own.wait_state(name, "SUCCEEDED", "FAILED", seconds=JOB_S)
        self.assertEqual(expected, done["model_hash"], done["failure_message"])
        refused = own.cli("job", "retry", name, "-o", "json")
        self.assertEqual("JOB_NOT_FAILED", refused.error["reason"])

    def test_jobs_are_deleted(self):
        own = self.own
        for job in ("kept", "gone"):
            own.run(digits_job(1), "--name", job)
        running = own.submit(digits_job(1000), "--name", "running")["name"]
        refused = own.cli("job", "delete", "gone", "running", "--checkpoints")
        self.assertRegex(refused.out, r"jobs/gone\s+1\s")
        self.assertIn("cancel it first", refused.err)
        own.cli("job", "delete", "kept").ok()
        listed = own.cli("job", "list", "-o", "json").ok().json["jobs"]
        self.assertEqual([running], [job["name"] for job in listed])
        self.assertRegex(own.cli("checkpoint", "list").ok().out, "checkpoints/kept-1")
        own.kill_coordinator()
        own.start_again()
        self.assertEqual(3, own.cli("job", "get", "gone").code)

    def test_damaged_checkpoint_is_named(self):
        own = self.own
        for job in ("good", "bad"):
            own.run(digits_job(1), "--name", job)
        file = pathlib.Path(own.data_dir) / "checkpoints/bad-1.safetensors"
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 4
        file.write_bytes(data)
        for again in (False, True):
            shown = own.cli("checkpoint", "verify")
            self.assertEqual(1, shown.code)
            self.assertIn("1 checkpoint as written", shown.err)
            self.assertRegex(shown.out, "bad-1")
            self.assertEqual(0, own.cli("checkpoint", "verify", "good-1").code)
            if not again:
                own.kill_coordinator(signal.SIGTERM)
                own.start_again()
        file.unlink()
        own.kill_coordinator(signal.SIGTERM)
        own.start_again()
        own.cli("checkpoint", "verify").ok()
        own.cli("checkpoint", "delete", "good-1").ok()
        self.assertNotIn("good-1", own.cli("checkpoint", "list").ok().out)


class LeavingTest(unittest.TestCase):
    def long_task(self, epochs=600):
        """A job whose tasks take about a second each, or as long as `epochs` do."""
        training = digits_job()["training"] | {"local_epochs": epochs}
        return digits_job(2, training=training, data=digits_job()["data"] | {"partition": {"kind": "iid", "shards": 2}})

    def at_work(self, own, name):
        workers = own.cli("worker", "list", "-o", "json").ok().json["workers"]
        return any(worker["task"] for worker in workers if worker["name"] == f"workers/{name}")

    def test_worker_that_is_told_to_end_hands_its_result_in_first(self):
        own = self.enterContext(Lives(2))
        name = own.submit(self.long_task())["name"]
        eventually("w2 is at work", lambda: self.at_work(own, "w2"))
        own.workers["w2"].send(signal.SIGTERM)
        self.assertEqual(0, own.workers["w2"].wait())
        self.assertEqual("LEFT", own.worker_states()["w2"])
        done = own.wait_state(name, "SUCCEEDED", "FAILED", seconds=JOB_S)
        self.assertEqual("SUCCEEDED", done["state"], done["failure_message"])
        reassigned = [event for event in own.events(name) if "task_reassigned" in event]
        self.assertEqual([], reassigned)

    def test_worker_leaves_what_takes_too_long_to_others(self):
        own = self.enterContext(Lives(1, worker=("--drain-timeout", "0.2")))
        name = own.submit(self.long_task(6000))["name"]
        eventually("w1 is at work", lambda: self.at_work(own, "w1"))
        own.workers["w1"].send(signal.SIGTERM)
        self.assertEqual(0, own.workers["w1"].wait())
        own.add_worker("w2")
        done = own.wait_state(name, "SUCCEEDED", "FAILED", seconds=JOB_S)
        self.assertEqual("SUCCEEDED", done["state"], done["failure_message"])
        (reassigned,) = [e["task_reassigned"] for e in own.events(name) if "task_reassigned" in e]
        self.assertEqual("WORKER_LEFT", reassigned["reason"])

    def test_drained_worker_stays_and_is_undrained(self):
        own = self.enterContext(Lives(1))
        self.assertIn("DRAINING", own.cli("worker", "drain", "w1").ok().out)
        name = own.submit(digits_job(3))["name"]
        own.kill_coordinator()
        own.start_again()
        eventually("w1 is back", lambda: own.worker_states().get("w1") == "DRAINING")
        self.assertEqual("PENDING", own.job(name)["state"])
        self.assertIn("ACTIVE", own.cli("worker", "undrain", "workers/w1").ok().out)
        own.wait_state(name, "SUCCEEDED")
        unknown = own.cli("worker", "drain", "w9", "-o", "json")
        self.assertEqual("WORKER_NOT_FOUND", unknown.error["reason"])

    def test_rolling_restart_of_everything_loses_nothing(self):
        own = self.enterContext(Lives(3))
        expected = own.run(digits_job(150))["model_hash"]
        name = own.submit(digits_job(150))["name"]
        for turn, worker in enumerate(("w1", "w2", "w3")):
            own.wait_round(name, 10 + 20 * turn)
            own.workers[worker].send(signal.SIGTERM)
            self.assertEqual(0, own.workers[worker].wait())
            own.add_worker(worker)
        own.kill_coordinator(signal.SIGTERM)
        own.start_again()
        done = own.wait_state(name, "SUCCEEDED", "FAILED", seconds=JOB_S)
        self.assertEqual(expected, done["model_hash"], done["failure_message"])
        self.assertEqual([], [event for event in own.events(name) if "task_reassigned" in event])
        eventually("all are there", lambda: set(own.worker_states().values()) == {"ACTIVE"})

    def test_upgrade_in_the_middle_of_a_job_loses_nothing(self):
        """The workers first, or the coordinator first: every two versions that meet get on with each other."""
        for coordinator_first in (False, True):
            with self.subTest(coordinator_first=coordinator_first), Lives(3) as own:
                expected = own.run(digits_job(150))["model_hash"]
                name = own.submit(digits_job(150))["name"]
                own.wait_round(name, 10)
                before = own.cli("cluster", "status", "-o", "json").ok().json["version"]
                own.programs = cluster.BIN / "next"
                turns = [lambda: self.upgrade_coordinator(own), lambda: self.upgrade_workers(own, name)]
                for turn in turns if coordinator_first else reversed(turns):
                    turn()
                done = own.wait_state(name, "SUCCEEDED", "FAILED", seconds=JOB_S)
                self.assertEqual(expected, done["model_hash"], done["failure_message"])
                self.assertEqual([], [event for event in own.events(name) if "task_reassigned" in event])
                after = own.cli("cluster", "status", "-o", "json").ok().json["version"]
                self.assertNotEqual(before, after)
                workers = own.cli("worker", "list", "-o", "json").ok().json["workers"]
                self.assertEqual({after}, {worker["version"] for worker in workers})

    def upgrade_coordinator(self, own):
        own.kill_coordinator(signal.SIGTERM)
        own.start_again()

    def upgrade_workers(self, own, job):
        for turn, worker in enumerate(("w1", "w2", "w3")):
            own.wait_round(job, 20 + 20 * turn)
            own.workers[worker].send(signal.SIGTERM)
            self.assertEqual(0, own.workers[worker].wait())
            own.add_worker(worker)

    def test_worker_has_the_same_id_again(self):
        own = self.enterContext(Lives(0))
        host = re.sub("[^a-z0-9]", "-", socket.gethostname().lower())
        for _ in range(2):
            first, second = (self.start(own, number) for number in range(2))
            for _, name in (first, second):
                self.assertRegex(name, host.rstrip("-") + r"(-\d+)?$")
            self.assertNotEqual(first[1], second[1])
            for worker, _ in (first, second):
                worker.send(signal.SIGTERM)
                self.assertEqual(0, worker.wait())
        self.assertEqual(2, len(own.worker_states()))
        own.folder.joinpath("state").mkdir()
        own.folder.joinpath("state/worker-id").write_text("site-7\n")
        _, kept = self.start(own, 7, "--state-dir", own.folder / "state")
        self.assertEqual("site-7", kept)
        for _ in range(2):
            worker, name = self.start(own, 8, "--state-dir", own.folder / "new")
            self.assertRegex(name, r"-[0-9a-f]{6}$")
            self.assertEqual(name, own.folder.joinpath("new/worker-id").read_text().strip())
            worker.send(signal.SIGTERM)
            self.assertEqual(0, worker.wait())

    def start(self, own, number, *arguments):
        worker = self.enterContext(
            cluster.Process(
                "espalier-worker",
                ["--coordinator", own.address, "--data-root", cluster.DATA, *arguments],
                own.folder / f"{number}.log",
            )
        )
        name = cluster.words(worker.line())["id"]
        eventually("it registers", lambda: own.worker_states().get(name) == "ACTIVE")
        return worker, name


if __name__ == "__main__":
    unittest.main()
