"""The proxy that other tests disturb connections with does what it says."""

import pathlib
import socket
import subprocess
import sys
import threading
import time
import unittest

SUPPORT = pathlib.Path(__file__).parents[1] / "support"
sys.path.insert(0, str(SUPPORT))

from chaos_proxy import ChaosProxy, Link  # noqa: E402  # pylint: disable=wrong-import-position

DEADLINE_S = 20
DATA = bytes(range(256)) * 40


class Echo:
    """A server that sends back what it is sent."""

    def __enter__(self):
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    @staticmethod
    def _answer(connection):
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                pass


def receive(connection, size):
    """So many bytes, or what came before the end."""
    data = b""
    while len(data) < size and (part := connection.recv(size - len(data))):
        data += part
    return data


class ChaosProxyTest(unittest.TestCase):
    def setUp(self):
        self.echo = self.enterContext(Echo())

    def connect(self, *links, **options):
        proxy = self.enterContext(ChaosProxy(self.echo.address, *links, **options))
        return proxy, self.dial(proxy.address)

    def dial(self, address):
        host, port = address.rsplit(":", 1)
        return self.enterContext(socket.create_connection((host, int(port)), timeout=DEADLINE_S))

    def test_bytes_pass_as_they_are_and_the_end_passes_too(self):
        _, near = self.connect()
        near.sendall(DATA)
        near.shutdown(socket.SHUT_WR)
        self.assertEqual(DATA, receive(near, len(DATA)))
        self.assertEqual(b"", near.recv(1))

    def test_delay_is_added_once_in_each_direction(self):
        _, near = self.connect(Link(delay=0.2), Link(delay=0.1))
        start = time.monotonic()
        near.sendall(DATA)
        self.assertEqual(DATA, receive(near, len(DATA)))
        self.assertGreaterEqual(time.monotonic() - start, 0.3)

    def test_jitter_keeps_the_order(self):
        _, near = self.connect(Link(jitter=0.02), Link(jitter=0.02), seed=7)
        for i in range(0, len(DATA), 1024):
            near.sendall(DATA[i : i + 1024])
        self.assertEqual(DATA, receive(near, len(DATA)))

    def test_rate_is_kept(self):
        _, near = self.connect(Link(rate=20_000))
        start = time.monotonic()
        near.sendall(DATA)
        self.assertEqual(DATA, receive(near, len(DATA)))
        self.assertGreaterEqual(time.monotonic() - start, 0.4)

    def test_connection_is_cut_after_so_many_bytes(self):
        _, near = self.connect(None, Link(cut_after=1000))
        near.sendall(DATA)
        self.assertEqual(DATA[:1000], receive(near, len(DATA)))

    def test_cut_may_be_a_reset(self):
        _, near = self.connect(Link(cut_after=1000, reset=True))
        near.sendall(DATA)
        with self.assertRaises(ConnectionResetError):
            receive(near, len(DATA))

    def test_one_byte_is_flipped_in_the_first_connection_only(self):
        proxy, near = self.connect(Link(flip_at=500, first_connections=1))
        near.sendall(DATA)
        expected = bytearray(DATA)
        expected[500] ^= 0xFF
        self.assertEqual(bytes(expected), receive(near, len(DATA)))
        second = self.dial(proxy.address)
        second.sendall(DATA)
        self.assertEqual(DATA, receive(second, len(DATA)))

    def test_half_open_connection_stays_open_and_says_nothing(self):
        _, near = self.connect(Link(hold_after=300))
        near.sendall(DATA)
        self.assertEqual(DATA[:300], receive(near, 300))
        near.settimeout(0.2)
        with self.assertRaises(socket.timeout):
            near.recv(1)

    def test_what_was_stopped_goes_on(self):
        proxy, near = self.connect()
        proxy.stop()
        near.sendall(DATA)
        near.settimeout(0.2)
        with self.assertRaises(socket.timeout):
            near.recv(1)
        near.settimeout(DEADLINE_S)
        proxy.resume()
        self.assertEqual(DATA, receive(near, len(DATA)))

    def test_all_connections_are_cut_on_demand_and_new_ones_pass(self):
        proxy, near = self.connect()
        near.sendall(b"x")
        self.assertEqual(b"x", receive(near, 1))
        proxy.cut()
        self.assertEqual(b"", near.recv(1))
        again = self.dial(proxy.address)
        again.sendall(b"y")
        self.assertEqual(b"y", receive(again, 1))

    def test_command_takes_the_same_options(self):
        command = [sys.executable, SUPPORT / "chaos_proxy.py", "--to", self.echo.address,
                   "--down-cut-after", "10"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
            try:
                near = self.dial(proxy.stdout.readline().split("address=")[1].strip())
                near.sendall(DATA)
                self.assertEqual(DATA[:10], receive(near, len(DATA)))
            finally:
                proxy.kill()


if __name__ == "__main__":
    unittest.main()
