#!/usr/bin/env python3
"""Times requests to a dashboard while event streams are open; see README.md.

    streams.py [--streams N] [--requests N]
"""

import argparse
import http.client
import pathlib
import selectors
import socket
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).parents[3]
sys.path[:0] = [str(ROOT / "tests/e2e"), str(ROOT / "tests/e2e/dashboard")]

import cluster
from served import Served

PATHS = ("/", "/api/v1/cluster", "/api/v1/jobs", "/api/v1/jobs/busy", "/api/v1/jobs/busy/rounds?max_points=500")


class Readers(threading.Thread):
    """Reads many streams as fast as they come, in one thread."""

    def __init__(self, served, count):
        super().__init__(daemon=True)
        self._selector = selectors.DefaultSelector()
        self.bytes = [0] * count
        self._ending = False
        request = f"GET /api/v1/jobs/busy/events HTTP/1.1\r\nHost: {served.address}\r\n\r\n".encode()
        for number in range(count):
            connection = socket.create_connection((served.host, served.port))
            connection.sendall(request)
            self._selector.register(connection, selectors.EVENT_READ, number)

    def run(self):
        while not self._ending:
            for key, _ in self._selector.select(0.1):
                block = key.fileobj.recv(1 << 16)
                if not block:
                    raise SystemExit(f"stream {key.data} was ended")
                self.bytes[key.data] += len(block)

    def end(self):
        self._ending = True
        self.join()


def timed(served, path, count):
    """Seconds of each request, over one connection as a browser has it."""
    connection = http.client.HTTPConnection(served.host, served.port, timeout=60)
    seconds = []
    for _ in range(count):
        begin = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        seconds.append(time.perf_counter() - begin)
        if answer.status != 200:
            raise SystemExit(f"{path}: status {answer.status}")
    connection.close()
    return sorted(seconds)


def used(pid):
    """Processor seconds and resident bytes of a process."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    resident = int(status.split("VmRSS:")[1].split()[0]) * 1024
    return (int(fields[11]) + int(fields[12])) / 100, resident


def measure(streams, requests):
    with tempfile.TemporaryDirectory() as folder, cluster.Cluster(workers=1) as own:
        own.submit(cluster.digits_job(cluster.ENDLESS), "--name", "busy")
        own.wait_round("busy", 500)
        with Served(own.address, f"{folder}/log") as served:
            readers = Readers(served, streams)
            readers.start()
            if streams:
                cluster.eventually("all streams have bytes", lambda: all(readers.bytes))
            begin, (processor, _), read = time.monotonic(), used(served.pid), sum(readers.bytes)
            print(f"{streams} streams open, {requests} requests each, milliseconds: median, 99th, worst")
            for path in PATHS:
                seconds = timed(served, path, requests)
                values = (seconds[len(seconds) // 2], seconds[int(len(seconds) * 0.99)], seconds[-1])
                print(f"  {path:45} " + " ".join(f"{1000 * value:8.1f}" for value in values))
            passed = time.monotonic() - begin
            after, resident = used(served.pid)
            rate = (sum(readers.bytes) - read) / passed / 1e6
            print(f"  {rate:.1f} MB/s on all streams, {(after - processor) / passed:.2f} processors, {resident / 1e6:.0f} MB resident")
            readers.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--requests", type=int, default=200)
    arguments = parser.parse_args()
    measure(arguments.streams, arguments.requests)


if __name__ == "__main__":
    main()
