"""Jobs of users: their quotas, and workers that do the jobs of some of them alone."""

import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from cluster import ENDLESS, digits_job, eventually

from security import Secured


class OwnersTest(unittest.TestCase):
    def setUp(self):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        quotas = folder / "quotas.yaml"
        quotas.write_text("default: {jobs: 1}\nusers:\n  carl: {checkpoint_bytes: 0}\n")
        self.policy = folder / "policy.yaml"
        self.policy.write_text("allow:\n  - submitters: [ada]\n    datasets: [digits]\n")
        self.cluster = self.enterContext(Secured("--quotas", quotas))
        for user in ("ada", "bob", "carl"):
            self.cluster.issue(user, "submitter")

    def submit(self, who, name, **job):
        spec = self.cluster.file(digits_job(**job))
        return self.cluster.cli("job", "submit", spec, "--name", name, "-o", "json", who=who)

    def job(self, who, name):
        return self.cluster.cli("job", "get", name, "-o", "json", who=who).ok().json

    def test_each_user_has_a_quota(self):
        long = self.submit("ada", "long", rounds=ENDLESS).ok().json
        self.assertEqual("ada", long["owner"])
        refused = self.submit("ada", "more")
        self.assertEqual("QUOTA_EXCEEDED", refused.error["reason"])
        self.assertIn("at most 1 jobs of 'ada'", refused.error["message"])
        self.assertEqual("bob", self.submit("bob", "other").ok().json["owner"])
        carl = self.submit("carl", "third")
        self.assertEqual("QUOTA_EXCEEDED", carl.error["reason"])
        self.assertIn("checkpoint_bytes", carl.error["message"])
        # The next life knows whose jobs there are.
        self.cluster.restart()
        self.assertEqual("QUOTA_EXCEEDED", self.submit("ada", "more").error["reason"])
        self.cluster.cli("job", "cancel", "long", who="ada").ok()
        self.submit("ada", "more").ok()

    def test_workers_know_whose_jobs_they_do(self):
        worker = self.cluster.start_worker(
            "careful", "--policy", self.policy, tls=self.cluster.issue("careful", "worker")
        )
        eventually("it is there", lambda: self.cluster.worker("careful").get("state") == "ACTIVE")
        self.submit("bob", "his").ok()
        refusal = "1 worker has data set 'digits' and does not allow jobs of 'bob'"

        def waits():
            conditions = self.job("bob", "his")["conditions"]
            return conditions and refusal in conditions[0]["message"]

        eventually("the job says who refuses it", waits)
        self.submit("ada", "hers").ok()
        eventually("hers is done", lambda: self.job("ada", "hers")["state"] == "SUCCEEDED")
        self.assertEqual("PENDING", self.job("bob", "his")["state"])
        self.assertNotIn("TASK_NOT_ALLOWED", worker.errors())


if __name__ == "__main__":
    unittest.main()
