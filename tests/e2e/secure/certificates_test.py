"""Certificates while a cluster runs: workers that join and renew, files that are replaced, and what is revoked."""

import pathlib
import re
import signal
import subprocess
import sys
import unittest
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
from cluster import ENDLESS, digits_job, eventually, words
from security import CONFIG, DENIED, Secured

# A certificate that ends after half a minute, of which 20 s pass before it is renewed.
SHORT_DAYS = 30 / 86400


class CertificatesTest(unittest.TestCase):
    def start(self, *coordinator):
        return self.enterContext(Secured(*coordinator))

    @staticmethod
    def registrations(worker):
        return worker.errors().count(" registered ")

    def joined(self, own, worker):
        eventually("it registers", lambda: self.registrations(worker))
        return re.search(r"worker=(\S+)", worker.errors())[1]

    def submit(self, own, name, rounds, who="admin", **changes):
        spec = digits_job()
        spec["federation"] |= {"rounds": rounds, "min_workers": 1}
        spec |= changes
        own.cli("job", "submit", own.file(spec), "--name", name, who=who).ok()

    def job(self, own, name):
        return own.cli("job", "get", name, "-o", "json").ok().json

    def test_workers_join_renew_and_come_back(self):
        own = self.start("--worker-certificate-days", str(SHORT_DAYS))
        token = own.join_token("edge.token", "--prefix", "edge", "--uses", "2")
        first, second = (own.join(name, token) for name in ("first", "second"))
        names = {self.joined(own, worker) for worker in (first, second)}
        self.assertEqual(2, len(names))
        for name in names:
            self.assertRegex(name, "^edge-[a-z][a-z0-9]{5}$")
        # The token is used up.
        third = own.join("third", token)
        self.assertEqual(CONFIG, third.wait(), third.errors())
        self.assertIn("TOKEN_USED_UP", third.errors())
        self.submit(own, "long", ENDLESS)
        eventually("a certificate is renewed", lambda: "certificate_renewed" in first.errors(), 60)
        eventually("it is there with it", lambda: self.registrations(first) == 2)
        self.assertNotIn("task_failed", first.errors())
        rounds = int(self.job(own, "long").get("round", 0))
        eventually("the job goes on", lambda: int(self.job(own, "long").get("round", 0)) > rounds + 2)
        # Another process with the same folder is the same worker, without the token.
        first.send(signal.SIGTERM)
        first.wait()
        (own.folder / "edge.token").unlink()
        again = own.start_worker("again", tls=own.folder / "first-tls")
        self.assertIn(self.joined(own, again), names)
        own.cli("job", "cancel", "long").ok()

    def test_a_revoked_worker_is_out_at_once_and_its_job_goes_on(self):
        own = self.start()
        tokens = [own.join_token(f"{name}.token", "--id", name) for name in ("w1", "w2")]
        first, second = (own.join(f"w{i}", token) for i, token in enumerate(tokens, 1))
        for worker in (first, second):
            self.joined(own, worker)
        self.submit(own, "whole", 30)
        eventually("it runs", lambda: int(self.job(own, "whole").get("round", 0)) > 1)
        own.cli("worker", "revoke", "w1").ok()
        self.assertEqual(CONFIG, first.wait(), first.errors())
        self.assertIn("CERTIFICATE_REVOKED", first.errors())
        done = eventually("it ends", lambda: self.job(own, "whole")["state"] == "SUCCEEDED" and self.job(own, "whole"))
        # With the model of a cluster that nobody disturbed.
        self.submit(own, "again", 30)
        eventually("it ends", lambda: self.job(own, "again")["state"] == "SUCCEEDED")
        self.assertEqual(self.job(own, "again")["model_hash"], done["model_hash"])
        # It stays out when the coordinator is started again, and comes back with a token.
        own.restart()
        refused = own.start_worker("refused", tls=own.folder / "w1-tls")
        self.assertEqual(CONFIG, refused.wait(), refused.errors())
        (own.folder / "w1-tls" / "worker.pem").unlink()
        token = own.join_token("back.token", "--id", "w1")
        self.joined(own, own.join("w1", token))

    def test_a_user_who_is_revoked_by_the_authority_s_list_is_out_without_a_restart(self):
        own = self.start()
        own.issue("bob", "submitter")
        own.issue("eve", "submitter")
        own.add_worker("w1")
        self.submit(own, "watched", ENDLESS, who="bob")
        watch = self.enterContext(
            cluster.Process("espalier", ["--server", own.address, "--tls-dir", own.certificates / "bob", "job", "watch", "watched", "-o", "json"],
                            own.folder / "watch.log")
        )  # fmt: skip
        eventually("it is watched", lambda: watch.line())
        own.cert("revoke", "bob")
        own.coordinator.send(signal.SIGHUP)
        refused = eventually("bob is out", lambda: own.cli("job", "list", "-o", "json", who="bob").code and
                             own.cli("job", "list", "-o", "json", who="bob"))  # fmt: skip
        self.assertEqual((DENIED, "CERTIFICATE_REVOKED"), (refused.code, refused.error["reason"]))
        self.assertTrue(watch.lines())
        self.assertEqual(DENIED, watch.wait(), watch.errors())
        own.cli("job", "list", who="eve").ok()
        self.assertTrue(own.coordinator.running())
        own.cli("job", "cancel", "watched").ok()

    def served(self, own):
        """Serial number of the certificate that new connections see."""
        shown = subprocess.run(
            ["openssl", "s_client", "-connect", own.address, "-alpn", "h2"],
            input=b"", capture_output=True, check=False, timeout=20,
        )  # fmt: skip
        text = subprocess.run(["openssl", "x509", "-noout", "-serial"], input=shown.stdout, capture_output=True, check=True)
        return text.stdout

    def end_of(self, metrics, role):
        """When a certificate ends, as a process tells Prometheus."""
        with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=10) as page:
            text = page.read().decode()
        return float(re.search(rf'espalier_certificate_expiry_timestamp_seconds{{role="{role}"}} (\S+)', text)[1])

    def test_a_replaced_certificate_is_served_without_a_restart(self):
        own = self.start()
        worker = own.add_worker("w1")
        self.submit(own, "undisturbed", ENDLESS)
        before = self.served(own)
        own.cert("renew", "coordinator")
        # By itself, within the five seconds between two looks.
        eventually("new connections see it", lambda: self.served(own) != before)
        self.assertEqual("ACTIVE", own.worker("w1")["state"])
        rounds = int(self.job(own, "undisturbed").get("round", 0))
        eventually("the job goes on", lambda: int(self.job(own, "undisturbed").get("round", 0)) > rounds)
        # What is wrong is told, and the former stays.
        after = self.served(own)
        pair = own.certificates / "coordinator"
        whole = (pair / "cert.pem").read_text()
        (pair / "cert.pem").write_text("nothing")
        own.coordinator.send(signal.SIGHUP)
        eventually("it is told", lambda: "certificates_not_read" in own.coordinator.errors())
        self.assertEqual(after, self.served(own))
        (pair / "cert.pem").write_text(whole)
        own.coordinator.send(signal.SIGHUP)
        eventually("it is read", lambda: "certificates_read changed=" in own.coordinator.errors())
        self.assertGreater(self.end_of(own.metrics, "coordinator"), 1.7e9)
        # The worker's was made by hand, too.
        self.assertGreater(self.end_of(words(worker.line())["metrics"], "worker"), 1.7e9)
        own.cli("job", "cancel", "undisturbed").ok()

    def test_an_encrypted_key_and_its_passphrase(self):
        own = self.start()
        pair = own.certificates / "coordinator"
        secret = own.folder / "passphrase"
        secret.write_text("correct horse\n")
        secret.chmod(0o600)
        key = pair / "key.pem"
        subprocess.run(["openssl", "pkey", "-in", key, "-aes256", "-passout", f"file:{secret}", "-out", own.folder / "e.pem"],
                       check=True, capture_output=True)  # fmt: skip
        (own.folder / "e.pem").replace(key)
        own.restart("--tls-key-passphrase-file", secret)
        own.cli("worker", "list").ok()
        secret.write_text("wrong\n")
        own.coordinator.kill()
        refused = self.enterContext(
            cluster.Process("espalier-coordinator",
                            ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--data-dir", own.folder / "other",
                             "--tls-dir", pair, "--tls-key-passphrase-file", secret], own.folder / "refused.log")
        )  # fmt: skip
        self.assertEqual(CONFIG, refused.wait())
        self.assertIn("found one that does not decrypt it", refused.errors())
        self.assertNotIn("wrong", refused.errors().replace("passphrase", ""))

    def test_plain_text_is_for_this_machine_alone(self):
        folder = self.start().folder
        for arguments, reason in (
            (["--listen", "0.0.0.0:0"], "PLAIN_TEXT_REFUSED"),
            (["--listen", "[::]:0"], "PLAIN_TEXT_REFUSED"),
        ):
            with self.subTest(arguments):
                refused = self.enterContext(
                    cluster.Process("espalier-coordinator", [*arguments, "--metrics-listen", "127.0.0.1:0",
                                                             "--data-dir", folder / "plain"], folder / "plain.log")
                )  # fmt: skip
                self.assertEqual(CONFIG, refused.wait())
                self.assertIn(reason, refused.errors())
                self.assertIn("--insecure", refused.errors())
        said = cluster.espalier("worker", "list", "-o", "json", server="192.0.2.1:7070")
        self.assertEqual((2, "PLAIN_TEXT_REFUSED"), (said.code, said.error["reason"]))


if __name__ == "__main__":
    unittest.main()
