"""A coordinator goes on with the data folders of earlier versions."""

import json
import pathlib
import sys
import tarfile
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "golden/data_folder"))

import jobs
from cluster import eventually
from lives import JOB_S


class OlderDataTest(unittest.TestCase):
    def test_jobs_of_every_released_version_are_there_and_go_on(self):
        archives = sorted(jobs.HERE.glob("*.tar.xz"))
        self.assertNotEqual([], archives)
        for archive in archives:
            with self.subTest(archive=archive.name):
                self.opens(archive)

    def opens(self, archive):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        with tarfile.open(archive) as tar:
            tar.extractall(folder)
        expected = json.loads((folder / "expected.json").read_text())
        own = self.enterContext(jobs.fleet(folder, folder / "data"))
        # What had not ended goes on by itself; nobody tells it to.
        eventually("the job in work goes on", lambda: own.job("killed")["round"] > 20)
        own.cli("job", "cancel", "killed").ok()
        for name, was in expected.items():
            self.assertEqual(was, jobs.seen(own, name), name)
        own.cli("checkpoint", "verify").ok()
        for name in ("failed", *jobs.paused_jobs()):
            own.cli("job", "retry" if name == "failed" else "resume", name).ok()
            done = own.wait_state(name, "SUCCEEDED", "FAILED", seconds=JOB_S)
            self.assertEqual("SUCCEEDED", done["state"], done["failure_message"])
            self.assert_numbers_go_on(own.events(name))
        # New jobs can begin with what is there.
        followed = jobs.digits_job(1, method={"name": "static"})
        followed["model"] = {"pretrained": "jobs/done"}
        self.assertEqual("SUCCEEDED", own.run(followed)["state"])

    def assert_numbers_go_on(self, events):
        numbers = [int(event["sequence"]) for event in events]
        self.assertEqual(list(range(1, len(numbers) + 1)), numbers)


if __name__ == "__main__":
    unittest.main()
