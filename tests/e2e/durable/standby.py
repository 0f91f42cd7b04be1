"""Coordinators that stand by for each other, with one database and one folder."""

import signal
import time

import lives
import postgres
from cluster import words


class StandBys(lives.Lives):
    """Two coordinators, "a" and "b", of which "a" works at first; workers and commands know both addresses.

    `database`: what its coordinators reach the database by, where that is not the server's own URL.
    """

    def __init__(self, *arguments, database=None, **options):
        self.ports = {name: postgres.free_port() for name in "ab"}
        self.database = {}
        self.coordinators = {}
        self._given = database
        super().__init__(*arguments, **options)

    def _start(self, arguments, workers):
        self.server = self.enter_context(postgres.Server())
        self._arguments = arguments
        for name in "ab":
            self.database[name] = (self._given or (lambda _, url: url))(name, self.server.url)
        self.metrics = {"a": words(self.start("a").line())["metrics"]}
        self.coordinator = self.coordinators["a"]
        self.start("b")
        self.metrics["b"] = self.stands_by("b")
        self.address = ",".join(f"127.0.0.1:{port}" for port in self.ports.values())
        for i in range(workers):
            self.add_worker(f"w{i + 1}")

    def start(self, name, *arguments):
        """Starts a coordinator, which then works or stands by: its next line says so."""
        process = self.enter_context(self.new_coordinator(
            self.folder / f"data-{name}", "--listen", f"127.0.0.1:{self.ports[name]}", "--store", self.database[name],
            "--shared-dir", self.folder / "shared", *self._arguments, *arguments,
        ))
        self.coordinators[name] = process
        return process

    def stands_by(self, name):
        """Waits until it does; the address of its metrics."""
        line = self.coordinators[name].line()
        assert line.startswith("stands-by "), line
        return words(line)["metrics"]

    def works(self, name, seconds=30):
        """Waits until it works; how long that took."""
        begin = time.monotonic()
        line = self.coordinators[name].line(seconds)
        assert line.startswith("listening "), line
        return time.monotonic() - begin

    def kill(self, name, number=signal.SIGKILL):
        self.coordinators[name].send(number)
        return self.coordinators[name].wait()
