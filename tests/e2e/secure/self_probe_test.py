"""A coordinator that does not hear itself any more ends with 70, and the next one goes on with its jobs; one that is healthy stays."""

import pathlib
import resource
import signal
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

# pylint: disable=wrong-import-position
import cluster  # noqa: E402
from cluster import digits_job, eventually  # noqa: E402
from security import Secured  # noqa: E402

PROBE_S = 10
SOFTWARE = 70
LONG = digits_job(2000)


class SelfProbeTest(unittest.TestCase):
    def heard_itself(self, own):
        """Until a probe has succeeded: only from then on do failures count."""
        time.sleep(PROBE_S + 1)
        self.assertNotIn("self_probe_failed", own.coordinator.errors())

    def test_without_descriptors_it_ends_and_the_next_one_goes_on(self):
        with cluster.Cluster(1) as other:
            undisturbed = other.run(digits_job(400))["model_hash"]
        own = self.enterContext(cluster.Cluster(1))
        self.heard_itself(own)
        name = own.submit(digits_job(400), "--name", "kept")["name"]
        own.wait_round(name, 1)
        # As if something had leaked them all: what is open stays, and nothing can be opened.
        _, hard = resource.prlimit(own.coordinator.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(own.coordinator.pid, resource.RLIMIT_NOFILE, (3, hard))
        self.assertEqual(SOFTWARE, own.coordinator.wait(8 * PROBE_S))
        self.assertEqual(3, own.coordinator.errors().count("self_probe_failed"))
        self.assertIn("coordinator_ends reason=NOT_HEARD", own.coordinator.errors())
        again = own.enter_context(own.new_coordinator(own.data_dir, "--listen", own.address))
        self.assertIn("listening", again.line())
        job = own.wait_state(name, "SUCCEEDED", seconds=120)
        self.assertEqual(undisturbed, job["model_hash"])

    def test_a_pause_and_a_failed_probe_after_it_end_nothing(self):
        own = self.enterContext(Secured())
        self.heard_itself(own)
        own.coordinator.send(signal.SIGSTOP)
        time.sleep(3 * PROBE_S)
        own.coordinator.send(signal.SIGCONT)
        time.sleep(2 * PROBE_S)
        own.cli("worker", "list").ok()
        self.assertTrue(own.coordinator.running())

    def test_it_hears_itself_on_every_kind_of_address(self):
        listening = [
            self.enterContext(cluster.Cluster(coordinator=("--listen", address, "--insecure")))
            for address in ("127.0.0.9:0", "0.0.0.0:0", "[::]:0")
        ]
        listening.append(self.enterContext(Secured()))
        time.sleep(2 * PROBE_S + 1)
        for own in listening:
            self.assertNotIn("self_probe_failed", own.coordinator.errors())
            # Nor is a probe with TLS taken for a client that fails.
            self.assertNotIn("tls_handshake_failed", own.coordinator.errors())
            self.assertTrue(own.coordinator.running())

    def test_room_that_others_have_taken_does_not_end_it(self):
        own = self.enterContext(cluster.Cluster(coordinator=("--max-connections-per-source", "1")))
        watch = own.background("job", "watch", own.submit(LONG)["name"])
        eventually("it is at its limit", lambda: own.cli("worker", "list", "--timeout", "1s").code != 0)
        time.sleep(2 * PROBE_S + 1)
        self.assertTrue(watch.running())
        self.assertNotIn("self_probe_failed", own.coordinator.errors())


if __name__ == "__main__":
    unittest.main()
