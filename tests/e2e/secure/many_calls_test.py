"""How many calls and watches one user may have, and that others do not feel it."""

import pathlib
import sys
import tempfile
import unittest
import urllib.request

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from cluster import eventually
from python_client_test import generate_stubs
from security import Secured

WATCHES = 64
# A connection has 64 calls at most.
CONNECTIONS = 2


class ManyCallsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stubs = generate_stubs(pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory())))

    def setUp(self):
        self.secured = self.enterContext(Secured())
        self.secured.issue("greedy", "viewer")
        self.secured.issue("modest", "viewer")

    def channel(self, user):
        own = self.secured.certificates / user
        credentials = grpc.ssl_channel_credentials(
            self.secured.trust().read_bytes(), (own / "key.pem").read_bytes(), (own / "cert.pem").read_bytes()
        )
        # Each is a connection of its own.
        return self.enterContext(grpc.secure_channel(self.secured.address, credentials, [("grpc.use_local_subchannel_pool", 1)]))

    def limited(self, reason):
        with urllib.request.urlopen(f"http://{self.secured.metrics}/metrics", timeout=10) as page:
            line = f'espalier_calls_limited_total{{reason="{reason}"}} '
            return next(float(row[len(line) :]) for row in page.read().decode().splitlines() if row.startswith(line))

    def watch(self, channel):
        """A watch that has begun."""
        stub = self.stubs["events_grpc"].EventServiceStub(channel)
        stream = stub.WatchWorkers(self.stubs["events"].WatchWorkersRequest(), timeout=60)
        next(stream)
        return stream

    def test_watches_of_one_user(self):
        channels = [self.channel("greedy") for _ in range(CONNECTIONS)]
        watches = [self.watch(channels[number % CONNECTIONS]) for number in range(WATCHES)]
        with self.assertRaises(grpc.RpcError) as refused:
            self.watch(channels[0])
        self.assertEqual(grpc.StatusCode.RESOURCE_EXHAUSTED, refused.exception.code())
        self.assertIn(f"expected at most {WATCHES} open streams of one caller", refused.exception.details())
        self.assertEqual(1, self.limited("streams_full"))
        self.watch(self.channel("modest")).cancel()
        # Other calls of the greedy one are answered, and a place that is free can be taken.
        self.secured.cli("worker", "list", who="greedy").ok()
        watches.pop().cancel()

        def again():
            try:
                return self.watch(channels[0])
            except grpc.RpcError:
                return None

        eventually("a place is free", again)

    def test_calls_of_one_user(self):
        stub = self.stubs["access_grpc"].AccessServiceStub(self.channel("greedy"))
        calls = [stub.WhoAmI.future(self.stubs["access"].WhoAmIRequest(), timeout=60) for _ in range(4000)]
        refused = [error for call in calls if (error := call.exception()) is not None]
        self.assertGreater(len(refused), 0)
        self.assertGreaterEqual(len(calls) - len(refused), 1000)
        self.assertEqual({grpc.StatusCode.RESOURCE_EXHAUSTED}, {error.code() for error in refused})
        self.assertIn("try again in", refused[0].details())
        self.assertEqual(len(refused), self.limited("call_rate"))
        self.secured.cli("worker", "list", who="modest").ok()


if __name__ == "__main__":
    unittest.main()
