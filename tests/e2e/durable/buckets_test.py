"""Checkpoints in a bucket: what was told is there, whatever happens to the folder, and others find it.

    tests/support/with_s3.py -- python3 tests/e2e/durable/buckets_test.py
"""

import os
import pathlib
import shutil
import sys
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import lives
import chaos_proxy
from cluster import ENDLESS, digits_job, eventually
from standby import StandBys

JOB = digits_job(40, checkpoint={"every_rounds": 4, "keep": 3})


class BucketsTest(unittest.TestCase):
    def setUp(self):
        self.url = f"s3://{os.environ['ESPALIER_S3_BUCKET']}/{self._testMethodName.replace('_', '-')}"
        self.address = os.environ["ESPALIER_S3_ENDPOINT"].removeprefix("http://")
        self.reach(self.address)

    def reach(self, address, **variables):
        """Coordinators that start from now on reach the store at this address."""
        self.enterContext(mock.patch.dict(os.environ, {"AWS_ENDPOINT_URL_S3": f"http://{address}", **variables}))

    def checkpoints(self, own, job):
        found = own.cli("checkpoint", "list", "--job", job, "-o", "json").ok().json["checkpoints"]
        return {checkpoint["name"]: checkpoint["sha256"] for checkpoint in found}

    def test_a_folder_that_is_lost_comes_back(self):
        own = self.enterContext(lives.Lives(1, coordinator=("--checkpoints", self.url)))
        job = own.run(JOB)
        before = self.checkpoints(own, job["name"])
        self.assertGreaterEqual(len(before), 3)
        own.kill_coordinator()
        shutil.rmtree(own.data_dir / "checkpoints")
        own.start_again()
        self.assertEqual(before, self.checkpoints(own, job["name"]))
        for name in before:
            own.cli("checkpoint", "verify", name).ok()
        # A copy that is damaged is fetched again, too.
        own.kill_coordinator()
        damaged = next((own.data_dir / "checkpoints").glob("*.safetensors"))
        damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
        own.start_again()
        self.assertEqual(before, self.checkpoints(own, job["name"]))
        own.cli("checkpoint", "delete", next(iter(before))).ok()
        # Another coordinator, which has nothing but the bucket.
        other = self.enterContext(lives.Lives(0, coordinator=("--checkpoints", self.url)))
        self.assertEqual(dict(list(before.items())[1:]), self.checkpoints(other, job["name"]))

    def test_one_that_takes_over_has_the_checkpoints_without_a_shared_folder_for_them(self):
        job = JOB | {"federation": {"rounds": 400}}
        with lives.Lives(1) as calm:
            expected = calm.run(job)
        own = self.enterContext(StandBys(1, coordinator=("--checkpoints", self.url)))
        name = own.submit(job, "--name", expected["name"].removeprefix("jobs/"))["name"]
        own.wait_round(name, 9)
        eventually("the one that stands by follows", lambda: " checkpoints_fetched " in own.coordinators["b"].errors())
        own.kill("a")
        own.works("b")
        done = own.wait_state(name, "SUCCEEDED", "FAILED", seconds=lives.JOB_S)
        self.assertEqual("SUCCEEDED", done["state"], done["failure_message"])
        self.assertEqual(expected["model_hash"], done["model_hash"])
        newest = max(self.checkpoints(own, name), key=lambda found: int(found.rsplit("-", 1)[1]))
        own.cli("checkpoint", "get", newest, "-O", own.folder / "model.safetensors").ok()
        self.assertEqual([], list((own.folder / "shared").glob("checkpoints")))

    def test_jobs_wait_for_a_bucket_that_is_away_and_others_go_on(self):
        proxy = self.enterContext(chaos_proxy.ChaosProxy(self.address))
        self.reach(proxy.address)
        own = self.enterContext(lives.Lives(2, coordinator=("--checkpoints", self.url)))
        name = own.submit(digits_job(400, checkpoint={"every_rounds": 4, "keep": 3}))["name"]
        own.wait_round(name, 3)
        # Nothing moves any more; a store that refuses is noticed sooner.
        proxy.stop()
        other = own.submit(digits_job(ENDLESS))["name"]
        own.wait_round(other, 20)

        def waits():
            conditions = own.job(name)["conditions"]
            return conditions and conditions[0]["type"] == "WAITING_STORAGE"

        eventually("the job says that it waits", waits, seconds=90)
        proxy.resume()
        done = own.wait_state(name, "SUCCEEDED", "FAILED", seconds=lives.JOB_S)
        self.assertEqual("SUCCEEDED", done["state"], done["failure_message"])

    def test_keys_that_are_wrong_are_said_at_the_start_and_shown_nowhere(self):
        self.reach(self.address, AWS_SECRET_ACCESS_KEY="canary-canary-canary")
        own = self.enterContext(lives.Lives(0))
        refused = self.enterContext(own.new_coordinator(own.folder / "other", "--checkpoints", self.url))
        self.assertEqual(78, refused.wait())
        self.assertIn("SignatureDoesNotMatch", refused.errors())
        self.assertNotIn("canary", refused.errors())

    def test_one_that_stands_by_with_another_bucket_is_refused(self):
        own = self.enterContext(StandBys(0, coordinator=("--checkpoints", self.url)))
        own.kill("b")
        refused = self.enterContext(own.new_coordinator(
            own.folder / "data-b", "--store", own.server.url, "--shared-dir", own.folder / "shared", "--checkpoints", self.url + "/else",
        ))
        self.assertEqual(78, refused.wait())
        self.assertIn("CHECKPOINTS_DIFFER", refused.errors())


if __name__ == "__main__":
    unittest.main()
