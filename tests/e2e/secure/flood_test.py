"""Strangers in masses: workers, commands and jobs beside them do not notice, with the edge proxy and without it.

Prints what a job took beside each flood, and what memory the coordinator had: the numbers in docs/operations/limits.md.
ESPALIER_FLOOD=500 makes it ten times smaller.
"""

import os
import pathlib
import resource
import shutil
import socket
import sys
import time
import unittest
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

# pylint: disable=wrong-import-position
import cluster  # noqa: E402
from cluster import digits_job, eventually  # noqa: E402
from flood import Flood  # noqa: E402
from security import Secured  # noqa: E402

IDLE = int(os.environ.get("ESPALIER_FLOOD", "5000"))
SLOW = IDLE // 10
JOB = digits_job(200)
# Generous: a worker's connection, a job and the flood's own program are on the same two cores.
JOB_S = 200
MEMORY_MB = 160
# Longer than a coordinator would need to take a flood for its own death: three probes, ten seconds each.
WHILE_S = 40
EDGE_S = 15
MANY = [f"127.0.1.{i}" for i in range(1, 201)]
EDGE = cluster.SOURCE / "deploy/edge/haproxy.cfg"


def setUpModule():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < IDLE + 4 * SLOW + 1000:
        raise unittest.SkipTest(f"a hard limit of {hard} open files is not enough for {IDLE} connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def resident_mb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024


def page(address, path="/metrics"):
    with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
        return answer.read().decode()


def total(address, name, label=""):
    """The sum of a metric's series whose labels contain `label`."""
    lines = [line for line in page(address).splitlines() if line.startswith(name) and label in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


class FloodTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with cluster.Cluster(1) as other:
            cls.undisturbed = other.run(JOB)["model_hash"]

    def start(self, *arguments, edge=False):
        own = self.enterContext(Secured(*arguments))
        if edge:
            own.address, own.edge = self.start_edge(own)
        own.workers = {name: own.add_worker(name) for name in ("w1", "w2", "w3")}
        return own

    def start_edge(self, own):
        """HAProxy with the configuration of deploy/edge in front of the cluster: its address, and that of its metrics."""
        program = shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin")
        if program is None:
            raise unittest.SkipTest("haproxy is not installed (cmake/deps/install.sh --test)")
        address, metrics = (f"127.0.0.1:{free_port()}" for _ in range(2))
        settings = {
            "ESPALIER_EDGE_LISTEN": address,
            "ESPALIER_EDGE_COORDINATOR": own.address,
            "ESPALIER_EDGE_METRICS": metrics,
        }
        proxy = cluster.Process(
            program, ["-db", "-f", EDGE], own.folder / "edge.log", env=os.environ | settings
        )
        self.enterContext(proxy)

        def answers():
            self.assertTrue(proxy.running(), proxy.errors())
            try:
                return page(metrics, "/health")
            except OSError:
                return None

        eventually("the proxy answers", answers)
        return address, metrics

    def timed(self, own):
        begin = time.monotonic()
        name = own.cli("job", "submit", own.file(JOB), "-o", "json").ok().json["name"]

        def ended():
            job = own.cli("job", "get", name, "-o", "json").ok().json
            return job if job["state"] in ("SUCCEEDED", "FAILED") else None

        job = eventually("the job ends", ended, JOB_S)
        self.assertEqual("SUCCEEDED", job["state"], job)
        self.assertEqual(self.undisturbed, job["model_hash"])
        return time.monotonic() - begin

    def unharmed_by(self, flood, own, what, seconds=WHILE_S):
        """A job without the flood, then one beside it, and people who come anew for so long at least."""
        before = resident_mb(own.coordinator.pid)
        quiet = self.timed(own)
        with flood:
            flood.wait_until_full()
            begin = time.monotonic()
            busy = self.timed(own)
            memory = resident_mb(own.coordinator.pid)
            waits = []
            while time.monotonic() < begin + seconds:
                at = time.monotonic()
                own.cli("worker", "list").ok()
                waits.append(time.monotonic() - at)
                memory = max(memory, resident_mb(own.coordinator.pid))
                time.sleep(1)
            opened, ended = flood.opened, flood.ended
        print(
            f"{what}: {opened} connections opened, {ended} of them ended meanwhile; a job of {JOB['federation']['rounds']} "
            f"rounds {quiet:.1f} s without, {busy:.1f} s beside; a command {max(waits):.1f} s at most; "
            f"{before:.0f} MB before, {memory:.0f} MB at most",
            file=sys.stderr,
        )
        self.assertLess(memory - before, MEMORY_MB)
        self.assertTrue(own.coordinator.running())
        self.assertEqual(0, total(own.metrics, "espalier_self_probe_failures_total"))
        for name, worker in own.workers.items():
            self.assertEqual("ACTIVE", own.worker(name).get("state"))
            self.assertEqual(1, worker.errors().count(" registered "), worker.errors())

    def refused(self, own, reason):
        return total(own.metrics, "espalier_connections_refused_total", f'"{reason}"')

    def test_idle_connections_and_slow_handshakes_of_one_source(self):
        own = self.start()
        kinds = {"idle": IDLE, "drip": SLOW, "half": SLOW}
        self.unharmed_by(Flood(own.address, kinds), own, "direct, one source")
        self.assertGreater(self.refused(own, "source"), 0)
        self.assertEqual(0, self.refused(own, "limit"))

    def test_idle_connections_and_slow_handshakes_of_many_sources(self):
        own = self.start()
        kinds = {"idle": IDLE, "drip": SLOW, "half": SLOW}
        self.unharmed_by(Flood(own.address, kinds, MANY), own, "direct, 200 sources")
        self.assertEqual(0, self.refused(own, "source"))

    def test_the_same_through_the_edge(self):
        own = self.start(edge=True)
        kinds = {"idle": IDLE, "drip": SLOW, "half": SLOW}
        self.unharmed_by(Flood(own.address, kinds), own, "edge, one source", EDGE_S)
        refused = total(own.edge, "haproxy_frontend_denied_connections_total", '"api"')
        self.assertGreater(refused, 0)
        handed_on = total(own.edge, "haproxy_backend_sessions_total", '"coordinator"')
        self.unharmed_by(Flood(own.address, kinds, MANY), own, "edge, 200 sources", EDGE_S)
        # Of sources that keep within their limits, whole handshakes alone come through.
        again = total(own.edge, "haproxy_backend_sessions_total", '"coordinator"') - handed_on
        self.assertGreater(again, SLOW / 2)
        self.assertLess(again, IDLE)
        # The coordinator, to which all of them are of one source, has refused none.
        self.assertEqual(0, self.refused(own, "source") + self.refused(own, "limit"))


if __name__ == "__main__":
    unittest.main()
