"""Secrets show nowhere: not in logs, outputs, errors, metrics and stored files, and not in command lines and environments.

A new kind of secret is a line in `plant()`, which puts it where a program finds it, and what uses it in `use()`.
"""

import os
import pathlib
import secrets
import subprocess
import sys
import unittest
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
import postgres
from cluster import Process, digits_job, espalier, eventually
from security import Secured


def new_secret():
    return "canary-" + secrets.token_hex(12)


def private(path, text):
    """Writes what only its owner may read; its path."""
    path.write_text(text)
    path.chmod(0o600)
    return path


def family(pid):
    """The process and all that it has started."""
    found = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text(encoding="ascii").split():
            found += family(int(child))
    return found


class CanaryTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.secrets = {}  # name: value, of at least 16 characters, so that it is nowhere by chance
        cls.seen = {}  # place: bytes
        cls.server = cls.enterClassContext(postgres.Server())
        # Its folder and certificates are there before it starts.
        cls.own = Secured("--log-level", "debug")
        cls.plant()
        cls.enterClassContext(cls.own)
        cls.use()
        cls.go_wrong()
        cls.look()

    @classmethod
    def plant(cls):
        own, folder = cls.own, cls.own.folder
        password = cls.secrets["password of the database"] = new_secret()
        passfile = private(folder / "pgpass", f"127.0.0.1:{cls.server.port}:*:espalier:{password}\n")
        cls.demand_password(password)
        key = own.certificates / "coordinator" / "key.pem"
        cls.secrets["coordinator's key"] = key.read_text().splitlines()[1]
        phrase = cls.secrets["passphrase of the coordinator's key"] = new_secret()
        cls.encrypt(key, private(folder / "passphrase", phrase + "\n"))
        own._flags += ("--store", f"{cls.server.url}?passfile={passfile}", "--shared-dir", folder / "shared",
                       "--tls-key-passphrase-file", folder / "passphrase")
        cls.secrets["admin's key"] = (own.certificates / "admin" / "key.pem").read_text().splitlines()[1]

    @classmethod
    def demand_password(cls, password):
        """From now on the server of the database lets nobody in without it."""
        cls.server.sql(f"ALTER USER espalier PASSWORD '{password}'")
        pathlib.Path(cls.server.data, "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        cls.server.sql("SELECT pg_reload_conf()")

    @staticmethod
    def encrypt(key, passphrase):
        new = key.with_suffix(".new")
        subprocess.run(["openssl", "pkey", "-in", key, "-aes256", "-passout", f"file:{passphrase}", "-out", new], check=True)
        new.rename(key)

    @classmethod
    def use(cls):
        """A worker that joins, a job, and users with certificates and tokens."""
        own = cls.own
        token = own.join_token("join.token", "--id", "w1")
        cls.secrets["join token"] = token.read_text().strip()
        tls = own.folder / "w1-tls"
        tls.mkdir()
        (tls / "ca.pem").write_bytes(own.trust().read_bytes())
        cls.worker = own.start_worker("w1", "--join-token-file", token, "--log-level", "debug", tls=tls)
        cls.worker_metrics = cluster.words(cls.worker.line())["metrics"]
        eventually("it registers", lambda: " registered " in cls.worker.errors())
        cls.secrets["worker's key"] = cls.key_of(tls)
        own.user_token("ada", "submitter")
        cls.secrets["user token"] = (own.folder / "ada").read_text().strip()
        for who, command in (
            ("ada", ["job", "submit", own.file(digits_job(3)), "--name", "digits", "--wait", "-o", "json"]),
            ("ada", ["job", "get", "digits"]), ("ada", ["job", "watch", "digits", "-o", "json"]), ("ada", ["checkpoint", "list"]),
            ("admin", ["worker", "list", "-o", "json"]), ("admin", ["cluster", "status"]), ("admin", ["checkpoint", "verify"]),
            ("admin", ["user", "token", "list", "-o", "json"]), ("admin", ["worker", "token", "list", "-o", "json"]),
        ):
            cls.note(command, own.cli(*command, who=who).ok())

    @staticmethod
    def key_of(folder):
        """A line of the private key that a worker has made."""
        for path in folder.glob("*.pem"):
            lines = path.read_text().splitlines()
            for i, line in enumerate(lines):
                if "PRIVATE KEY" in line:
                    return lines[i + 1]
        raise AssertionError(f"no key in {folder}")

    @classmethod
    def note(cls, place, result):
        cls.seen[f"output of {place}"] = (result.out + result.err).encode()

    @classmethod
    def go_wrong(cls):
        """Programs and commands that end with errors about a secret."""
        own, folder = cls.own, cls.own.folder
        admin = own.certificates / "admin"

        def call(place, *arguments):
            cls.note(place, espalier("job", "list", "--ca", own.trust(), *arguments, "-o", "json", server=own.address))

        call("a call with another's key", "--cert", admin / "cert.pem", "--key", own.issue("eve", "viewer") / "key.pem")
        call("a call that takes a key for a certificate", "--cert", admin / "key.pem", "--key", admin / "key.pem")
        call("a call with a join token", "--token-file", folder / "join.token")
        wrong = cls.secrets["token that is wrong"] = cls.secrets["user token"][:-8] + "AAAAAAAA"
        call("a call with a wrong token", "--token-file", private(folder / "wrong.token", wrong + "\n"))
        call("a call that takes a key for a token", "--token-file", admin / "key.pem")
        cls.note("a job file that is a key", own.cli("job", "submit", admin / "key.pem"))
        cls.note("a job file that is a token", own.cli("job", "submit", folder / "ada"))
        wrong = cls.secrets["password that is wrong"] = new_secret()
        passfile = private(folder / "wrong.pgpass", f"127.0.0.1:*:*:espalier:{wrong}\n")
        phrase = cls.secrets["passphrase that is wrong"] = new_secret()
        private(folder / "wrong.passphrase", phrase + "\n")
        keys = cls.secrets["secret key of the bucket"] = new_secret()
        private(folder / "credentials", f"[default]\naws_access_key_id = someone\naws_secret_access_key = {keys}\n")
        bucket = {"AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"), "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
                  "AWS_REGION": "x"}
        for name, arguments, environment in (
            ("with a wrong password", ["--store", f"{cls.server.url}?passfile={passfile}"], {}),
            ("without a password", ["--store", cls.server.url], {"PGPASSFILE": "/dev/null"}),
            ("with a wrong passphrase", ["--tls-dir", own.certificates / "coordinator", "--tls-key-passphrase-file",
                                         folder / "wrong.passphrase"], {}),
            ("without a passphrase", ["--tls-dir", own.certificates / "coordinator"], {}),
            ("with a key for a certificate", ["--tls-cert", admin / "key.pem", "--tls-key", admin / "key.pem"], {}),
            ("with a bucket out of reach", ["--checkpoints", "s3://bucket/prefix"], bucket),
        ):
            process = cls.enterClassContext(Process(
                "espalier-coordinator", ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--data-dir",
                                         folder / name.replace(" ", "-"), *arguments],
                folder / f"{name}.log", env=os.environ | environment,
            ))
            # A bucket may come back, so that this one goes on.
            eventually(name, lambda process=process: not process.running() or "reason=" in process.errors())
            process.kill()
            cls.seen[f"log of a coordinator {name}"] = process.errors().encode()

    @classmethod
    def look(cls):
        """All places of the cluster that runs."""
        own = cls.own
        for name, process, metrics in (("coordinator", own.coordinator, own.metrics), ("w1", cls.worker, cls.worker_metrics)):
            for pid in family(process.pid):
                for file in ("cmdline", "environ"):
                    cls.seen[f"{file} of {name} ({pid})"] = pathlib.Path(f"/proc/{pid}/{file}").read_bytes()
            cls.seen[f"log of {name}"] = process.errors().encode()
            with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=10) as page:
                cls.seen[f"metrics of {name}"] = page.read()
        # Parts, checkpoints and the audit log; jobs and tokens are in the database.
        for folder in (own.folder / "data", own.folder / "shared"):
            for path in folder.rglob("*"):
                if path.is_file():
                    cls.seen[f"file {path.relative_to(own.folder)}"] = path.read_bytes()
        password = {"PGPASSWORD": cls.secrets["password of the database"]}
        dump = subprocess.run([postgres.programs() / "pg_dump", "--inserts", "-h", "127.0.0.1", "-p", str(cls.server.port), "-U",
                               "espalier", "espalier"], env=os.environ | password, capture_output=True, check=True)
        cls.seen["database"] = dump.stdout

    def test_no_secret_is_seen_anywhere(self):
        for name, secret in self.secrets.items():
            self.assertGreaterEqual(len(secret), 16)
            # Bytes of a database are written as hexadecimal digits.
            for form in (secret.encode(), secret.encode().hex().encode()):
                for place, text in self.seen.items():
                    with self.subTest(name, place=place):
                        self.assertNotIn(form, text)

    def test_the_places_were_looked_at(self):
        """What is no secret is found in each kind of place."""
        for place, word in (
            ("cmdline of w1", "--join-token-file"), ("cmdline of coordinator", "passfile="), ("environ of w1", "PATH="),
            ("log of w1", "registered"), ("log of coordinator", "digits"), ("metrics of coordinator", "espalier_jobs"),
            ("metrics of w1", "espalier_worker_tasks"), ("output of ['job', 'get'", "SUCCEEDED"),
            ("output of ['user', 'token'", "ada"), ("output of a call with another's key", "TLS_KEY_MISMATCH"),
            ("output of a call that takes a key for a certificate", "TLS_"), ("output of a call with a join token", "TOKEN"),
            ("output of a call with a wrong token", "TOKEN"), ("output of a call that takes a key for a token", "TOKEN"),
            ("output of a job file", "expected a job"), ("log of a coordinator with a wrong password", "password"),
            ("log of a coordinator without a password", "password"), ("log of a coordinator with a wrong passphrase", "TLS_"),
            ("log of a coordinator without a passphrase", "TLS_KEY_ENCRYPTED"), ("log of a coordinator with a key for", "TLS_"),
            ("log of a coordinator with a bucket", "reason="), ("file data/audit", "CreateJob"), ("file shared/checkpoints", "digits"),
            ("database", "INSERT INTO"),
        ):
            with self.subTest(place):
                found = [text for name, text in self.seen.items() if name.startswith(place)]
                self.assertTrue(found, sorted(self.seen))
                self.assertIn(word.encode(), b"".join(found))

    def test_a_password_in_the_command_line_is_told(self):
        """It cannot be hidden there."""
        process = self.enterContext(Process(
            "espalier-coordinator", ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--data-dir",
                                     self.own.folder / "told", "--store", "postgresql://u:canary@127.0.0.1:1/db"],
            self.own.folder / "told.log",
        ))
        process.wait()
        self.assertIn("password_in_command_line", process.errors())
        self.assertIn("passfile=", process.errors())
        self.assertNotIn("canary", process.errors())


if __name__ == "__main__":
    unittest.main()
