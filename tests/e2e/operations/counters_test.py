"""Faults, and what metrics and logs say of each: every one is counted once, in the series that is named for it."""

import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
from cluster import digits_job, eventually
from metrics_test import scrape, series


def fast(**federation):
    """A job of more rounds than anybody waits for."""
    job = digits_job(100_000)
    job["federation"] |= federation
    return job


class CountersTest(unittest.TestCase):
    def setUp(self):
        self.cluster = self.enterContext(cluster.Cluster(coordinator=("--heartbeat-timeout", "2")))

    def value(self, name):
        return series(scrape(self.cluster.metrics))[name]

    def values(self, family):
        return {name: value for name, value in series(scrape(self.cluster.metrics)).items() if name.startswith(family)}

    def eventually(self, name, value):
        eventually(f"{name} is {value}", lambda: self.value(name) == value)

    def log(self, event):
        return [line for line in self.cluster.coordinator.errors().splitlines() if f" {event} " in line]

    def rounds(self):
        return [self.value(f'espalier_rounds_total{{outcome="{outcome}"}}') for outcome in ("quorum_lost", "aborted")]

    def test_a_job_that_waits_says_why_and_counts_no_round_when_it_is_cancelled(self):
        job = self.cluster.submit(digits_job(3))["name"]
        self.eventually('espalier_jobs_waiting{condition="waiting_workers"}', 1)
        self.assertEqual(0, self.value("espalier_jobs_oldest_progress_timestamp_seconds"))
        self.cluster.cli("job", "cancel", job).ok()
        self.eventually('espalier_jobs_waiting{condition="waiting_workers"}', 0)
        self.assertEqual([0, 0], self.rounds())

    def test_a_quorum_that_is_lost_is_one_round_and_one_failure(self):
        worker = self.cluster.add_worker("w1")
        name = self.cluster.submit(fast(round_deadline="1s", on_quorum_loss="fail"))["name"]
        self.cluster.wait_round(name, 1)
        worker.send(19)
        self.cluster.wait_state(name, "FAILED")
        eventually("the round is counted as lost", lambda: self.rounds() == [1, 0])
        self.assertEqual(1, self.value('espalier_job_failures_total{reason="quorum_lost"}'))
        self.assertEqual(1, self.value('espalier_quorum_missed_total{decision="fail"}'))
        [line] = self.log("quorum_missed")
        self.assertIn(f"job={name} round=", line)

    def test_a_round_that_is_cancelled_is_aborted_once(self):
        self.cluster.add_worker("w1")
        name = self.cluster.submit(fast())["name"]
        self.cluster.wait_round(name, 1)
        self.assertGreater(self.value("espalier_jobs_oldest_progress_timestamp_seconds"), 1.6e9)
        self.cluster.cli("job", "cancel", name).ok()
        eventually("the round is counted as aborted", lambda: self.rounds() == [0, 1])
        self.eventually("espalier_jobs_oldest_progress_timestamp_seconds", 0)
        committed = self.value('espalier_rounds_total{outcome="committed"}')
        self.assertEqual(self.cluster.job(name)["round"], committed)
        self.assertTrue(any(f"job={name} round=1 " in line for line in self.log("round_committed")))
        flops = [self.value(f'espalier_train_flops_total{{kind="{kind}"}}') for kind in ("actual", "dense_equivalent")]
        self.assertLess(0, flops[0])
        self.assertLess(flops[0], flops[1])

    def test_a_worker_that_vanishes_with_a_task_and_comes_back(self):
        worker = self.cluster.add_worker("w1")
        name = self.cluster.submit(fast())["name"]
        self.cluster.wait_round(name, 1)
        worker.kill()
        self.eventually("espalier_lease_expirations_total", 1)
        self.eventually('espalier_tasks{state="leased"}', 0)
        self.assertGreater(self.value('espalier_tasks{state="waiting"}'), 0)
        self.assertIn(f"job={name} round=", self.log("task_reassigned")[0])
        self.cluster.add_worker("w1")
        self.eventually("espalier_reconnects_total", 1)
        self.eventually('espalier_tasks{state="leased"}', 1)

    def test_an_idle_worker_that_says_nothing_leaves_a_line(self):
        self.cluster.add_worker("w1").send(19)
        self.eventually('espalier_workers{state="lost"}', 1)
        [line] = self.log("worker_silent")
        self.assertIn("worker=w1", line)

    def test_what_the_process_and_its_disk_have(self):
        usage = self.values("process_")
        self.assertGreater(usage["process_resident_memory_bytes"], 5e6)
        self.assertGreater(usage["process_threads"], 3)
        self.assertLess(10, usage["process_open_fds"])
        self.assertLess(usage["process_open_fds"], usage["process_max_fds"])
        self.assertGreater(usage["process_cpu_seconds_total"], 0)
        self.assertLess(0, self.value("espalier_data_dir_free_bytes"))
        self.assertLess(self.value("espalier_data_dir_free_bytes"), self.value("espalier_data_dir_size_bytes"))


class JsonLogTest(unittest.TestCase):
    def test_every_line_is_an_object_also_with_hostile_text(self):
        started = self.enterContext(
            cluster.Cluster(coordinator=("--log-format", "json"), worker=("--log-format", "json"))
        )
        worker = started.add_worker("w1", wait=False)
        eventually("it registers", lambda: '"event":"registered"' in worker.errors())
        started.run(digits_job(2))
        started.cli("job", "get", 'a"b\n\\x\x1b[2J')
        for program, expected in ((started.coordinator, "round_committed"), (worker, "registered")):
            lines = [json.loads(line) for line in program.errors().splitlines()]
            for line in lines:
                self.assertLessEqual({"time", "level", "event"}, set(line))
                self.assertTrue(all(isinstance(value, str) for value in line.values()))
            self.assertIn(expected, [line["event"] for line in lines])


if __name__ == "__main__":
    unittest.main()
