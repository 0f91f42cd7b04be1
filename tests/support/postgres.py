#!/usr/bin/env python3
"""A PostgreSQL server of its own for a test or a demonstration, in a temporary folder, on a free port of 127.0.0.1.

As a program: starts a server, runs the command behind "--" with its URL in ESPALIER_POSTGRES_URL, stops the server and
ends with the command's exit code.

    tests/support/postgres.py -- build/release/bin/server_store_test
"""

import contextlib
import ctypes
import glob
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

START_SECONDS = 30


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def end_with_parent():
    """The server does not outlive a test that is killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGINT)


def programs():
    """The newest installed version's folder of programs, which Debian keeps off the PATH."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[-2]))
    if not found:
        raise SystemExit("postgres: expected a PostgreSQL server, found none; run cmake/deps/install.sh --postgres")
    return pathlib.Path(found[-1])


class Server:
    """`url` is what coordinators are given. The server can be stopped in its tracks, killed and started again."""

    def __init__(self):
        self.port = free_port()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="espalier-postgres-"))
        self.url = f"postgresql://espalier@127.0.0.1:{self.port}/espalier"
        self.process = None
        # The server refuses to run as root.
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            account = pwd.getpwnam(self.user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        self.run("initdb", "-D", self.data, "-U", "espalier", "--auth=trust", "--no-sync", "--no-locale", "-E", "UTF8")

    @property
    def data(self):
        return str(self.folder / "data")

    def run(self, program, *arguments):
        done = subprocess.run([programs() / program, *arguments], user=self.user, cwd=self.folder, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{program} ended with {done.returncode}: {done.stdout}")

    def start(self):
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [programs() / "postgres", "-D", self.data, "-p", str(self.port), "-h", "127.0.0.1", "-k", str(self.folder)],
                user=self.user, cwd=self.folder, stdout=log, stderr=log, preexec_fn=end_with_parent)
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError("the PostgreSQL server did not start:\n" + self.log())
            time.sleep(0.05)
        # It is there already where the server was started again.
        with contextlib.suppress(subprocess.CalledProcessError):
            self.sql("CREATE DATABASE espalier", database="template1")
        return self

    def answers(self):
        return subprocess.run([programs() / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False).returncode == 0

    def sql(self, text, database="espalier"):
        """What the statement gives, a line for each row."""
        done = subprocess.run([programs() / "psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "espalier", "-d", database,
                               "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", text],
                              text=True, capture_output=True, check=True)
        return done.stdout.strip()

    def log(self):
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def stop(self, how=signal.SIGINT):
        """SIGINT: at once, but in order. SIGKILL: as if power was lost."""
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def main():
    if len(sys.argv) < 3 or sys.argv[1] != "--":
        raise SystemExit(__doc__)
    with Server() as server:
        environment = {**os.environ, "ESPALIER_POSTGRES_URL": server.url}
        return subprocess.run(sys.argv[2:], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
