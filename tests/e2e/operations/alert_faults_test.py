"""Every alert is fired once by a real fault, in a real cluster with a real Prometheus that has the real rules, with shorter times (`Haste`).

What is done to the cluster is beside each alert in `FAULTS`; more_alert_faults_test.py has the faults that `make chaos` tries.
"""

import os
import pathlib
import resource
import sys
import unittest
import unittest.mock

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
import more_alert_faults_test
from cluster import ENDLESS, digits_job, eventually
from faults import Faults
from monitored import Alertmanager, Haste
from rules_test import rules


def crawling_job():
    """A job of many tasks that take for ever, so that its round never has a quorum in time."""
    job = digits_job(ENDLESS)
    job["data"]["partition"]["shards"] = 100
    del job["training"]["local_epochs"]
    job["training"]["local_steps"] = 1_000_000_000
    job["federation"] |= {"round_deadline": "1s", "max_extensions": 1000}
    return job


def too_large_job():
    """A job whose first step makes weights that are numbers still, and too large to be summed."""
    job = digits_job(1)
    job["training"] = {"batch_size": 16, "local_steps": 1, "optimizer": {"kind": "sgd", "learning_rate": 1e13}}
    return job


class WorkersTest(Faults):
    FAULTS = {
        "EspalierUpdatesRejected": "jobs train with a step so large that their weights cannot be summed",
        "EspalierJobFailed": "the same",
        "EspalierKernelsFail": "oneDNN fails in a worker, by the worker's own switch for tests",
        "EspalierBacklog": "a job has a hundred tasks for two workers",
        "EspalierQuorumAtRisk": "its tasks take longer than a round may",
        "EspalierRoundsStalled": "and so does its first round",
        "EspalierVersionsDiffer": "one of the workers is of the next version",
        "EspalierDescriptorsNearLimit": "the coordinator may have hardly more descriptors than it has",
        "EspalierLeasesExpire": "seven workers with a task are killed",
        "EspalierWorkersNotScraped": "the same",
        "EspalierNoWorkers": "the same",
        "EspalierJobsWaiting": "the same",
        "EspalierWorkerQuarantined": "a worker is killed and started again seven times",
        "EspalierCoordinatorDown": "the coordinator is killed",
        "EspalierCoordinatorNotScraped": "the coordinator is taken from the targets",
    }

    def test_faults_of_jobs_and_workers(self):
        own = self.own = self.enterContext(cluster.Cluster())
        with unittest.mock.patch.dict(os.environ, ESPALIER_FAULT_ONEDNN="create:1"):
            own.add_worker("w1")
        alertmanager = self.enterContext(Alertmanager())
        self.watch([own.metrics], [own.workers["w1"].metrics], alertmanager=alertmanager.address)
        self.fire("EspalierUpdatesRejected", "EspalierJobFailed", "EspalierKernelsFail", fault=lambda: own.submit(too_large_job()), again=True)
        told = eventually("Alertmanager is told", lambda: alertmanager.alerts().get("EspalierJobFailed"))
        self.assertEqual("VALUE_OUT_OF_RANGE", told["labels"]["reason"].upper())
        self.assertIn("runbook_url", told["annotations"])

        self.fire("EspalierBacklog", "EspalierQuorumAtRisk", "EspalierRoundsStalled", "EspalierVersionsDiffer", fault=self.two_that_crawl)
        before = resource.prlimit(own.coordinator.pid, resource.RLIMIT_NOFILE)
        self.fire("EspalierDescriptorsNearLimit", fault=lambda: self.limit_descriptors(before[1]))
        resource.prlimit(own.coordinator.pid, resource.RLIMIT_NOFILE, before)

        for number in range(2, 7):
            own.add_worker(f"w{number}")
        self.scrape_workers()
        eventually("each has a task", lambda: self.prometheus.query('espalier_tasks{state="leased"} == 7'))
        self.fire("EspalierLeasesExpire", "EspalierWorkersNotScraped", "EspalierNoWorkers", "EspalierJobsWaiting", fault=self.kill_workers)
        self.fire("EspalierWorkerQuarantined", fault=self.come_and_go)
        self.fire("EspalierCoordinatorDown", fault=own.coordinator.kill)
        self.fire("EspalierCoordinatorNotScraped", fault=lambda: self.prometheus.scrape("espalier-coordinator"))
        self.all_fired()

    def scrape_workers(self):
        self.prometheus.scrape("espalier-worker", *(worker.metrics for worker in self.own.workers.values()))

    def two_that_crawl(self):
        self.own.submit(crawling_job())
        self.own.programs = cluster.BIN / "next"
        self.own.add_worker("next")
        self.own.programs = cluster.BIN
        self.scrape_workers()

    def limit_descriptors(self, hard):
        process = self.own.coordinator.pid
        used = len(os.listdir(f"/proc/{process}/fd"))
        resource.prlimit(process, resource.RLIMIT_NOFILE, (used * 10 // 9, hard))

    def kill_workers(self):
        for worker in self.own.workers.values():
            worker.kill()

    def come_and_go(self):
        for life in range(1, 8):
            restless = self.own.add_worker("restless", wait=False)
            eventually("it registers", lambda life=life, worker=restless: worker.errors().count(" registered ") == life)
            restless.kill()
        self.own.add_worker("restless", wait=False)


class TableTest(unittest.TestCase):
    def test_every_alert_has_a_fault(self):
        self.assertTrue(more_alert_faults_test.Faults is Faults)
        faults = [alert for group in Faults.__subclasses__() for alert in group.FAULTS]
        self.assertEqual(len(faults), len(set(faults)))
        self.assertEqual({rule["alert"] for rule in rules("alerts.yml")}, set(faults))

    def test_haste_changes_times_alone(self):
        haste = Haste(divisor=60, longest=10)
        self.assertEqual("5000ms", haste.duration("5m"))
        self.assertEqual("10000ms", haste.duration("2h"))
        self.assertEqual('increase(a{b="5m"}[10000ms]) > 5', haste.expression('increase(a{b="5m"}[15m]) > 5'))
        self.assertEqual("time() - (a > 0) > 10", haste.expression("time() - (a > 0) > 2700"))


if __name__ == "__main__":
    unittest.main()
