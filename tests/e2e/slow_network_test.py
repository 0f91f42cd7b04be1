"""Networks that are slow to answer: everything works with 600 ms of delay in each direction, with TLS,
too; what is only in the way for a while is tried again; what will stay is said at once.
"""

import pathlib
import socket
import sys
import tempfile
import time
import unittest

import cluster
from cluster import digits_job, espalier, eventually
from tls_test import make_authority, make_certificate

SUPPORT = pathlib.Path(__file__).parents[1] / "support"
sys.path.insert(0, str(SUPPORT))
from chaos_proxy import ChaosProxy, Link  # noqa: E402  # pylint: disable=wrong-import-position

UNAVAILABLE = 6
DELAY_S = 0.6


def slow(address):
    return ChaosProxy(address, up=Link(delay=DELAY_S), down=Link(delay=DELAY_S))


class SlowNetworkTest(unittest.TestCase):
    def run_job(self, own, proxy, tls=(), worker=()):
        """A job through the proxy: the command and the worker are both behind it."""
        own.worker_behind(proxy.address, worker)
        done = espalier(
            *tls,
            *("job", "submit", own.file(digits_job(rounds=2)), "--wait", "-o", "json"),
            *("--timeout", "100s"),
            server=proxy.address,
            seconds=120,
        )
        self.assertEqual("SUCCEEDED", done.ok().json["state"])
        begin = time.monotonic()
        espalier(*tls, "worker", "list", "--timeout", "30s", server=proxy.address).ok()
        self.assertGreater(time.monotonic() - begin, 2 * DELAY_S, "the proxy delays")

    def test_plain_text(self):
        with DelayedCluster() as own, slow(own.address) as proxy:
            self.run_job(own, proxy)

    def test_tls(self):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        make_authority(folder, "ca")
        make_certificate(folder, "ca", "server", "DNS:localhost,IP:127.0.0.1")
        make_certificate(folder, "ca", "ada", "URI:espalier://submitter/ada")
        make_certificate(folder, "ca", "far", "URI:espalier://worker/far")
        server = ("--tls-cert", folder / "server.crt", "--tls-key", folder / "server.key")

        def files(prefix, name):
            return (f"--{prefix}ca", folder / "ca.crt", f"--{prefix}cert", folder / f"{name}.crt",
                    f"--{prefix}key", folder / f"{name}.key")  # fmt: skip

        with DelayedCluster(
            coordinator=(*server, "--tls-client-ca", folder / "ca.crt")
        ) as own, slow(own.address) as proxy:
            self.run_job(own, proxy, tls=files("", "ada"), worker=files("tls-", "far"))


class DelayedCluster(cluster.Cluster):
    def worker_behind(self, address, arguments):
        worker = self.enter_context(
            cluster.Process(
                "espalier-worker",
                ["--coordinator", address, "--id", "far", "--data-root", cluster.DATA, *arguments],
                self.folder / "far.log",
            )
        )
        eventually("the worker registers", lambda: " registered " in worker.errors())


def unwilling(address, refusals=None):
    """A proxy that ends its first connections at once, as an overloaded machine does; None: all."""
    return ChaosProxy(address, down=Link(cut_after=0, first_connections=refusals))


class AttemptsTest(unittest.TestCase):
    def test_command_tries_again_until_a_connection_comes_about(self):
        with cluster.Cluster() as own, unwilling(own.address, refusals=8) as proxy:
            espalier("worker", "list", "--timeout", "25s", server=proxy.address).ok()
            self.assertGreater(proxy.accepted, 8)

    def test_command_ends_by_its_timeout_when_none_does(self):
        with cluster.Cluster() as own, unwilling(own.address) as proxy:
            begin = time.monotonic()
            result = espalier("worker", "list", "--timeout", "3s", server=proxy.address)
            self.assertEqual(UNAVAILABLE, result.code, result.err)
            self.assertGreater(time.monotonic() - begin, 2)
            self.assertLess(time.monotonic() - begin, 6)

    def test_job_is_created_once_however_often_it_is_sent(self):
        with cluster.Cluster() as own, unwilling(own.address, refusals=4) as proxy:
            espalier("job", "submit", own.file(digits_job()), server=proxy.address).ok()
            self.assertEqual(1, len(own.cli("job", "list").ok().out.splitlines()))

    def test_nobody_there_is_said_at_once(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        for host in ("127.0.0.1", "localhost", "[::1]"):
            begin = time.monotonic()
            result = espalier("worker", "list", "--timeout", "30s", server=f"{host}:{port}")
            self.assertEqual(UNAVAILABLE, result.code, result.err)
            self.assertIn("espalier up", result.err)
            self.assertLess(time.monotonic() - begin, 5)

    def test_a_burst_of_connections_costs_no_command_its_answer(self):
        with cluster.Cluster() as own:
            host, port = own.address.split(":")
            burst = [socket.create_connection((host, int(port)), 10) for _ in range(300)]
            try:
                own.cli("worker", "list", "--timeout", "25s").ok()
            finally:
                for connection in burst:
                    connection.close()


class AddressTest(unittest.TestCase):
    def test_loopback_never_uses_a_proxy(self):
        proxies = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "grpc_proxy")}
        with cluster.Cluster() as own:
            own.cli("worker", "list", **proxies).ok()

    def test_proxy_is_named_elsewhere(self):
        result = espalier(
            "worker",
            "list",
            "--insecure",
            "--timeout",
            "10s",
            server="coordinator.invalid:7070",
            http_proxy="http://127.0.0.1:9",
        )
        self.assertEqual(UNAVAILABLE, result.code, result.err)
        self.assertIn("http_proxy", result.err)
        self.assertIn("no_proxy", result.err)

    def test_ipv6_works(self):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        coordinator = self.enterContext(
            cluster.Process(
                "espalier-coordinator",
                ["--listen", "[::1]:0", "--metrics-listen", "127.0.0.1:0", "--data-dir", folder],
                folder / "log",
            )
        )
        address = cluster.words(coordinator.line())["address"]
        espalier("worker", "list", server=address).ok()

    def test_what_is_no_address_is_refused_at_once_with_the_right_form(self):
        for address in ("http://127.0.0.1:7070", "127.0.0.1", "127.0.0.1:", ":7070", "a:99999", "a:b"):
            with self.subTest(address):
                result = espalier("worker", "list", server=address)
                self.assertEqual(2, result.code, result.err)
                self.assertIn("host:port", result.err)
                folder = self.enterContext(tempfile.TemporaryDirectory())
                with cluster.Process(
                    "espalier-worker",
                    ["--coordinator", address, "--data-root", cluster.DATA],
                    pathlib.Path(folder) / "log",
                ) as worker:
                    self.assertEqual(78, worker.wait(10))
                    self.assertIn("host:port", worker.errors())


if __name__ == "__main__":
    unittest.main()
