"""A hostile worker among good ones: a genuine worker whose results a liar changes on their way, as a worker that was
built for it would. The coordinator refuses them, puts it into quarantine, says so, and the model is the others'."""

import hashlib
import pathlib
import struct
import sys
import tempfile
import unittest
import urllib.request
from concurrent import futures

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
from cluster import digits_job, eventually
from python_client_test import generate_stubs
from worker_limits_test import start_worker

NOT_A_NUMBER = struct.pack("<f", float("nan"))


def crc32c_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


class Liar(grpc.GenericRpcHandler):
    """Stands between a worker and its coordinator, passes calls on, and changes the results of its training."""

    SERVICE = "/espalier.v1.WorkerService/"

    def __init__(self, address, api):
        self._channel = grpc.insecure_channel(address)
        self._api = api["worker"]
        self.told = []  # reasons that came back for changed results

    def service(self, details):
        handlers = {
            self.SERVICE + "Session": lambda: grpc.stream_stream_rpc_method_handler(self._session),
            self.SERVICE + "Fetch": lambda: grpc.unary_stream_rpc_method_handler(self._fetch),
            self.SERVICE + "Submit": lambda: grpc.stream_unary_rpc_method_handler(self._submit),
        }
        return handlers.get(details.method, lambda: None)()

    def _pass_on(self, context, call):
        """What the coordinator answers, its error included."""
        context.add_callback(call.cancel)
        try:
            yield from call
        except grpc.RpcError as error:
            self._fail(context, error)

    def _fail(self, context, error):
        context.set_trailing_metadata(tuple(error.trailing_metadata() or ()))
        context.abort(error.code(), error.details())

    def _session(self, messages, context):
        return self._pass_on(context, self._channel.stream_stream(self.SERVICE + "Session")(messages))

    def _fetch(self, request, context):
        return self._pass_on(context, self._channel.unary_stream(self.SERVICE + "Fetch")(request))

    def _submit(self, messages, context):
        # A large body is sent once there is an answer to the header.
        context.send_initial_metadata(())
        requests = [self._api.SubmitRequest.FromString(message) for message in messages]
        changed = self._poison(requests)
        submit = self._channel.stream_unary(self.SERVICE + "Submit")
        try:
            return submit(iter([request.SerializeToString() for request in requests]), timeout=cluster.DEADLINE_S)
        except grpc.RpcError as error:
            if changed:
                self.told.append(error.details())
            self._fail(context, error)

    def _poison(self, requests):
        """Puts one number that is none into values, with a digest and checksums that fit."""
        header = requests[0].header
        if not header.sections or header.sections[0].type != self._api.SECTION_TYPE_F32:
            return False
        body = bytearray(b"".join(request.chunk.data for request in requests[1:]))
        body[:4] = NOT_A_NUMBER
        header.body_sha256 = hashlib.sha256(body).hexdigest()
        place = 0
        for request in requests[1:]:
            size = len(request.chunk.data)
            request.chunk.data = bytes(body[place : place + size])
            request.chunk.crc32c = crc32c(request.chunk.data)
            place += size
        return True


class HostileWorkerTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.api = generate_stubs(folder)
        cls.cluster = cls.enterClassContext(cluster.Cluster(workers=2))

    def liar(self):
        liar = Liar(self.cluster.address, self.api)
        server = grpc.server(futures.ThreadPoolExecutor(8), handlers=(liar,))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self.addCleanup(lambda: server.stop(None).wait())
        return liar, f"127.0.0.1:{port}"

    def metric(self, line):
        with urllib.request.urlopen(f"http://{self.cluster.metrics}/metrics", timeout=10) as page:
            return f"\n{line}\n" in page.read().decode()

    def test_poisoner_is_put_into_quarantine_and_the_model_is_that_of_the_others(self):
        own = self.cluster
        job = digits_job(40)
        undisturbed = own.run(job)["model_hash"]
        liar, address = self.liar()
        start_worker(own, "liar", coordinator=address)
        done = own.run(job)
        self.assertEqual(undisturbed, done["model_hash"])

        refused = [
            event["update_rejected"] for event in own.events(done["name"]) if "update_rejected" in event
        ]
        self.assertEqual(["NON_FINITE"] * 3, [event["reason"] for event in refused])
        self.assertEqual({"liar"}, {event["worker"].removeprefix("workers/") for event in refused})
        self.assertEqual(3, len(liar.told))
        self.assertIn("expected a finite number", liar.told[0])

        self.assertEqual(
            {"liar": "QUARANTINED", "w1": "ACTIVE", "w2": "ACTIVE"}, own.worker_states()
        )
        listed = own.cli("worker", "list").ok()
        self.assertRegex(listed.out, r"workers/liar\s+QUARANTINED until 20\d\d-")
        self.assertIn("NON_FINITE", listed.err)
        self.assertIn("espalier worker undrain workers/liar", listed.err)
        self.assertIn(" worker_quarantined worker=liar ", own.coordinator.errors())
        eventually("metrics say so", lambda: self.metric('espalier_workers{state="quarantined"} 1'))
        self.assertTrue(self.metric('espalier_worker_strikes_total{reason="non_finite"} 3'))

        # An operator ends it; it goes on as before, and so does the coordinator.
        undrained = own.cli("worker", "undrain", "liar", "-o", "json").ok().json
        self.assertEqual("ACTIVE", undrained["state"])
        self.assertEqual(undisturbed, own.run(job)["model_hash"])
        self.assertEqual("QUARANTINED", own.worker_states()["liar"])


if __name__ == "__main__":
    unittest.main()
