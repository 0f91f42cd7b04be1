"""What the coordinator told holds when it comes back, and workers do nothing twice."""

import pathlib
import signal
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
import pruning_test
from cluster import digits_job, eventually
from lives import JOB_S, Lives, history


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
