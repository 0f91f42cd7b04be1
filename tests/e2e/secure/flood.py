"""Strangers: thousands of connections that are kept open, each of which does too little.

Kinds: `idle` sends nothing; `drip` a TLS ClientHello, a byte in each half second; `half` a whole ClientHello and
nothing after the server's answer, which costs the server a signature; `preface` speaks HTTP/2 without TLS, its settings and
then nothing.
"""

import itertools
import select
import socket
import ssl
import threading
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
TICK_S = 0.5


def client_hello():
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2"])
    out = ssl.MemoryBIO()
    stranger = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    try:
        stranger.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


class _Peer:
    def __init__(self, kind, fd):
        self.kind, self.socket, self.sent = kind, fd, 0


class Flood:
    """Keeps `kinds`, as {"idle": 5000}, connections to `address` open from the given addresses of this machine,
    until the context ends; opens at most `rate` a second, those included that the server has ended."""

    def __init__(self, address, kinds, sources=("127.0.0.66",), rate=1000):
        host, port = address.rsplit(":", 1)
        self._to = (host, int(port))
        self._missing = dict(kinds)
        self._wanted = sum(kinds.values())
        self._sources = itertools.cycle(sources)
        self._per_tick = int(rate * TICK_S)
        self._hello = client_hello()
        self._peers = {}
        self._poll = select.epoll()
        self._stop = threading.Event()
        self._full = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.opened = self.ended = 0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        for peer in self._peers.values():
            peer.socket.close()
        self._poll.close()

    def wait_until_full(self, seconds=60):
        """Until as many were opened as there are to be, whatever became of them."""
        if not self._full.wait(seconds):
            raise AssertionError(f"only {self.opened} connections were opened")

    def open_now(self):
        return len(self._peers)

    def _run(self):
        while not self._stop.is_set():
            begin = time.monotonic()
            self._open_missing()
            for peer in list(self._peers.values()):
                if peer.kind == "drip":
                    self._send(peer, self._hello[peer.sent : peer.sent + 1])
            # Connections that answer or end.
            while (left := begin + TICK_S - time.monotonic()) > 0 and not self._stop.is_set():
                for fd, _ in self._poll.poll(left, 1024):
                    self._hear(self._peers[fd])

    def _open_missing(self):
        # Each kind in turn, so that refusals of one do not keep another one out.
        for _ in range(self._per_tick):
            kinds = [kind for kind, count in self._missing.items() if count > 0]
            if not kinds:
                break
            self._open(kinds[self.opened % len(kinds)])
        if self.opened >= self._wanted:
            self._full.set()

    def _open(self, kind):
        stranger = socket.socket()
        stranger.setblocking(False)
        # The port is chosen when it connects, so that there are enough.
        stranger.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        stranger.bind((next(self._sources), 0))
        self.opened += 1
        self._missing[kind] -= 1
        try:
            stranger.connect(self._to)
        except BlockingIOError:
            pass
        except OSError:
            stranger.close()
            self._missing[kind] += 1
            self.ended += 1
            return
        peer = self._peers[stranger.fileno()] = _Peer(kind, stranger)
        self._poll.register(stranger, select.EPOLLIN | select.EPOLLRDHUP)
        if kind in ("half", "preface"):
            self._send(peer, self._hello if kind == "half" else PREFACE)

    def _send(self, peer, data):
        try:
            peer.sent += peer.socket.send(data)
        except OSError:  # its end is heard of, or there is no connection yet
            pass

    def _hear(self, peer):
        try:
            data = peer.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            return
        self._poll.unregister(peer.socket)
        del self._peers[peer.socket.fileno()]
        peer.socket.close()
        self.ended += 1
        self._missing[peer.kind] += 1
