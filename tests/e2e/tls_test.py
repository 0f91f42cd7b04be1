"""TLS in both directions: who has the right certificates works, who has not gets a clear answer."""

import pathlib
import subprocess
import tempfile
import unittest

import cluster
from cluster import digits_job, espalier, eventually

DENIED, UNAVAILABLE = 4, 6


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


class TlsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        make_authority(cls.folder, "ca")
        make_authority(cls.folder, "other-ca")
        make_certificate(cls.folder, "ca", "server", "DNS:localhost,IP:127.0.0.1")
        make_certificate(cls.folder, "ca", "elsewhere", "DNS:elsewhere.invalid")
        make_certificate(cls.folder, "ca", "client", "DNS:worker-1")
        make_certificate(cls.folder, "other-ca", "stranger", "DNS:worker-1")
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
    def worker(cls, ca="ca", name="client"):
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
        self.assertEqual("STATE_SUCCEEDED", done.ok().json["state"])
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

    def refused(self, *arguments):
        result = self.cluster.cli(*arguments, "cluster", "status", "-o", "json", "--timeout", "5s")
        self.assertIn(result.code, (DENIED, UNAVAILABLE), result.err)
        return result.error["message"]

    def test_client_without_certificate(self):
        self.assertIn("--cert", self.refused(*self.client(name=None)))

    def test_client_of_another_authority(self):
        self.assertIn("--cert", self.refused(*self.client(name="stranger")))

    def test_server_of_another_authority(self):
        self.assertIn("--ca", self.refused(*self.client(ca="other-ca")))

    def test_client_without_tls(self):
        self.assertIn("--ca", self.refused())

    def test_client_with_tls_at_a_server_without(self):
        with cluster.Cluster() as plain:
            result = plain.cli(*self.client(), "cluster", "status", "-o", "json", "--timeout", "5s")
        self.assertIn(result.code, (DENIED, UNAVAILABLE), result.err)
        self.assertIn("--ca", result.error["message"])

    def test_certificate_for_another_host(self):
        with cluster.Cluster(coordinator=self.server("elsewhere")) as own:
            result = own.cli(*self.client(), "cluster", "status", "-o", "json", "--timeout", "5s")
        self.assertIn(result.code, (DENIED, UNAVAILABLE), result.err)
        self.assertIn("--ca", result.error["message"])

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
                folder = self.enterContext(tempfile.TemporaryDirectory())
                with cluster.Process(
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
                ) as process:
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
