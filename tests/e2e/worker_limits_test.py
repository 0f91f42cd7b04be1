"""Workers at their limits: damaged transfers, data that unfolds, too little memory, a library that fails."""

import contextlib
import gzip
import os
import pathlib
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import unittest
import unittest.mock
import urllib.request

import cluster
from cluster import ENDLESS, Process, digits_job, eventually

sys.path.insert(0, str(cluster.SOURCE / "tests/support"))
from chaos_proxy import ChaosProxy, Link

MEGABYTE = 1 << 20


def start_worker(own, name, coordinator=None, data_root=cluster.DATA, wait=True, prefix=(), arguments=()):
    """A worker by another way to the coordinator, or by a program that starts it."""
    command = [
        *prefix,
        cluster.BIN / "espalier-worker",
        "--coordinator",
        coordinator or own.address,
        "--id",
        name,
        "--data-root",
        data_root,
        *arguments,
    ]
    worker = own.enter_context(Process(command[0], command[1:], own.folder / f"{name}.log"))
    worker.metrics = cluster.words(worker.line(60))["metrics"]
    if wait:
        eventually(f"{name} registers", lambda: " registered " in worker.errors())
    return worker


def at_work(own, name):
    workers = own.cli("worker", "list", "-o", "json").ok().json["workers"]
    return any(w["task"] for w in workers if w["name"] == f"workers/{name}")


def wide_job(rounds, units=600, **sections):
    """A job whose values take several chunks."""
    model = {
        "input_features": 64,
        "layers": [{"linear": {"units": units, "activation": "relu"}}, {"linear": {"units": 10}}],
    }
    data = digits_job()["data"] | {"partition": {"kind": "iid", "shards": 1}}
    method = {"name": "set", "parameters": {"density": 0.9}}
    return digits_job(rounds, model=model, data=data, method=method, **sections)


class FrameDamage:
    """A proxy that inverts bytes of the frames in which a worker sends bodies, one in every fourth frame."""

    FRAME = b"\x00\x40\x00\x00\x00"  # HTTP/2: 16 KiB, DATA, no flags

    def __init__(self, target, places):
        self._target = target.rsplit(":", 1)
        self.places = list(places)  # counted from the frame's first byte
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            near, _ = self._server.accept()
            far = socket.create_connection((self._target[0], int(self._target[1])))
            for one, other, up in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pump, args=(one, other, up), daemon=True).start()

    def _pump(self, source, sink, up):
        frames = 0
        try:
            while data := bytearray(source.recv(65536)):
                begin = data.find(self.FRAME) if up and self.places else -1
                if 0 <= begin < len(data) - 32:
                    frames += 1
                    if frames % 4 == 0:
                        data[begin + self.places.pop(0)] ^= 0xFF
                sink.sendall(data)
        except OSError:
            pass  # the other direction has ended the connection
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class DamageTest(unittest.TestCase):
    # Offsets in the stream of a connection; between two of them there is more than a round.
    FLIPS = (150_000, 450_000, 800_000, 1_200_000)

    def test_damaged_bytes_change_nothing(self):
        own = self.enterContext(cluster.Cluster(workers=1))
        job = wide_job(rounds=12)
        undisturbed = own.run(job)["model_hash"]
        own.workers["w1"].send(signal.SIGTERM)
        own.workers["w1"].wait()
        address = own.address
        for offset in self.FLIPS:  # each on its way through all of them
            up = Link(flip_at=offset, first_connections=1)
            down = Link(flip_at=offset + 50_000, first_connections=1)
            address = self.enterContext(ChaosProxy(address, up=up, down=down)).address
        worker = start_worker(own, "w2", coordinator=address)
        self.assertEqual(undisturbed, own.run(job)["model_hash"])
        damaged = worker.errors().count(" transfer_damaged ")
        # A byte of a frame's header breaks the connection instead.
        self.assertGreaterEqual(damaged, len(self.FLIPS), worker.errors())
        self.assertNotIn("task_failed", worker.errors())


    def test_damaged_frames_change_nothing(self):
        own = self.enterContext(cluster.Cluster(workers=1))
        job = wide_job(rounds=8)
        undisturbed = own.run(job)["model_hash"]
        own.workers["w1"].send(signal.SIGTERM)
        own.workers["w1"].wait()
        # Length, type, flags and stream of the frame, then what is inside.
        proxy = FrameDamage(own.address, places=(0, 3, 4, 8, 1, 5, 13, 22))
        worker = start_worker(own, "w2", coordinator=proxy.address)
        self.assertEqual(undisturbed, own.run(job)["model_hash"])
        self.assertEqual([], proxy.places)
        self.assertNotIn("task_failed", worker.errors())


class BrokenTest(unittest.TestCase):
    def test_rows_22_and_33_a_broken_upload_goes_on_where_it_was(self):
        own = self.enterContext(cluster.Cluster(workers=1))
        job = wide_job(2, units=16_000)
        undisturbed = own.run(job)["model_hash"]
        own.workers["w1"].send(signal.SIGTERM)
        own.workers["w1"].wait()
        # Of an update of 4.3 MB most has been sent then.
        up = Link(cut_after=3_000_000, first_connections=1)
        proxy = self.enterContext(ChaosProxy(own.address, up=up))
        start_worker(own, "w2", coordinator=proxy.address)
        self.assertEqual(undisturbed, own.run(job)["model_hash"])
        offsets = re.findall(r" upload_goes_on .*offset=(\d+)", own.coordinator.errors())
        self.assertGreater(max(map(int, offsets), default=0), 1_000_000)
        self.assertEqual([], list((own.folder / "data" / "spool").iterdir()))


class BombTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        shutil.copytree(cluster.DATA / "digits", cls.root / "digits")
        (cls.root / "bomb").mkdir()
        # 400 million rows in 1.6 MB.
        block = gzip.compress(b"1,0\n" * (4 * MEGABYTE))
        (cls.root / "bomb/train.csv.gz").write_bytes(block * 100)
        cls.job = digits_job(
            1,
            model={"input_features": 1, "layers": [{"linear": {"units": 2}}]},
            data={"dataset": "bomb", "partition": {"kind": "iid", "shards": 1}},
            method={"name": "dense"},
        )

    def start(self, *arguments):
        own = self.enterContext(cluster.Cluster())
        worker = start_worker(own, "w1", data_root=self.root, arguments=arguments)
        return own, worker

    def load_bomb(self, own):
        name = own.submit(self.job)["name"]
        eventually("w1 reads it", lambda: at_work(own, "w1"))
        return name

    def test_worker_starts_beside_it_and_leaves_it_when_told_twice(self):
        begin = time.monotonic()
        own, worker = self.start()
        self.assertLess(time.monotonic() - begin, 30)
        name = self.load_bomb(own)
        own.cli("job", "cancel", name).ok()
        begin = time.monotonic()
        own.run(digits_job(1))
        self.assertLess(time.monotonic() - begin, 15)
        self.load_bomb(own)
        worker.send(signal.SIGTERM)
        eventually("it would end its task first", lambda: " worker_leaves " in worker.errors())
        worker.send(signal.SIGTERM)
        self.assertEqual(0, worker.wait(5))

    def test_worker_says_its_limit(self):
        own, worker = self.start("--max-dataset-bytes", "20MB")
        job = own.wait_state(own.submit(self.job)["name"], "FAILED")
        for word in ("bomb/train.csv.gz", "20000000", "--max-dataset-bytes"):
            self.assertIn(word, job["failure_message"])
        peak = own.cli("worker", "list", "-o", "json").ok().json["workers"][0]["resident_bytes"]
        self.assertLess(int(peak), 300 * MEGABYTE)
        own.run(digits_job(1))

    def test_worker_is_stopped_while_it_looks_at_its_data(self):
        own = self.enterContext(cluster.Cluster())
        many = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        for i in range(12):
            shutil.copytree(self.root / "bomb", many / f"bomb-{i}")
        arguments = ["--coordinator", own.address, "--data-root", many]
        with Process("espalier-worker", arguments, own.folder / "w1.log") as worker:
            eventually("it reads", lambda: "dataset_not_counted" in worker.errors())
            worker.send(signal.SIGTERM)
            self.assertEqual(0, worker.wait(5))


class MemoryTest(unittest.TestCase):
    def run_beside_large(self, batch_size):
        """The cluster, and what the small worker says of a job that the large one ends."""
        own = self.enterContext(cluster.Cluster())
        limit = ("/usr/bin/prlimit", "--as=300000000")
        small = start_worker(own, "small", prefix=limit)
        job = wide_job(2, units=1000)
        job["training"]["batch_size"] = batch_size
        name = own.submit(job)["name"]
        eventually("it does not fit", lambda: "OUT_OF_MEMORY" in small.errors())
        start_worker(own, "large")
        done = own.wait_state(name, "SUCCEEDED", "FAILED", seconds=60)
        if done["state"] == "FAILED":  # before the large one came
            done = own.wait_state(own.submit(job)["name"], "SUCCEEDED", "FAILED", seconds=60)
        self.assertEqual("SUCCEEDED", done["state"], done["failure_message"])
        self.assertTrue(small.running())
        large = own.folder / "large.log"
        self.assertNotIn("OUT_OF_MEMORY", large.read_text())
        return own, small.errors()

    def test_task_that_does_not_fit_goes_to_a_larger_worker(self):
        own, said = self.run_beside_large(batch_size=10_000)
        for word in ("batches of 10000", "300.0 MB (RLIMIT_AS)", "'digits'", "are in use"):
            self.assertIn(word, said)
        own.run(digits_job(1))

    def test_control_group_does_not_kill_the_worker(self):
        group = pathlib.Path(f"/sys/fs/cgroup/memory/espalier-{os.getpid()}")
        try:
            group.mkdir()
        except OSError:
            self.skipTest("needs a control group of its own, version 1")
        self.addCleanup(group.rmdir)
        (group / "memory.limit_in_bytes").write_text(str(100 * MEGABYTE))
        enter = ("/bin/sh", "-c", f'echo $$ >{group}/cgroup.procs; exec "$@"', "sh")
        own = self.enterContext(cluster.Cluster())
        worker = start_worker(own, "small", prefix=enter)
        job = wide_job(1, units=1000)
        job["training"]["batch_size"] = 9_000
        done = own.wait_state(own.submit(job)["name"], "FAILED")
        self.assertEqual("OUT_OF_MEMORY", done["failure_reason"])
        self.assertIn("(the control group)", done["failure_message"])
        self.assertNotIn("not begun", done["failure_message"])
        own.run(digits_job(1))
        self.assertTrue(worker.running())
        worker.kill()

    def test_task_beyond_the_limit_is_not_begun(self):
        _, said = self.run_beside_large(batch_size=60_000)
        self.assertIn("not begun", said)


class LibraryTest(unittest.TestCase):
    def test_worker_trains_to_the_end_when_onednn_fails(self):
        job = digits_job(3, method={"name": "dense"})
        for fault in ("create:1", "create:3", "execute:1", "execute:50"):
            with self.subTest(fault), unittest.mock.patch.dict(os.environ, ESPALIER_FAULT_ONEDNN=fault):
                own = self.enterContext(cluster.Cluster(workers=1))
                worker = own.workers["w1"]
                done = own.run(job)
                self.assertGreater(done["history"][-1]["test_accuracy"], 0.5)
                self.assertTrue(worker.running())
                self.assertEqual(1, worker.errors().count(" onednn_failed "))
                with urllib.request.urlopen(f"http://{worker.metrics}/metrics") as page:
                    text = page.read().decode()
                counted = [line for line in text.splitlines() if "onednn_failures_total " in line]
                self.assertGreater(float(counted[-1].split()[1]), 0)


if __name__ == "__main__":
    unittest.main()
