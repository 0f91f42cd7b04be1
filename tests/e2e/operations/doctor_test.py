"""`espalier cluster doctor` on clusters in order and out of order."""

import os
import pathlib
import signal
import sys
import unittest

HERE = pathlib.Path(__file__)
sys.path.insert(0, str(HERE.parents[1] / "secure"))
sys.path.insert(0, str(HERE.parents[1]))

import cluster
from cluster import digits_job, eventually
from security import Secured


def findings(result, level):
    return {one["check"]: one for one in result.json["findings"] if one["level"] == level}


class DoctorTest(unittest.TestCase):
    def test_a_cluster_in_order(self):
        own = self.enterContext(cluster.Cluster(workers=2))
        result = own.cli("cluster", "doctor", "-o", "json").ok()
        self.assertEqual({}, findings(result, "error"))
        self.assertEqual({}, findings(result, "warning"))
        looked = {one["check"] for one in result.json["findings"]}
        for check in ("name", "connection", "certificates", "identity", "clock", "versions", "store", "disk", "memory", "files", "threads", "workers", "data sets", "jobs"):
            self.assertIn(check, looked)

    def test_what_is_wrong_comes_first_with_what_to_do(self):
        own = self.enterContext(cluster.Cluster(workers=1))
        own.workers["w1"].send(signal.SIGKILL)
        eventually("the worker is lost", lambda: own.cli("worker", "list", "-o", "json").ok().json["workers"][0]["state"] == "LOST")
        own.submit(digits_job(1))
        eventually("the job waits", lambda: "jobs" in findings(own.cli("cluster", "doctor", "-o", "json"), "warning"))
        result = own.cli("cluster", "doctor", "-o", "json")
        self.assertEqual(5, result.code, result.err)
        self.assertIn("start some", findings(result, "error")["workers"]["fix"])
        self.assertIn("vanished without a word in the last day: w1", findings(result, "warning")["workers"]["found"])
        levels = [one["level"] for one in result.json["findings"]]
        self.assertEqual(sorted(levels, key=("error", "warning", "ok").index), levels)
        self.assertIn("waiting for", findings(result, "warning")["jobs"]["fix"])

    def test_a_coordinator_that_is_not_there(self):
        own = self.enterContext(cluster.Cluster(workers=0))
        own.coordinator.send(signal.SIGTERM)
        own.coordinator.wait()
        result = own.cli("cluster", "doctor", "-o", "json")
        self.assertEqual(6, result.code, result.err)
        self.assertIn("takes no connections", findings(result, "error")["connection"]["found"])
        table = own.cli("cluster", "doctor")
        self.assertIn("start the coordinator", table.out)

    def test_certificates_over_tls(self):
        secured = self.enterContext(Secured())
        result = secured.cli("cluster", "doctor", "-o", "json", who="admin")
        self.assertIn("with the role ADMIN", findings(result, "ok")["identity"]["found"])
        certificates = [one["found"] for one in result.json["findings"] if one["check"] == "certificates"]
        for what in ("the authority", "our certificate", "the coordinator's certificate", "what we show the coordinator"):
            self.assertTrue(any(what in found for found in certificates), (what, certificates))
        key = secured.certificates / "admin" / "key.pem"
        os.chmod(key, 0o644)
        result = secured.cli("cluster", "doctor", "-o", "json", who="admin")
        self.assertEqual(f"chmod 600 {key}", findings(result, "warning")["certificates"]["fix"])


if __name__ == "__main__":
    unittest.main()
