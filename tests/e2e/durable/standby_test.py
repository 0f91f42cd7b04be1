"""A coordinator that stands by takes over with the same bits, and the one before it can write nothing any more.

    standby_test.py                                              a few take-overs
    ESPALIER_TAKE_OVERS=100 tests/e2e/durable/standby_test.py    so many over four kinds of jobs, with a report
"""

import os
import pathlib
import random
import signal
import statistics
import sys
import tempfile
import time
import unittest
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import datasets
import kills_test
import pruning_test
import recommender_test
import chaos_proxy
from cluster import digits_job, eventually
from lives import JOB_S, Lives, history
from standby import StandBys

# What docs/operations/standby.md promises.
TAKE_OVER_S = 15
TAKE_OVERS = int(os.environ.get("ESPALIER_TAKE_OVERS", "0"))
TAKE_OVERS_OF_A_JOB = TAKE_OVERS // 4


class StandbyTest(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.random = random.Random(self.id())

    def pair(self, workers=2, **options):
        own = self.enterContext(StandBys(0, **options))
        for i in range(workers):
            own.add_worker(f"w{i + 1}", arguments=("--state-dir", own.folder / f"w{i + 1}"))
        return own

    def undisturbed(self, job, workers=2, **options):
        with Lives(0, **options) as calm:
            for i in range(workers):
                calm.add_worker(f"w{i + 1}", arguments=("--state-dir", calm.folder / f"w{i + 1}"))
            done = calm.run(job)
            return done, calm.events(done["name"])

    def finished(self, own, name, expected, events):
        done = own.wait_state(name, "SUCCEEDED", "FAILED", "CANCELLED", seconds=JOB_S)
        self.assertEqual("SUCCEEDED", done["state"], done["failure_message"])
        self.assertEqual(expected["model_hash"], done["model_hash"])
        self.assertEqual(history(events), history(own.events(name)))

    def taken_over(self, job, times=1, **options):
        """The same model and the same events, however often the one that works is killed and the other takes over."""
        expected, events = self.undisturbed(job, **options)
        own = self.pair(**options)
        name, works, other, took = expected["name"], "a", "b", []
        while len(took) < max(times, TAKE_OVERS_OF_A_JOB):
            own.submit(job, "--name", name.removeprefix("jobs/"))
            watch = own.background("job", "watch", name, "-o", "json")
            while len(took) < max(times, TAKE_OVERS_OF_A_JOB) and own.job(name)["state"] in ("PENDING", "RUNNING"):
                time.sleep(self.random.uniform(0, 0.6))  # the moment of the kill is drawn
                own.kill(works)
                took.append(own.works(other))
                self.assertLess(took[-1], TAKE_OVER_S)
                own.start(works)
                own.stands_by(works)
                works, other = other, works
            self.finished(own, name, expected, events)
            # One who watched all the time saw each event once.
            self.assertEqual(history(events), history(watch.lines()))
            own.cli("job", "delete", name, "--checkpoints").ok()
        if TAKE_OVERS:
            took.sort()
            print(
                f"{self._testMethodName}: {len(took)} coordinators killed, the other worked after "
                f"p50 {statistics.median(took):.1f} s, p99 {took[int(0.99 * len(took))]:.1f} s",
                flush=True,
            )

    def test_promise_2_set(self):
        self.taken_over(digits_job(300), times=2)

    def test_promise_2_imp_with_runs_side_by_side(self):
        self.taken_over(kills_test.imp_job())

    def test_promise_2_dsl_with_private_rows(self):
        datasets.write_interactions(
            self.root / "likes", recommender_test.USERS, recommender_test.ITEMS, recommender_test.TASTES
        )
        self.taken_over(recommender_test.job(rounds=60, private=True), workers=3, data_root=self.root)

    def test_promise_2_dsnot_on_a_language_model(self):
        pruning_test.write_model(self.root / "models" / "tiny")
        pruning_test.write_text(self.root / "data" / "words")
        job = self.root / "job.yaml"
        job.write_text(pruning_test.JOB.format(method="dsnot", shards=3, parameters="sparsity: 0.5"))
        self.taken_over(job, data_root=self.root / "data", coordinator=("--models", self.root / "models"))

    def test_promise_2_one_that_comes_back_from_a_pause_can_write_nothing(self):
        job = digits_job(300)
        expected, events = self.undisturbed(job)
        own = self.pair()
        name = own.submit(job, "--name", expected["name"].removeprefix("jobs/"))["name"]
        own.wait_round(name, 5)
        own.coordinators["a"].send(signal.SIGSTOP)
        self.assertLess(own.works("b"), TAKE_OVER_S)
        # Workers notice by themselves that the one before says nothing any more.
        before = own.job(name)["round"]
        eventually("rounds go on", lambda: own.job(name)["round"] > before, seconds=TAKE_OVER_S)
        own.coordinators["a"].send(signal.SIGCONT)
        self.assertEqual(75, own.coordinators["a"].wait())
        self.assertRegex(own.coordinators["a"].errors(), "STORE_LEASE_(LOST|EXPIRED)")
        self.finished(own, name, expected, events)

    def test_promise_2_one_that_cannot_reach_the_database_ends(self):
        proxies = {}

        def through_proxy(name, url):
            target = url.split("@")[1].split("/")[0]
            proxies[name] = self.enterContext(chaos_proxy.ChaosProxy(target))
            return url.replace(target, proxies[name].address)

        job = digits_job(300)
        expected, events = self.undisturbed(job)
        own = self.pair(database=through_proxy)
        name = own.submit(job, "--name", expected["name"].removeprefix("jobs/"))["name"]
        own.wait_round(name, 5)
        proxies["a"].stop()
        self.assertEqual(75, own.coordinators["a"].wait())
        self.assertIn("STORE_LEASE_EXPIRED", own.coordinators["a"].errors())
        self.assertLess(own.works("b"), TAKE_OVER_S)
        self.finished(own, name, expected, events)

    def test_one_that_ends_in_order_hands_over_at_once(self):
        own = self.pair()
        name = own.submit(digits_job(200))["name"]
        own.wait_round(name, 3)
        self.assertEqual(0, own.kill("a", signal.SIGTERM))
        self.assertLess(own.works("b"), 5)  # less than the rest of a lease
        self.assertEqual("SUCCEEDED", own.wait_state(name, "SUCCEEDED", "FAILED", seconds=JOB_S)["state"])

    def test_one_that_stands_by_says_so_and_ends_when_told(self):
        own = self.pair(0)
        self.assertIn(f"--listen 127.0.0.1:{own.ports['a']}", own.coordinators["b"].errors())
        for name, active in (("a", 1), ("b", 0)):
            with urllib.request.urlopen(f"http://{own.metrics[name]}/metrics", timeout=10) as answer:
                self.assertIn(f"espalier_coordinator_active {active}\n", answer.read().decode())
        self.assertEqual(0, own.kill("b", signal.SIGTERM))

    def test_jobs_go_on_when_the_database_was_killed(self):
        job = digits_job(300)
        expected, events = self.undisturbed(job)
        own = self.pair()
        name = own.submit(job, "--name", expected["name"].removeprefix("jobs/"))["name"]
        own.wait_round(name, 5)
        own.server.stop(signal.SIGKILL)
        eventually("it is noticed", lambda: " store_not_written " in own.coordinators["a"].errors())
        own.server.start()
        self.finished(own, name, expected, events)

    def test_another_folder_is_refused_before_it_is_too_late(self):
        own = self.pair(0)
        own.kill("b")
        own.coordinators["b"] = refused = self.enterContext(own.new_coordinator(
            own.folder / "data-b", "--listen", f"127.0.0.1:{own.ports['b']}", "--store", own.server.url,
            "--shared-dir", own.folder / "elsewhere",
        ))
        self.assertEqual(78, refused.wait())
        self.assertIn("SHARED_DIR_DIFFERS", refused.errors())

    def test_a_folder_of_another_database_is_refused_and_stays_as_it_is(self):
        own = self.pair(0)
        own.kill("b")
        part = own.folder / "shared" / "parts" / ("ab" * 32)
        part.write_bytes(b"of a job")
        own.server.sql("CREATE DATABASE second")
        for store, code, reason in (
            (own.server.url.removesuffix("espalier") + "second", 78, "SHARED_DIR_DIFFERS"),
            ("memory", 64, "SHARED_DIR_WITHOUT_DATABASE"),
        ):
            refused = self.enterContext(own.new_coordinator(
                own.folder / "data-b", "--store", store, "--shared-dir", own.folder / "shared",
            ))
            self.assertEqual(code, refused.wait())
            self.assertIn(reason, refused.errors())
        self.assertTrue(part.exists())

    def test_passwords_are_shown_nowhere(self):
        own = self.pair(0)
        for store in ("postgres:/u:canary@h/db", "postgresql://u:ab@canary@127.0.0.1:1/db", "postgresql://u:canary@127.0.0.1:1/db"):
            refused = self.enterContext(own.new_coordinator(own.folder / "data-c", "--store", store))
            self.assertIn(refused.wait(), (64, 75))
            self.assertNotIn("canary", refused.errors())

    def test_a_database_is_not_backed_up_as_a_file(self):
        own = self.pair(0)
        refused = self.enterContext(own.new_coordinator(
            own.folder / "data-a", "--store", own.server.url, "--backup", own.folder / "copy",
        ))
        self.assertEqual(64, refused.wait())
        self.assertIn("pg_dump", refused.errors())


if __name__ == "__main__":
    unittest.main()
