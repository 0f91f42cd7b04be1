"""TLS in both directions: who has the right certificates works, who has not gets a clear answer."""

import contextlib
import pathlib
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request

import cluster
import terminal
from cluster import digits_job, espalier, eventually

USAGE, DENIED, UNAVAILABLE, CONFIG = 2, 4, 6, 78


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make_authority(folder, name):
    openssl(
        folder,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-keyout",
        f"{name}.key",
        "-out",
        f"{name}.crt",
        "-subj",
        f"/CN={name}",
    )


def make_certificate(folder, authority, name, names, days="2"):
    """name.crt and name.key, signed by the authority, for the given subject alternative names."""
    openssl(
        folder,
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        f"{name}.key",
        "-out",
        f"{name}.csr",
        "-subj",
        f"/CN={name}",
    )
    (folder / f"{name}.ext").write_text(f"subjectAltName={names}\n")
    openssl(
        folder,
        "x509",
        "-req",
        "-in",
        f"{name}.csr",
        "-CA",
        f"{authority}.crt",
        "-CAkey",
        f"{authority}.key",
        "-CAcreateserial",
        "-days",
        days,
        "-extfile",
        f"{name}.ext",
        "-out",
        f"{name}.crt",
    )


def make_dated_certificate(folder, name, begin, end):
    """Like make_certificate(), by "ca" and for this machine, from one time to another."""
    make_certificate(folder, "ca", name, "DNS:localhost,IP:127.0.0.1")
    (folder / "index").write_text("")
    (folder / "ca.cnf").write_text(
        "[ca]\ndefault_ca=own\n[own]\ndatabase=index\nnew_certs_dir=.\nrand_serial=yes\n"
        "default_md=sha256\npolicy=any\n[any]\ncommonName=supplied\n"
    )
    openssl(
        folder,
        *("ca", "-batch", "-notext", "-config", "ca.cnf", "-cert", "ca.crt", "-keyfile", "ca.key"),
        *("-in", f"{name}.csr", "-extfile", f"{name}.ext", "-startdate", begin, "-enddate", end),
        *("-out", f"{name}.crt"),
    )


class TlsServer(contextlib.ExitStack):
    """A server that does handshakes with a certificate, whatever its dates; gives its address."""

    def __init__(self, folder, name):
        super().__init__()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
        self._context.set_alpn_protocols(["h2"])
        self._socket = self.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.callback(self._thread.join)
        self.callback(self._socket.shutdown, socket.SHUT_RDWR)

    def __enter__(self):
        super().__enter__()
        self._thread.start()
        return "%s:%d" % self._socket.getsockname()

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.settimeout(5)
            with contextlib.suppress(OSError), connection:
                with self._context.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(1)


class TlsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        make_authority(cls.folder, "ca")
        make_authority(cls.folder, "other-ca")
        make_certificate(cls.folder, "ca", "server", "DNS:localhost,IP:127.0.0.1")
        make_certificate(cls.folder, "ca", "elsewhere", "DNS:elsewhere.invalid")
        make_certificate(cls.folder, "ca", "client", "URI:espalier://admin/ada")
        make_certificate(cls.folder, "ca", "worker", "URI:espalier://worker/w1")
        make_certificate(cls.folder, "ca", "roleless", "DNS:worker-1,URI:https://example.org/ada")
        make_certificate(cls.folder, "other-ca", "stranger", "URI:espalier://admin/ada")
        make_dated_certificate(cls.folder, "expired", "20200101000000Z", "20200201000000Z")
        make_dated_certificate(cls.folder, "future", "20900101000000Z", "20910101000000Z")
        openssl(
            cls.folder,
            *("pkey", "-in", "client.key", "-aes256", "-passout", "pass:secret"),
            *("-out", "encrypted.key"),
        )
        openssl(
            cls.folder, "x509", "-in", "client.crt", "-outform", "der", "-out", "client.der"
        )
        (cls.folder / "empty").touch()
        cls.cluster = cls.enterClassContext(
            cluster.Cluster(coordinator=cls.server("server"), worker=cls.worker())
        )
        cls.cluster.add_worker("w1")

    @classmethod
    def path(cls, name):
        return str(cls.folder / name)

    @classmethod
    def server(cls, name):
        return (
            "--tls-cert",
            cls.path(f"{name}.crt"),
            "--tls-key",
            cls.path(f"{name}.key"),
            "--tls-client-ca",
            cls.path("ca.crt"),
        )

    @classmethod
    def worker(cls, ca="ca", name="worker"):
        return (
            "--tls-ca",
            cls.path(f"{ca}.crt"),
            "--tls-cert",
            cls.path(f"{name}.crt"),
            "--tls-key",
            cls.path(f"{name}.key"),
        )

    def client(self, ca="ca", name="client"):
        own = (
            ("--cert", self.path(f"{name}.crt"), "--key", self.path(f"{name}.key")) if name else ()
        )
        return ("--ca", self.path(f"{ca}.crt"), *own)

    def test_job_runs(self):
        done = self.cluster.cli(
            *self.client(), "job", "submit", self.cluster.file(digits_job()), "--wait", "-o", "json"
        )
        self.assertEqual("SUCCEEDED", done.ok().json["state"])
        download = self.cluster.cli(
            *self.client(),
            "checkpoint",
            "get",
            done.json["latest_checkpoint"],
            "-O",
            self.cluster.folder / "x.safetensors",
        )
        download.ok()

    def test_job_runs_by_host_name_and_environment(self):
        result = espalier(
            "cluster",
            "status",
            "-o",
            "json",
            server=self.cluster.address.replace("127.0.0.1", "localhost"),
            ESPALIER_CA=self.path("ca.crt"),
            ESPALIER_CERT=self.path("client.crt"),
            ESPALIER_KEY=self.path("client.key"),
        )
        self.assertEqual(1, int(result.ok().json["workers_active"]))

    def refused(self, reason, *arguments, server=None):
        """The message of a command that gets no connection, at once although it has 20 s."""
        begin = time.monotonic()
        result = espalier(
            *arguments,
            "cluster",
            "status",
            "-o",
            "json",
            "--timeout",
            "20s",
            server=server or self.cluster.address,
        )
        self.assertEqual(UNAVAILABLE, result.code, result.err)
        self.assertEqual(reason, result.error["reason"], result.error)
        self.assertLess(time.monotonic() - begin, 10)
        return result.error["message"]

    def test_client_without_credentials(self):
        for name, reason, word in (
            (None, "CREDENTIALS_MISSING", "--tls-dir"),
            ("roleless", "CERTIFICATE_WITHOUT_ROLE", "CN = roleless"),
        ):
            with self.subTest(name):
                unknown = self.cluster.cli(*self.client(name=name), "cluster", "status", "-o", "json")
                self.assertEqual((DENIED, reason), (unknown.code, unknown.error["reason"]))
                self.assertIn(word, unknown.error["message"])

    def test_client_of_another_authority(self):
        message = self.refused("TLS_CLIENT_REFUSED", *self.client(name="stranger"))
        self.assertIn(self.path("stranger.crt"), message)
        self.assertIn("CN = ca", message)
        self.assertIn("--cert", message)

    def test_server_of_another_authority(self):
        message = self.refused("TLS_SERVER_REFUSED", *self.client(ca="other-ca"))
        self.assertIn("--ca '" + self.path("other-ca.crt"), message)
        self.assertIn("signed by CN = ca", message)

    def test_client_without_tls(self):
        self.assertIn("--ca", self.refused("TLS_EXPECTED"))

    def test_client_with_tls_at_a_server_without(self):
        with cluster.Cluster() as plain:
            message = self.refused("TLS_NOT_SPOKEN", *self.client(), server=plain.address)
        self.assertIn("--ca", message)

    def test_certificate_for_another_host(self):
        with cluster.Cluster(coordinator=self.server("elsewhere")) as own:
            message = self.refused("TLS_SERVER_REFUSED", *self.client(), server=own.address)
        self.assertIn("is for elsewhere.invalid, not for 127.0.0.1", message)
        self.assertIn("--ca", message)

    def test_server_certificates_of_another_time(self):
        for name, words in (
            ("expired", "expired on 2020-02-01 00:00:00 UTC"),
            ("future", "not valid before 2090-01-01 00:00:00 UTC"),
        ):
            with self.subTest(name), TlsServer(self.folder, name) as address:
                message = self.refused("TLS_SERVER_REFUSED", *self.client(), server=address)
                self.assertIn(words, message)
                self.assertNotIn("signed by", message)

    def test_worker_says_the_same_at_each_attempt(self):
        with TlsServer(self.folder, "expired") as address:
            worker = self.start_worker(*self.worker(), coordinator=address)
            eventually(
                "the worker names the date", lambda: "expired on 2020-02-01" in worker.errors()
            )
        worker = self.start_worker()
        eventually("the worker names its flag", lambda: "--tls-ca" in worker.errors())
        worker.send(signal.SIGTERM)
        self.assertEqual(0, worker.wait(10))

    def start_worker(self, *arguments, coordinator=None):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        return self.enterContext(
            cluster.Process(
                "espalier-worker",
                [
                    "--coordinator",
                    coordinator or self.cluster.address,
                    "--data-root",
                    cluster.DATA,
                    *arguments,
                ],
                pathlib.Path(folder) / "log",
            )
        )

    def start_coordinator(self, *arguments):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        return self.enterContext(
            cluster.Process(
                "espalier-coordinator",
                [
                    "--listen",
                    "127.0.0.1:0",
                    "--metrics-listen",
                    "127.0.0.1:0",
                    "--data-dir",
                    folder,
                    *arguments,
                ],
                pathlib.Path(folder) / "log",
            )
        )

    def shake_hands(self, address, certificate=None, trust=None):
        """A handshake that fails, as a client that does not look at its own files does it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED if trust else ssl.CERT_NONE
        if trust:
            context.load_verify_locations(self.path(f"{trust}.crt"))
        if certificate:
            context.load_cert_chain(
                self.path(f"{certificate}.crt"), self.path(f"{certificate}.key")
            )
        context.set_alpn_protocols(["h2"])
        host, port = address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), 10) as peer:
            with self.assertRaises(OSError), context.wrap_socket(peer) as secure:
                secure.settimeout(10)
                if not secure.recv(1):
                    raise OSError("the other side has closed the connection")

    def test_coordinator_says_why_handshakes_fail(self):
        own = self.enterContext(cluster.Cluster(coordinator=self.server("server")))
        for kind, words, attempt in (
            ("certificate_out_of_date", "has expired", {"certificate": "expired"}),
            ("certificate_refused", "--tls-client-ca", {"certificate": "stranger"}),
            ("server_refused", "does not know the authority", {"trust": "other-ca"}),
        ):
            with self.subTest(kind):
                self.shake_hands(own.address, **attempt)
                line = eventually("a line", lambda k=kind: self.lines(own, k))[0]
                self.assertIn(words, line)
        for _ in range(20):  # which make one line in ten seconds
            with socket.create_connection(("127.0.0.1", int(own.address.rpartition(":")[2]))) as peer:
                peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
                peer.settimeout(10)
                with contextlib.suppress(OSError):
                    peer.recv(100)
        self.assertIn("does not speak TLS", eventually("a line", lambda: self.lines(own, "not_tls"))[0])
        self.assertLessEqual(len(self.lines(own, "not_tls")), 2)
        with urllib.request.urlopen(f"http://{own.metrics}/metrics", timeout=10) as page:
            text = page.read().decode()
        self.assertIn('espalier_tls_handshakes_failed_total{reason="certificate_out_of_date"} 1', text)
        for line in own.coordinator.errors().splitlines():  # nothing in gRPC's own form
            self.assertRegex(line, r"^\d{4}-\d\d-\d\dT")
        own.cli(*self.client(), "cluster", "status").ok()

    @staticmethod
    def lines(own, kind):
        mark = f"tls_handshake_failed reason={kind} "
        return [line for line in own.coordinator.errors().splitlines() if mark in line]

    # certificate, key, reason, words of the message
    UNUSABLE = [
        ("client.crt", "encrypted.key", "TLS_KEY_ENCRYPTED", ["encrypted.key", "openssl pkey"]),
        ("client.crt", "server.key", "TLS_KEY_MISMATCH", ["client.crt", "server.key"]),
        ("client.crt", "client.crt", "TLS_FILE_UNREADABLE", ["found a certificate"]),
        ("client.key", "client.key", "TLS_FILE_UNREADABLE", ["found a private key"]),
        ("client.der", "client.key", "TLS_FILE_UNREADABLE", ["client.der", "DER"]),
        ("empty", "client.key", "TLS_FILE_UNREADABLE", ["empty"]),
        ("missing", "client.key", "TLS_FILE_UNREADABLE", ["missing", "No such file"]),
        ("expired.crt", "expired.key", "TLS_CERT_OUT_OF_DATE", ["expired.crt", "2020-02-01"]),
        ("future.crt", "future.key", "TLS_CERT_OUT_OF_DATE", ["future.crt", "2090-01-01"]),
    ]

    def test_files_that_cannot_be_used_end_every_program_by_name(self):
        for certificate, key, reason, words in self.UNUSABLE:
            with self.subTest(certificate=certificate, key=key):
                pair = (self.path(certificate), self.path(key))
                result = espalier(
                    "--ca",
                    self.path("ca.crt"),
                    "--cert",
                    pair[0],
                    "--key",
                    pair[1],
                    "cluster",
                    "status",
                    "-o",
                    "json",
                )
                self.assertEqual((USAGE, reason), (result.code, result.error["reason"]))
                worker = self.start_worker(
                    "--tls-ca", self.path("ca.crt"), "--tls-cert", pair[0], "--tls-key", pair[1]
                )
                coordinator = self.start_coordinator("--tls-cert", pair[0], "--tls-key", pair[1])
                self.assertEqual(CONFIG, worker.wait(10), worker.errors())
                self.assertEqual(CONFIG, coordinator.wait(10), coordinator.errors())
                for text in (result.error["message"], worker.errors(), coordinator.errors()):
                    for word in words:
                        self.assertIn(word, text)

    def test_encrypted_key_asks_no_terminal_for_its_passphrase(self):
        with terminal.Terminal(
            "--ca",
            self.path("ca.crt"),
            "--cert",
            self.path("client.crt"),
            "--key",
            self.path("encrypted.key"),
            "cluster",
            "status",
            columns=400,
        ) as person:
            self.assertEqual(USAGE, person.read_to_end(10))
            self.assertIn("found an encrypted one", person.screen)

    def test_files_that_are_not_there(self):
        missing = self.cluster.cli("--ca", "/nonexistent.crt", "cluster", "status", "-o", "json")
        self.assertEqual((2, "TLS_FILE_UNREADABLE"), (missing.code, missing.error["reason"]))
        self.assertIn("/nonexistent.crt", missing.error["message"])

    def test_certificate_without_its_key(self):
        alone = self.cluster.cli(
            "--ca",
            self.path("ca.crt"),
            "--cert",
            self.path("client.crt"),
            "cluster",
            "status",
            "-o",
            "json",
            "--timeout",
            "5s",
        )
        self.assertEqual(2, alone.code, alone.err)
        self.assertIn("--key", alone.error["message"])

    def test_worker_of_another_authority_is_not_registered(self):
        stranger = self.enterContext(
            cluster.Process(
                "espalier-worker",
                [
                    "--coordinator",
                    self.cluster.address,
                    "--id",
                    "stranger",
                    "--data-root",
                    cluster.DATA,
                    *self.worker(name="stranger"),
                ],
                self.cluster.folder / "stranger.log",
            )
        )
        eventually("the worker is refused", lambda: "coordinator_unreachable" in stranger.errors())
        self.assertIn(self.path("stranger.crt"), stranger.errors())
        workers = self.cluster.cli(*self.client(), "worker", "list").ok().out
        self.assertNotIn("stranger", workers)
        self.assertIn("w1", workers)

    def test_server_files_that_do_not_fit(self):
        for arguments in (
            ["--tls-cert", self.path("server.crt"), "--tls-key", self.path("client.key")],
            ["--tls-cert", self.path("server.crt")],
            ["--tls-cert", "/nonexistent.crt", "--tls-key", self.path("server.key")],
        ):
            with self.subTest(arguments):
                process = self.start_coordinator(*arguments)
                self.assertEqual(78, process.wait(10), process.errors())
                self.assertIn("--tls-", process.errors())

    def test_health_check_goes_through_tls(self):
        checked = subprocess.run(
            [
                cluster.BIN / "espalier-coordinator",
                "--health-check",
                "--listen",
                self.cluster.address,
                *self.server("server"),
            ],
            check=False,
            capture_output=True,
        )
        self.assertEqual(0, checked.returncode, checked.stderr)


if __name__ == "__main__":
    unittest.main()
