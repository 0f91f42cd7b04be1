"""A cluster that knows who calls, for tests: certificates of `espalier cert`, workers that join, tokens."""

import contextlib
import json
import pathlib
import shutil
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
from cluster import Process, espalier, eventually, words

DENIED, CONFIG = 4, 78


class Secured(contextlib.ExitStack):
    """A coordinator on loopback with certificates of its own authority."""

    def __init__(self, *coordinator):
        super().__init__()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.certificates = self.folder / "certificates"
        self._flags = coordinator
        self._files = 0
        self.cert("init", "--host", "127.0.0.1")

    def __enter__(self):
        super().__enter__()
        self.start()
        return self

    def cert(self, *arguments):
        return espalier("cert", *arguments, "--dir", self.certificates).ok()

    def issue(self, name, role, *arguments):
        self.cert("issue", name, "--role", role, *arguments)
        return self.certificates / name

    def start(self, *more, listen="127.0.0.1:0", data="data"):
        self.coordinator = self.enter_context(
            Process(
                "espalier-coordinator",
                ["--listen", listen, "--metrics-listen", "127.0.0.1:0", "--data-dir", self.folder / data,
                 "--tls-dir", self.certificates / "coordinator", *self._flags, *more],
                self.folder / "coordinator.log",
            )
        )  # fmt: skip
        line = words(self.coordinator.line())
        self.address, self.metrics = line["address"], line["metrics"]
        return self.coordinator

    def restart(self, *more):
        address = self.address
        self.coordinator.kill()
        return self.start(*more, listen=address)

    def trust(self):
        return self.certificates / "authority" / "ca.pem"

    def cli(self, *arguments, who="admin", **environment):
        """A command of somebody who has a folder of certificates, or a token in a file."""
        if (self.certificates / who).is_dir():
            credentials = ("--tls-dir", self.certificates / who)
        else:
            credentials = ("--ca", self.trust(), "--token-file", self.folder / who)
        return espalier(*credentials, *arguments, server=self.address, **environment)

    def user_token(self, file, role, user=None):
        path = self.folder / file
        self.cli("user", "token", "create", user or file, "--role", role, "--file", path).ok()
        return path

    def join_token(self, file, *arguments):
        path = self.folder / file
        self.cli("worker", "token", "create", *arguments, "--file", path).ok()
        return path

    def file(self, spec):
        self._files += 1
        path = self.folder / f"job-{self._files}.yaml"
        path.write_text(json.dumps(spec))
        return path

    def start_worker(self, name, *arguments, tls, data=cluster.DATA):
        return self.enter_context(
            Process(
                "espalier-worker",
                ["--coordinator", self.address, "--data-root", data, "--metrics-listen", "127.0.0.1:0",
                 "--tls-dir", tls, *arguments],
                self.folder / f"{name}.log",
            )
        )  # fmt: skip

    def join(self, name, token, *arguments):
        """A worker that has nothing but the authority's certificate and a token."""
        tls = self.folder / f"{name}-tls"
        tls.mkdir(exist_ok=True)
        shutil.copy(self.trust(), tls / "ca.pem")
        return self.start_worker(name, "--join-token-file", token, *arguments, tls=tls)

    def add_worker(self, name):
        """A worker with a certificate that was made by hand."""
        worker = self.start_worker(name, tls=self.issue(name, "worker"))
        eventually(f"{name} is there", lambda: self.worker(name).get("state") == "ACTIVE")
        return worker

    def worker(self, name):
        workers = self.cli("worker", "list", "-o", "json").ok().json.get("workers", [])
        return next((worker for worker in workers if worker["name"] == f"workers/{name}"), {})
