#!/usr/bin/env python3
"""A TCP proxy between two programs that makes their network a bad one: slow, damaged, cut, half-open.

As a library, for tests:

    with ChaosProxy("127.0.0.1:7070", up=Link(delay=0.15), down=Link(cut_after=100_000)) as proxy:
        connect_to(proxy.address)
        proxy.stop()      # nothing moves in either direction any more, connections stay open
        proxy.resume()
        proxy.cut(reset=True)

As a command: `chaos_proxy.py --listen 127.0.0.1:0 --to HOST:PORT --up-delay 0.15 --down-rate 16000`; it
prints `proxy address=HOST:PORT` and runs until it is killed.

"up" is the direction from whoever connected to the target, "down" the way back. Byte offsets count in
each connection and direction from 0. The same seed gives the same jitter to the same connection, counted
in the order of accepting.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import random
import socket
import struct
import threading
import typing

_BLOCK_BYTES = 64 * 1024
# What may be under way in one direction of a connection: enough for 1 s of delay at 32 Mbit/s.
_IN_FLIGHT_BYTES = 4 * 1024 * 1024
# A limited rate is kept in steps of this length.
_RATE_STEP_S = 0.02


@dataclasses.dataclass
class Link:
    """What happens to the bytes of one direction. Durations in seconds, offsets and sizes in bytes."""

    delay: float = 0  # one-way latency of every byte; the order is kept
    jitter: float = 0  # up to this much more, by the seed
    rate: typing.Optional[float] = None  # bytes per second
    cut_after: typing.Optional[int] = None  # the connection ends, both ways, after so many bytes
    reset: bool = False  # a cut sends RST instead of FIN
    flip_at: typing.Optional[int] = None  # the byte at this offset arrives with its bits inverted
    hold_after: typing.Optional[int] = None  # half-open: nothing moves after so many bytes
    first_connections: typing.Optional[int] = None  # cut, flip and hold only so many; None: all


class _Cut(Exception):
    """The connection is to be ended now."""


class _Direction:
    """One direction of one connection."""

    def __init__(self, proxy, link, number, name, reader, writer):
        self._proxy = proxy
        self._link = link
        self._afflicted = link.first_connections is None or number < link.first_connections
        self._random = random.Random(f"{proxy.seed}/{number}/{name}")
        self._reader = reader
        self._writer = writer
        self._queue = asyncio.Queue()
        self._in_flight = 0
        self._room = asyncio.Event()
        self._room.set()
        self._offset = 0
        self._may_send_at = 0.0

    async def run(self):
        receiving = asyncio.ensure_future(self._receive())
        try:
            await self._send()
        finally:
            receiving.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await receiving

    async def _receive(self):
        loop = asyncio.get_running_loop()
        due = 0.0
        while True:
            await self._proxy.moving.wait()
            await self._room.wait()
            try:
                data = await self._reader.read(_BLOCK_BYTES)
            except OSError:
                await self._queue.put((0.0, None))
                return
            late = self._link.delay + self._link.jitter * self._random.random()
            due = max(due, loop.time() + late)
            self._in_flight += len(data)
            if self._in_flight >= _IN_FLIGHT_BYTES:
                self._room.clear()
            await self._queue.put((due, data))
            if not data:
                return

    async def _send(self):
        loop = asyncio.get_running_loop()
        while True:
            due, data = await self._queue.get()
            if data is None:
                raise _Cut
            await asyncio.sleep(max(0.0, due - loop.time()))
            await self._proxy.moving.wait()
            if not data:
                if self._holds_at(self._offset):
                    await asyncio.Event().wait()
                self._writer.write_eof()
                return
            for piece in self._pieces(data):
                await self._deliver(piece)
            self._in_flight -= len(data)
            if self._in_flight < _IN_FLIGHT_BYTES:
                self._room.set()

    def _pieces(self, data):
        """The data in pieces that end where something is to happen."""
        step = len(data)
        if self._link.rate is not None:
            step = max(1, int(self._link.rate * _RATE_STEP_S))
        marks = [self._link.cut_after, self._link.hold_after] if self._afflicted else []
        while data:
            end = min(len(data), step)
            for mark in marks:
                if mark is not None and 0 < mark - self._offset < end:
                    end = mark - self._offset
            yield data[:end]
            # Meanwhile the piece was delivered, and _offset moved on with it.
            data = data[end:]

    def _holds_at(self, offset):
        mark = self._link.hold_after
        return self._afflicted and mark is not None and offset >= mark

    async def _deliver(self, piece):
        loop = asyncio.get_running_loop()
        if self._holds_at(self._offset):
            await asyncio.Event().wait()
        if self._afflicted and self._link.cut_after is not None:
            if self._offset >= self._link.cut_after:
                raise _Cut
        flip = self._link.flip_at
        if self._afflicted and flip is not None and 0 <= flip - self._offset < len(piece):
            damaged = bytearray(piece)
            damaged[flip - self._offset] ^= 0xFF
            piece = bytes(damaged)
        if self._link.rate is not None:
            await asyncio.sleep(max(0.0, self._may_send_at - loop.time()))
            self._may_send_at = max(self._may_send_at, loop.time()) + len(piece) / self._link.rate
        await self._proxy.moving.wait()
        self._writer.write(piece)
        await self._writer.drain()
        self._offset += len(piece)
        if self._afflicted and self._offset == self._link.cut_after:
            raise _Cut


class ChaosProxy:
    """The proxy; it serves from `start` to `close`, or within a `with`, on a thread of its own."""

    def __init__(self, target, up=None, down=None, seed=0, listen="127.0.0.1:0"):
        self.up = up or Link()
        self.down = down or Link()
        self.seed = seed
        self.address = None  # "host:port" once it has started
        self.accepted = 0
        self.moving = None  # set unless stopped; of the proxy's own loop
        self._target = self._host_and_port(target)
        self._listen = self._host_and_port(listen)
        self._open = set()  # pairs of writers
        self._server = None
        self._thread = None
        self._loop = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.close()

    def start(self):
        started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, args=(started,), daemon=True)
        self._thread.start()
        started.wait()
        if self.address is None:
            raise OSError(f"expected to listen on {self._listen}, found it in use or not ours")

    def close(self):
        """Ends all connections and stops listening."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def stop(self):
        """Nothing moves any more, in either direction; connections stay open, new ones are accepted."""
        self._call(self.moving.clear)

    def resume(self):
        self._call(self.moving.set)

    def cut(self, reset=False):
        """Ends all connections that are open now; new ones are accepted."""
        self._call(lambda: [self._end(pair, reset) for pair in list(self._open)])

    @property
    def open(self):
        """How many connections are open now."""
        return len(self._open)

    @staticmethod
    def _host_and_port(address):
        host, _, port = address.rpartition(":")
        return host.strip("[]"), int(port)

    def _call(self, action):
        """Runs it on the proxy's thread, to its end."""
        done = threading.Event()

        def run():
            action()
            done.set()

        self._loop.call_soon_threadsafe(run)
        done.wait()

    def _serve(self, started):
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._begin())
        finally:
            started.set()
        self._loop.run_forever()
        if self._server is not None:
            self._server.close()
        # Ending the connections ends their tasks one after the other.
        while tasks := asyncio.all_tasks(self._loop):
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.wait(tasks))
        self._loop.close()

    async def _begin(self):
        self.moving = asyncio.Event()
        self.moving.set()
        self._server = await asyncio.start_server(self._connected, *self._listen, backlog=1024)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def _connected(self, reader, writer):
        number = self.accepted
        self.accepted += 1
        with contextlib.suppress(asyncio.CancelledError):  # the proxy closes
            await self._forward(number, reader, writer)

    async def _forward(self, number, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            self._end((writer,), reset=True)
            return
        pair = (writer, far_writer)
        self._open.add(pair)
        up = _Direction(self, self.up, number, "up", reader, far_writer)
        down = _Direction(self, self.down, number, "down", far_reader, writer)
        both = [
            asyncio.ensure_future(self._run(way, link)) for way, link in ((up, self.up), (down, self.down))
        ]
        reset = False
        try:
            for finished in asyncio.as_completed(both):
                ended = await finished
                if ended is not None:
                    reset = ended
                    break
        finally:
            self._end(pair, reset)
            for task in both:
                task.cancel()
            await asyncio.wait(both)

    @staticmethod
    async def _run(direction, link):
        """None at an orderly end, else whether the connection is to be reset."""
        try:
            await direction.run()
        except _Cut:
            return link.reset
        except OSError:
            return True
        return None

    def _end(self, pair, reset):
        self._open.discard(pair)
        for writer in pair:
            if reset:
                # Lingering for 0 s makes close() send RST.
                with contextlib.suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                writer.transport.abort()
            else:
                writer.close()


def _parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listen", default="127.0.0.1:0", help="host:port; port 0 = a free one")
    parser.add_argument("--to", required=True, help="host:port of the target")
    parser.add_argument("--seed", type=int, default=0)
    for way in ("up", "down"):
        for name, kind in (("delay", float), ("jitter", float), ("rate", float), ("cut-after", int),
                           ("flip-at", int), ("hold-after", int), ("first-connections", int)):
            default = 0 if name in ("delay", "jitter") else None
            parser.add_argument(f"--{way}-{name}", type=kind, default=default)
        parser.add_argument(f"--{way}-reset", action="store_true")
    return parser.parse_args(arguments)


def main(arguments=None):
    options = vars(_parse(arguments))
    links = [
        Link(**{field.name: options[f"{way}_{field.name}"] for field in dataclasses.fields(Link)})
        for way in ("up", "down")
    ]
    with ChaosProxy(options["to"], *links, seed=options["seed"], listen=options["listen"]) as proxy:
        print(f"proxy address={proxy.address}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
