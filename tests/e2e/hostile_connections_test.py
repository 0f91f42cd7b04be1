"""Peers that connect and then do nothing, or too little: none of them may stop the others.

ESPALIER_STALLED=10000 makes it ten thousand idle connections instead of a few hundred, ESPALIER_RESETS=300000 as many
calls that are reset.
"""

import contextlib
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request

import cluster
from cluster import digits_job, eventually

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))

# pylint: disable=wrong-import-position
from chaos_proxy import ChaosProxy, Link  # noqa: E402
from raw_grpc import (  # noqa: E402
    END_HEADERS,
    HEADERS,
    RST_STREAM,
    Connection,
    FakeWorker,
    decode,
    encode,
    frame,
    grpc_message,
    headers_block,
)

STALLED = int(os.environ.get("ESPALIER_STALLED", "400"))
RESETS = int(os.environ.get("ESPALIER_RESETS", "20000"))
MOST_KEPT_MB = 32
CROWD = 300
# Each command starts a process and connects; two cores do some 50 of them a second.
CROWD_S = 90
STALL_S = 3
# Time limits end what stalls a little later than they say, and the machine may be slow.
GRACE_S = 12
WORKER = "/espalier.v1.WorkerService/"
# Weights enough that values and updates do not fit in windows and socket buffers: 5 MB dense.
WIDE = digits_job(
    3,
    model={
        "input_features": 64,
        "layers": [
            {"linear": {"units": 1024, "activation": "relu"}},
            {"linear": {"units": 1024, "activation": "relu"}},
            {"linear": {"units": 10}},
        ],
    },
    method={"name": "dense"},
    data=digits_job()["data"] | {"partition": {"kind": "iid", "shards": 4}},
    federation={"rounds": 3, "max_retries": 100},
)
LONG = digits_job(400)


def setUpModule():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, STALLED + 1000)), hard))


def connect(address):
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=cluster.DEADLINE_S)


def scrape(address, method="GET", seconds=10):
    request = urllib.request.Request(f"http://{address}/metrics", method=method)
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        return answer.status, answer.read().decode()


def metric(own, series):
    for line in scrape(own.metrics)[1].splitlines():
        if line.startswith(series + " "):
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"no series {series}")


def limited(own, reason):
    return metric(own, f'espalier_calls_limited_total{{reason="{reason}"}}')


def resident_mb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024


def is_closed(peer):
    """Whether the other side has ended the connection."""
    peer.setblocking(False)
    try:
        while peer.recv(1 << 16):
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


class Drip:
    """Sends the bytes one at a time over all connections, twice a second, as long as it is open."""

    def __init__(self, peers, data):
        self._peers, self._data = peers, data
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _run(self):
        for i in range(len(self._data)):
            for peer in self._peers:
                try:
                    peer.send(self._data[i : i + 1])
                except OSError:
                    pass
            if self._stop.wait(0.5):
                return


class StalledTest(unittest.TestCase):
    def start(self, workers, *arguments, **options):
        return self.enterContext(
            cluster.Cluster(
                workers, coordinator=["--stall-timeout", str(STALL_S), *arguments], **options
            )
        )

    def opened(self, address, count=1):
        return [self.enterContext(connect(address)) for _ in range(count)]

    def raw(self, own, **options):
        return self.enterContext(Connection(own.address, **options))

    def ends_with(self, connection, stream, *words):
        """The stream ends soon, with these words in its status."""

        def ended():
            connection.pump(0.1)
            return connection.ended.get(stream)

        status = eventually(f"stream {stream} ends", ended, 10 + GRACE_S)
        for word in words:
            self.assertIn(word, status)

    def test_idle_connections_and_streams_leave_a_job_alone_and_end(self):
        with cluster.Cluster(1) as other:
            undisturbed = other.run(LONG)["model_hash"]
        own = self.start(2)
        before = resident_mb(own.coordinator.pid)
        silent = self.opened(own.address, STALLED)
        begun = [self.raw(own) for _ in range(20)]
        for connection in begun:  # a header that never ends
            connection.socket.sendall(frame(HEADERS, 0, 1, headers_block(WORKER + "Session"))[:20])
        preface = self.opened(own.address, 20)
        sessions = [self.raw(own) for _ in range(10)]
        for connection in sessions:
            for _ in range(4):
                connection.call(WORKER + "Session")
                connection.call(WORKER + "Submit")
        unread = [self.raw(own, reading=False) for _ in range(10)]
        with Drip(preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
            # Ten thousand connections at once take it a second or two.
            eventually("new clients are heard", lambda: own.cli("worker", "list").code == 0)
            name = own.submit(LONG)["name"]
            for connection in unread:  # watchers that never read, beside one that does
                connection.call("/espalier.v1.JobService/WatchJob", encode((1, name)), half_close=True)
            self.assertEqual(0, own.cli("job", "watch", name, seconds=120).code)
            job = own.job(name)
            self.assertEqual("SUCCEEDED", job["state"])
            self.assertEqual(undisturbed, job["model_hash"])
            for connection in sessions:
                self.ends_with(connection, 1, b"Register")
                self.ends_with(connection, 3, b"header")
            for connection in unread:
                self.ends_with(connection, 1, b"after_sequence")
            for peers in (silent, preface):
                eventually("they are ended", lambda: all(map(is_closed, peers)), 20)
        self.assertGreaterEqual(limited(own, "register_timeout"), 40)
        self.assertGreaterEqual(limited(own, "header_timeout"), 40)
        self.assertGreaterEqual(limited(own, "watch_stalled"), 10)
        own.run(digits_job(1))
        print(f"{STALLED} idle connections: {before:.0f} MB before, "
              f"{resident_mb(own.coordinator.pid):.0f} MB after", file=sys.stderr)
        own.coordinator.send(signal.SIGTERM)
        self.assertEqual(0, own.coordinator.wait())

    def test_calls_of_which_only_pieces_come_end_and_a_job_beside_is_unharmed(self):
        with cluster.Cluster(1) as other:
            undisturbed = other.run(LONG)["model_hash"]
        own = self.start(2)
        idle = self.raw(own)
        stream = idle.call("/espalier.v1.JobService/ListJobs", b"", half_close=True)
        self.ends_with(idle, stream, b"grpc-status")
        begun = [self.raw(own) for _ in range(20)]
        later = [self.raw(own) for _ in range(20)]
        for connection in later:  # drips after a call that was answered
            stream = connection.call("/espalier.v1.JobService/ListJobs", b"", half_close=True)
            self.ends_with(connection, stream, b"grpc-status")
        bodies = [self.raw(own) for _ in range(20)]
        for connection in bodies:  # 64 requests each that are half there, on one connection
            for _ in range(64):
                stream = connection.call("/espalier.v1.JobService/CreateJob")
                connection.socket.sendall(frame(0, 0, stream, grpc_message(bytes(100))[:50]))
        block = headers_block("/espalier.v1.JobService/ListJobs")
        slow = begun + later
        one_by_one = [(c.socket, frame(HEADERS, END_HEADERS, c.next_stream, block)) for c in slow]
        with contextlib.ExitStack() as drips:
            for peer, data in one_by_one:
                drips.enter_context(Drip([peer], data))
            drips.enter_context(Drip([c.socket for c in bodies], frame(0, 0, 1, bytes(200))))
            job = own.run(LONG)
            for connection in slow + bodies:
                eventually("it is ended", lambda c=connection: is_closed(c.socket), 13 + GRACE_S)
        self.assertEqual(undisturbed, job["model_hash"])
        self.assertGreaterEqual(limited(own, "request_timeout"), 60)
        self.assertIn("connections_ended reason=request_timeout peer=127.0.0.1:", own.coordinator.errors())
        # Who says nothing after a call is idle, which has a limit of its own, and workers have a call.
        self.assertFalse(is_closed(idle.socket))
        self.assertEqual({"w1": "ACTIVE", "w2": "ACTIVE"}, own.worker_states())
        for worker in own.workers.values():
            self.assertEqual(1, worker.errors().count(" registered "))

    def test_workers_over_both_families_of_addresses_have_a_call(self):
        own = self.start(0, "--listen", "[::]:0", "--insecure")
        port = own.address.rpartition(":")[2]
        for name, host in (("six", "[::1]"), ("four", "127.0.0.1")):
            own.address = f"{host}:{port}"
            own.add_worker(name)
        time.sleep(10 + 2 * STALL_S)
        self.assertEqual(0, limited(own, "request_timeout"))
        self.assertEqual({"six": "ACTIVE", "four": "ACTIVE"}, own.worker_states())

    def test_watcher_that_was_dropped_goes_on_without_a_gap(self):
        own = self.start(1)
        name = own.run(LONG)["name"]
        last = len(own.events(name))

        def watch(connection, after):
            request = encode((1, name), (2, after))
            return connection.call("/espalier.v1.JobService/WatchJob", request, half_close=True)

        slow = self.raw(own, reading=False)
        stream = watch(slow, 0)
        self.ends_with(slow, stream, b"after_sequence")
        heard = [decode(m[1][0])[1][0] for m in slow.messages(stream)]
        self.assertLess(len(heard), last)
        again = self.raw(own)
        stream = watch(again, heard[-1])
        eventually("the rest comes", lambda: again.pump(0.1) and stream in again.ended)
        heard += [decode(m[1][0])[1][0] for m in again.messages(stream)]
        self.assertEqual(list(range(1, last + 1)), heard)

    def test_memory_of_calls_that_were_reset_is_given_back(self):
        own = self.start(0)
        before = resident_mb(own.coordinator.pid)
        block = headers_block("/espalier.v1.JobService/ListJobs")
        connection = self.raw(own)
        for first in range(1, 2 * RESETS, 200):
            connection.socket.setblocking(True)
            connection.socket.sendall(
                b"".join(
                    frame(HEADERS, END_HEADERS, stream, block)
                    + frame(RST_STREAM, 0, stream, b"\0\0\0\x08")
                    for stream in range(first, first + 200, 2)
                )
            )
            while connection.pump(0) and connection.arrived:
                pass
        connection.socket.close()
        self.assertGreater(resident_mb(own.coordinator.pid), before)
        eventually(
            "memory is as before",
            lambda: resident_mb(own.coordinator.pid) < before + MOST_KEPT_MB,
            60,
        )
        self.assertEqual(0, own.cli("worker", "list").code)

    def fakes_with_tasks(self, own):
        """Four workers that hold a task of a wide job each, and send heartbeats."""
        own.submit(WIDE, "--name", "held")
        fakes = [self.enterContext(FakeWorker(own.address, f"fake-{i}")) for i in range(4)]
        for fake in fakes:
            eventually("it has a task", lambda fake=fake: fake.task)
        return fakes

    def test_uploads_without_a_body_give_their_slots_back(self):
        own = self.start(0)
        held = []
        for fake in self.fakes_with_tasks(own):
            for _ in range(3):  # one of them may hold a slot, two wait behind it
                connection = self.raw(own)
                held.append((connection, connection.call(WORKER + "Submit", encode((1, fake.header())))))
        own.add_worker("honest")
        self.assertEqual("SUCCEEDED", own.run(WIDE)["state"])
        self.ends_with(*held[0], b"chunk")
        self.assertGreaterEqual(limited(own, "transfer_stalled"), 4)

    def test_downloads_that_are_not_read_give_their_slots_back(self):
        own = self.start(0)
        for fake in self.fakes_with_tasks(own):
            connection = self.raw(own, reading=False)
            request = encode((1, fake.session), (2, fake.blob()), (4, "jobs/held"))
            connection.call(WORKER + "Fetch", request, half_close=True)
        own.add_worker("honest")
        self.assertEqual("SUCCEEDED", own.run(WIDE)["state"])
        eventually("all were ended", lambda: limited(own, "transfer_stalled") >= 4)

    def test_models_are_for_sessions(self):
        own = self.start(0)
        fake = self.fakes_with_tasks(own)[0]
        connection = self.raw(own)
        for session in (424242, b"0123456789abcdef", 0):
            stream = connection.call(
                WORKER + "Fetch", encode((1, session), (2, fake.blob())), half_close=True
            )
            self.ends_with(connection, stream, b"session")
            self.assertEqual(b"", connection.heard.get(stream, b""))

    def test_workers_frozen_in_the_middle_of_a_download_do_not_stop_others(self):
        own = self.start(0, "--heartbeat-timeout", "2")
        with ChaosProxy(own.address, None, Link(rate=300_000)) as proxy:
            direct, own.address = own.address, proxy.address
            slow = [own.add_worker(f"slow-{i}") for i in range(4)]
            own.address = direct
            own.submit(WIDE, "--name", "held")
            busy = lambda: own.cli("worker", "list", "-o", "json").ok().json["workers"]
            eventually("all have a task", lambda: all(w["task"] for w in busy()))
            for worker in slow:
                worker.send(signal.SIGSTOP)
            own.add_worker("honest")
            self.assertEqual("SUCCEEDED", own.run(WIDE)["state"])
            own.wait_state("held", "SUCCEEDED")
            for worker in slow:
                worker.kill()

    def test_spool_of_an_upload_that_was_cut_is_gone(self):
        own = self.start(0)
        spool = own.folder / "data/spool"
        fake = self.fakes_with_tasks(own)[0]
        connection = self.raw(own)
        stream = connection.call(WORKER + "Submit", encode((1, fake.header())))
        eventually("it is spooled", lambda: list(spool.iterdir()))
        chunk = grpc_message(encode((2, encode((1, 0), (2, bytes(1000))))))
        connection.socket.sendall(frame(0, 0, stream, chunk)[:500])
        connection.socket.close()
        eventually("the file is gone", lambda: not list(spool.iterdir()))

    def test_leftovers_of_a_crash_are_swept_and_folders_are_named(self):
        own = self.start(0)
        data = own.folder / "data"
        own.coordinator.kill()
        (data / "spool/upload-7").write_bytes(b"half an update")
        (data / "checkpoints/x.tmp").mkdir()
        (data / "spool/not-ours").mkdir()
        (data / "checkpoints/y.tmp").write_bytes(b"half a checkpoint")
        again = self.enterContext(own.new_coordinator(data))
        self.assertIn("listening", again.line())
        self.assertFalse((data / "spool/upload-7").exists())
        self.assertFalse((data / "checkpoints/y.tmp").exists())
        for name in ("x.tmp", "not-ours"):
            self.assertRegex(again.errors(), rf"warning .*{name}")


class MetricsConnectionsTest(unittest.TestCase):
    def test_idle_and_half_requests_do_not_stop_scrapes(self):
        own = self.enterContext(cluster.Cluster(1))
        for address in (own.metrics, own.workers["w1"].metrics):
            peers = [self.enterContext(connect(address)) for _ in range(1000)]
            for peer in peers[::2]:
                try:
                    peer.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
                except OSError:  # ended because others came
                    pass
            for method in ("GET", "HEAD", "GET"):
                start = time.monotonic()
                status, text = scrape(address, method)
                self.assertLess(time.monotonic() - start, 1)
                self.assertEqual(200, status)
                self.assertEqual(method == "GET", "espalier_build_info" in text)
            check = ["--health-check", "--metrics-listen", address]
            with cluster.Process("espalier-worker", check, own.folder / "check.log") as process:
                self.assertEqual(0, process.wait())

    def test_other_pages_and_methods(self):
        own = self.enterContext(cluster.Cluster(0))
        for request, code in (
            (b"GET / HTTP/1.0\r\n\r\n", b"404"),
            (b"POST /metrics HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", b"405"),
            (b"GET /metrics HTTP/1.0\r\n\r\n", b"200"),
            (b"GET /" + b"x" * 20_000 + b" HTTP/1.0\r\n\r\n", b"414"),
        ):
            with connect(own.metrics) as peer:
                peer.sendall(request)
                self.assertIn(code, peer.recv(64).split(b"\r\n")[0])
        with connect(own.metrics) as peer:
            peer.sendall(b"nonsense\r\n\r\n")
            self.assertEqual(b"", peer.recv(64))  # ended at once


class DescriptorsTest(unittest.TestCase):
    def with_limit(self, descriptors):
        """A coordinator that is started with so many descriptors, soft and hard."""
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        script = folder / "run"
        script.write_text(f'#!/bin/sh\nulimit -n {descriptors}\nexec "$@"\n')
        script.chmod(0o755)
        program = cluster.BIN / "espalier-coordinator"
        process = cluster.Process(
            script,
            [program, "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0",
             "--data-dir", folder / "data", "--max-connections-per-source", "0"],
            folder / "log",
        )
        return self.enterContext(process)

    def test_too_few_to_start(self):
        process = self.with_limit(16)
        self.assertEqual(78, process.wait(10))
        self.assertIn("TOO_FEW_DESCRIPTORS", process.errors())
        self.assertIn("ulimit -n", process.errors())

    def hears_again(self, descriptors, count):
        process = self.with_limit(descriptors)
        line = cluster.words(process.line())
        address, metrics = line["address"], line["metrics"]
        for _ in range(2):
            peers = []
            for _ in range(count):
                try:
                    peers.append(connect(address))
                except OSError:
                    break
            eventually(
                "connections were refused",
                lambda: 'refused_total{reason="limit"} 0\n' not in scrape(metrics)[1],
            )
            for peer in peers:
                peer.close()
            eventually(
                "it answers again",
                lambda: cluster.espalier("worker", "list", server=address).code == 0,
                10,
            )
        self.assertIn("connections_refused", process.errors())
        self.assertTrue(process.running())

    def test_coordinator_hears_again_after_descriptors_ran_out(self):
        self.hears_again(256, 400)

    def test_few_descriptors_are_enough_for_a_small_cluster(self):
        self.hears_again(40, 60)


class CrowdTest(unittest.TestCase):
    """Hundreds of people at once: every command is answered, and a job beside them does not notice."""

    def test_three_hundred_commands_at_once_are_all_answered(self):
        with cluster.Cluster(1) as other:
            undisturbed = other.run(LONG)["model_hash"]
        own = self.enterContext(cluster.Cluster(2))
        name = own.submit(LONG)["name"]
        file = own.file(digits_job(1))
        kinds = (("job", "list"), ("job", "get", name), ("job", "submit", file, "--dry-run"))
        with contextlib.ExitStack() as stack:
            begin = time.monotonic()
            crowd = []
            for i in range(CROWD):
                errors = stack.enter_context(tempfile.TemporaryFile())
                process = subprocess.Popen(
                    [cluster.BIN / "espalier", *map(str, kinds[i % len(kinds)])],
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    env=os.environ | {"ESPALIER_SERVER": own.address},
                    preexec_fn=cluster.die_with_parent,
                )
                stack.callback(process.wait)
                stack.callback(process.kill)
                crowd.append((process, errors))
            for process, errors in crowd:
                code = process.wait(max(1, begin + CROWD_S - time.monotonic()))
                errors.seek(0)
                self.assertEqual(0, code, errors.read())
            print(f"{CROWD} commands: {time.monotonic() - begin:.1f} s", file=sys.stderr)
        job = own.wait_state(name, "SUCCEEDED", seconds=120)
        self.assertEqual(undisturbed, job["model_hash"])
        self.assertEqual({"w1": "ACTIVE", "w2": "ACTIVE"}, own.worker_states())
        own.cli("worker", "list").ok()


if __name__ == "__main__":
    unittest.main()
