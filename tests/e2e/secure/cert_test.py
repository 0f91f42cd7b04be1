"""What `espalier cert` makes is what OpenSSL's programs and a TLS handshake take it for."""

import fcntl
import json
import os
import pathlib
import ssl
import stat
import subprocess
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "output"))

from cluster import espalier
from json_test import Checker

COMMANDS = "cert init and cert issue and cert keep and cert list and cert renew and cert revoke"
CLIENT, SERVER = "sslclient", "sslserver"


def openssl(*arguments, stdin=None):
    done = subprocess.run(["openssl", *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


class CertTest(unittest.TestCase):
    def setUp(self):
        self.top = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.dir = self.top / "certs"

    def cert(self, command, *arguments):
        return espalier("cert", command, *arguments, "--dir", self.dir)

    def made(self, command, *arguments):
        """What a command that works prints as JSON."""
        printed = self.cert(command, *arguments, "-o", "json").ok().json
        self.assertEqual([], list(Checker().object(COMMANDS, printed, command)))
        return printed

    def refused(self, reason, code, command, *arguments):
        result = self.cert(command, *arguments, "-o", "json")
        self.assertEqual((reason, code), (result.error["reason"], result.code), result.err)
        self.assertEqual("", result.out)
        return result.error["message"]

    def listed(self):
        """The rows of a list, by name; of several of a name those that came first."""
        rows = {}
        for row in self.made("list")["certificates"]:
            rows.setdefault(row["name"], row)
        return rows

    def verify(self, certificate, purpose, *arguments, lists=True):
        """What `openssl verify` says against it: "" when it is good."""
        chain = ["-CRLfile", self.dir / "authority/crl.pem", "-crl_check_all"] if lists else []
        code, text = openssl(
            "verify", "-x509_strict", "-purpose", purpose, "-CAfile", self.dir / "authority/ca.pem", "-untrusted",
            certificate, *chain, *arguments, certificate,
        )  # fmt: skip
        return "" if code == 0 else text

    def names(self, certificate):
        return openssl("x509", "-noout", "-ext", "subjectAltName", "-in", certificate)[1]

    def fits(self, folder):
        """Whether key and certificate of a holder belong together."""
        key = openssl("pkey", "-pubout", "-in", self.dir / folder / "key.pem")[1]
        return key == openssl("x509", "-pubkey", "-noout", "-in", self.dir / folder / "cert.pem")[1]

    def files(self):
        return sorted(str(path.relative_to(self.dir)) for path in self.dir.rglob("*") if path.is_file())


class KeepTest(CertTest):
    def test_users_get_certificates_that_stay_what_they_are(self):
        copies = self.top / "dashboard"
        keep = ("keep", "--host", "c.example.org", "--user", "dashboard=viewer", "--copy", f"dashboard={copies}")
        self.assertEqual("VIEWER", {row["name"]: row for row in self.made(*keep)["certificates"]}["dashboard"]["role"])
        self.assertTrue(self.fits("dashboard"))
        key = (copies / "key.pem").read_bytes()
        # Before each further start, nothing changes.
        self.cert(*keep).ok()
        self.assertEqual(key, (copies / "key.pem").read_bytes())
        self.refused("USAGE", 2, "keep", "--host", "c.example.org", "--user", "dashboard=admin")
        for user in ("dashboard", "=viewer", "w=worker", "c=coordinator", "dashboard="):
            self.refused("USAGE", 2, "keep", "--host", "c.example.org", "--user", user)
        self.assertEqual("VIEWER", self.listed()["dashboard"]["role"])


class InitTest(CertTest):
    def test_folders_hold_what_programs_and_operators_need(self):
        result = self.cert("init", "--host", "c.example.org", "--host", "10.1.2.3").ok()
        holder = ["ca.pem", "cert.pem", "key.pem"]
        expected = [f"admin/{name}" for name in holder]
        expected += [f"authority/{name}" for name in ("ca.key", "ca.pem", "crl.pem", "issued.jsonl")]
        expected += [f"authority/workers.{end}" for end in ("key", "pem")]
        expected += [f"coordinator/{name}" for name in [*holder, "crl.pem", "workers.key", "workers.pem"]]
        self.assertEqual(sorted(expected), self.files())
        for path in [self.dir, *self.dir.rglob("*")]:
            mode = stat.S_IMODE(path.stat().st_mode)
            self.assertEqual(0o700 if path.is_dir() else 0o600, mode, path)
        for name in ("authority/", "coordinator/", "admin/", "--tls-dir", "c.example.org:7070", "cert issue"):
            self.assertIn(name, result.out)
        self.assertEqual([], [path.name for path in self.top.iterdir() if path != self.dir])

    def test_certificates_are_good_for_their_purpose_alone(self):
        self.cert("init", "--host", "c.example.org", "--host", "10.1.2.3").ok()
        coordinator, admin = self.dir / "coordinator/cert.pem", self.dir / "admin/cert.pem"
        for host in ("c.example.org", "localhost"):
            self.assertEqual("", self.verify(coordinator, SERVER, "-verify_hostname", host))
        for address in ("10.1.2.3", "127.0.0.1", "::1"):
            self.assertEqual("", self.verify(coordinator, SERVER, "-verify_ip", address))
        self.assertIn("hostname mismatch", self.verify(coordinator, SERVER, "-verify_hostname", "other"))
        self.assertEqual("", self.verify(coordinator, CLIENT))
        self.assertEqual("", self.verify(admin, CLIENT))
        self.assertIn("certificate purpose", self.verify(admin, SERVER))
        self.assertIn("URI:espalier://coordinator/coordinator", self.names(coordinator))
        self.assertIn("URI:espalier://admin/admin", self.names(admin))
        self.assertTrue(self.fits("coordinator") and self.fits("admin"))
        text = openssl("x509", "-noout", "-text", "-in", coordinator)[1]
        for part in ("Version: 3", "ecdsa-with-SHA256", "NIST CURVE: P-256", "CA:FALSE", "Digital Signature"):
            self.assertIn(part, text)
        self.assertIn("pathlen:0", openssl("x509", "-noout", "-text", "-in", self.dir / "authority/workers.pem")[1])

    def test_nothing_is_overwritten(self):
        self.cert("init").ok()
        before = {name: (self.dir / name).read_bytes() for name in self.files()}
        self.refused("CERT_FOLDER_EXISTS", 5, "init")
        self.assertEqual(before, {name: (self.dir / name).read_bytes() for name in self.files()})
        self.dir = self.top / "other"
        self.dir.mkdir()
        (self.dir / "file").write_text("mine")
        self.refused("CERT_FOLDER_EXISTS", 5, "init")
        self.assertEqual(["file"], self.files())

    def test_nothing_is_left_when_it_fails(self):
        message = self.refused("HOST_INVALID", 2, "init", "--host", "https://c.example.org:7070")
        self.assertIn("https://c.example.org:7070", message)
        self.assertEqual([], list(self.top.iterdir()))
        self.refused("PASSPHRASE_FILE_UNREADABLE", 2, "init", "--passphrase-file", self.top / "none")
        self.assertEqual([], list(self.top.iterdir()))
        self.dir = self.top / "no" / "parent"
        self.refused("FOLDER_UNUSABLE", 5, "init")

    def test_empty_folder_such_as_a_volume_is_filled(self):
        self.dir.mkdir()
        (self.dir / "lost+found").mkdir()
        inode = self.dir.stat().st_ino
        self.cert("init").ok()
        self.assertEqual(inode, self.dir.stat().st_ino)
        self.assertEqual(
            ["admin", "authority", "coordinator", "lost+found"], sorted(path.name for path in self.dir.iterdir())
        )

    def test_roots_differ_and_do_not_trust_each_other(self):
        self.cert("init").ok()
        foreign = self.dir / "admin/cert.pem"
        self.dir = self.top / "others"
        self.cert("init").ok()
        self.assertIn("unable to get local issuer", self.verify(foreign, CLIENT, lists=False))

    def test_passphrase_guards_the_roots_key(self):
        secret = self.top / "secret"
        secret.write_text("correct horse\nnext line")
        self.cert("init", "--passphrase-file", secret).ok()
        key = self.dir / "authority/ca.key"
        self.assertIn("BEGIN ENCRYPTED PRIVATE KEY", key.read_text())
        self.assertEqual(0, openssl("pkey", "-noout", "-in", key, "-passin", "pass:correct horse")[0])
        message = self.refused("TLS_KEY_ENCRYPTED", 2, "issue", "ada", "--role", "viewer")
        self.assertIn("--passphrase-file", message)
        wrong = self.top / "wrong"
        wrong.write_text("wrong\n")
        self.refused("TLS_KEY_ENCRYPTED", 2, "issue", "ada", "--role", "viewer", "--passphrase-file", wrong)
        self.refused("TLS_KEY_ENCRYPTED", 2, "revoke", "admin")
        self.assertEqual("VALID", self.listed()["admin"]["state"])
        self.assertNotIn("ada", self.listed())
        self.cert("issue", "ada", "--role", "viewer", "--passphrase-file", secret).ok()
        self.assertEqual("", self.verify(self.dir / "ada/cert.pem", CLIENT))
        # Workers are another authority's business, whose key a coordinator uses without a human.
        self.cert("issue", "edge-1", "--role", "worker").ok()


class HolderTest(CertTest):
    def setUp(self):
        super().setUp()
        self.cert("init", "--host", "c.example.org").ok()

    def issue(self, name, role, *arguments):
        self.made("issue", name, "--role", role, *arguments)
        self.assertTrue(self.fits(name))
        return self.dir / name / "cert.pem"

    def forged(self, names, usage="clientAuth,serverAuth"):
        """A certificate with these names, signed with the stolen key of the authority for workers."""
        key, request, made = (self.top / name for name in ("forged.key", "forged.csr", "forged.pem"))
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
        openssl("req", "-new", "-key", key, "-subj", "/CN=mallory", "-out", request)
        extensions = self.top / "extensions"
        extensions.write_text(
            f"subjectAltName={names}\nextendedKeyUsage={usage}\nkeyUsage=critical,digitalSignature\n"
            "basicConstraints=CA:FALSE\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        )
        workers = self.dir / "coordinator/workers.pem"
        code, text = openssl(
            "x509", "-req", "-in", request, "-CA", workers, "-CAkey", self.dir / "coordinator/workers.key",
            "-extfile", extensions, "-days", "7", "-out", made,
        )  # fmt: skip
        self.assertEqual(0, code, text)
        made.write_text(made.read_text() + workers.read_text())
        return made, key

    def test_every_role_gets_what_it_needs(self):
        for role in ("admin", "submitter", "viewer"):
            certificate = self.issue(f"a-{role}", role)
            self.assertEqual("", self.verify(certificate, CLIENT))
            self.assertIn("certificate purpose", self.verify(certificate, SERVER))
            self.assertIn(f"URI:espalier://{role}/a-{role}", self.names(certificate))
        worker = self.issue("edge-1", "worker")
        self.assertEqual("", self.verify(worker, CLIENT))
        self.assertEqual(2, worker.read_text().count("BEGIN CERTIFICATE"))
        standby = self.issue("standby", "coordinator", "--host", "b.example.org")
        self.assertEqual("", self.verify(standby, SERVER, "-verify_hostname", "b.example.org"))
        self.assertEqual("", self.verify(standby, SERVER, "-verify_ip", "::1"))
        for name in ("workers.pem", "workers.key", "crl.pem"):
            self.assertTrue((self.dir / "standby" / name).exists())
        dashboard = self.issue("dash", "viewer", "--host", "*.dash.example.org")
        self.assertEqual("", self.verify(dashboard, SERVER, "-verify_hostname", "a.dash.example.org"))
        self.assertIn("URI:espalier://viewer/dash", self.names(dashboard))

    def test_stolen_worker_authority_makes_workers_and_nobody_else(self):
        good, _ = self.forged("URI:espalier://worker/mallory", "clientAuth")
        self.assertEqual("", self.verify(good, CLIENT))
        for names in (
            "URI:espalier://admin/mallory",
            "URI:espalier://coordinator/mallory",
            "URI:espalier://worker/a,URI:espalier://admin/a",
            "URI:espalier://worker/a,DNS:c.example.org",
            "URI:espalier://worker/a,IP:127.0.0.1",
        ):
            bad, _ = self.forged(names)
            for purpose in (CLIENT, SERVER):
                self.assertRegex(self.verify(bad, purpose), "subtree violation|certificate purpose", names)

    def test_handshakes(self):
        def handshake(client_chain, client_key):
            """Whether a coordinator takes the client, which takes the coordinator."""
            holder = self.dir / "coordinator"
            server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            server.load_cert_chain(holder / "cert.pem", holder / "key.pem")
            server.load_verify_locations(holder / "ca.pem")
            server.load_verify_locations(holder / "crl.pem")
            server.verify_mode = ssl.CERT_REQUIRED
            server.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
            client = ssl.create_default_context(cafile=self.dir / "admin/ca.pem")
            client.load_cert_chain(client_chain, client_key)
            client.maximum_version = ssl.TLSVersion.TLSv1_2
            to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
            sides = [
                client.wrap_bio(to_client, to_server, server_hostname="c.example.org"),
                server.wrap_bio(to_server, to_client, server_side=True),
            ]
            for _ in range(10):
                for side in list(sides):
                    try:
                        side.do_handshake()
                        sides.remove(side)
                    except ssl.SSLWantReadError:
                        pass
                    except ssl.SSLError as error:
                        return error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else str(error)
                if not sides:
                    return "ok"
            return "no end"

        self.issue("edge-1", "worker")
        for name in ("admin", "edge-1", "coordinator"):
            self.assertEqual("ok", handshake(self.dir / name / "cert.pem", self.dir / name / "key.pem"), name)
        self.assertEqual("permitted subtree violation", handshake(*self.forged("URI:espalier://admin/a")))
        self.made("revoke", "edge-1")
        self.made("revoke", "admin")
        for name in ("admin", "edge-1"):
            self.assertEqual("certificate revoked", handshake(self.dir / name / "cert.pem", self.dir / name / "key.pem"))

    def test_requests_that_make_no_sense_are_refused(self):
        self.assertIn("renew", self.refused("CERT_EXISTS", 5, "issue", "admin", "--role", "admin"))
        for name in ("authority", "workers", "root", "Ada", "../ada", "a b", "a" * 64):
            self.refused("IDENTITY_INVALID", 2, "issue", name, "--role", "viewer")
        self.refused("USAGE", 2, "issue", "ada", "--role", "root")
        self.refused("USAGE", 2, "issue", "ada")
        for days in ("0", "366", "-1", "x"):
            self.refused("USAGE", 2, "issue", "ada", "--role", "viewer", "--days", days)
        self.refused("USAGE", 2, "issue", "c", "--role", "coordinator", "--days", "826")
        self.refused("USAGE", 2, "issue", "edge-1", "--role", "worker", "--host", "edge.example.org")
        self.refused("HOST_INVALID", 2, "issue", "dash", "--role", "viewer", "--host", "a:1")
        self.assertEqual({"root", "workers", "admin", "coordinator"}, set(self.listed()))
        self.assertEqual(["admin", "authority", "coordinator"], sorted(path.name for path in self.dir.iterdir()))

    def test_list_says_who_has_what_until_when(self):
        self.issue("soon", "submitter", "--days", "10")
        self.issue("dash", "viewer", "--host", "dash.example.org")
        rows = self.listed()
        self.assertEqual(["root", "workers", "admin", "coordinator", "dash", "soon"], list(rows))
        self.assertEqual(("AUTHORITY", "VALID"), (rows["root"]["role"], rows["root"]["state"]))
        self.assertEqual(("SUBMITTER", "ENDS_SOON"), (rows["soon"]["role"], rows["soon"]["state"]))
        self.assertEqual(["c.example.org", "localhost", "127.0.0.1", "::1"], rows["coordinator"]["hosts"])
        for name, days in (("root", 3650), ("workers", 1825), ("coordinator", 365), ("admin", 90), ("soon", 10)):
            self.assertIn(rows[name]["days_left"], (days - 1, days), name)
        serial = openssl("x509", "-noout", "-serial", "-in", self.dir / "dash/cert.pem")[1]
        self.assertEqual(int(serial.strip().split("=")[1], 16), int(rows["dash"]["serial"], 16))
        table = self.cert("list").ok()
        self.assertRegex(table.out, r"soon\tsubmitter\tENDS_SOON\t\d+\t")
        self.assertIn("cert renew NAME", table.err)

    def test_renewal_has_another_key_and_the_same_names(self):
        former = (self.dir / "coordinator/key.pem").read_text()
        kept = self.top / "former.pem"
        kept.write_text((self.dir / "coordinator/cert.pem").read_text())
        before = self.listed()["coordinator"]
        renewed = self.made("renew", "coordinator", "--host", "second.example.org")["certificates"][0]
        self.assertNotEqual(former, (self.dir / "coordinator/key.pem").read_text())
        self.assertTrue(self.fits("coordinator"))
        self.assertEqual([*before["hosts"], "second.example.org"], renewed["hosts"])
        certificate = self.dir / "coordinator/cert.pem"
        self.assertEqual("", self.verify(certificate, SERVER, "-verify_hostname", "second.example.org"))
        self.assertEqual("", self.verify(kept, SERVER))
        states = [row["state"] for row in self.made("list")["certificates"] if row["name"] == "coordinator"]
        self.assertEqual(["VALID", "REPLACED"], states)
        self.issue("short", "viewer", "--days", "40")
        self.assertIn(self.made("renew", "short")["certificates"][0]["days_left"], (39, 40))
        self.assertIn(self.made("renew", "short", "--days", "50")["certificates"][0]["days_left"], (49, 50))
        self.assertEqual([], [name for name in self.files() if name.endswith(".tmp")])
        self.refused("CERT_NOT_FOUND", 3, "renew", "nobody")
        self.refused("USAGE", 2, "renew")
        self.refused("USAGE", 2, "renew", "root")
        self.refused("USAGE", 2, "renew", "admin", "--crl")

    def test_folder_that_was_moved_away_is_made_again_by_a_renewal(self):
        (self.dir / "admin").rename(self.top / "taken")
        self.made("renew", "admin")
        self.assertTrue(self.fits("admin"))
        self.assertEqual("", self.verify(self.dir / "admin/cert.pem", CLIENT))

    def test_reader_meets_at_most_a_pair_that_does_not_fit_yet(self):
        done = threading.Event()

        def renew():
            for _ in range(5):
                self.cert("renew", "admin").ok()
            done.set()

        thread = threading.Thread(target=renew)
        thread.start()
        while not done.is_set():
            # Every file is whole at every moment.
            for name, command in (("key.pem", "pkey"), ("cert.pem", "x509"), ("ca.pem", "x509")):
                code, text = openssl(command, "-noout", "-in", self.dir / "admin" / name)
                self.assertEqual(0, code, text)
        thread.join()
        self.assertTrue(self.fits("admin"))

    def test_revoked_names_are_refused_with_all_their_certificates(self):
        ada = self.issue("ada", "submitter")
        former = self.top / "former.pem"
        former.write_text(ada.read_text())
        self.made("renew", "ada")
        bob = self.issue("bob", "submitter")
        self.assertEqual(["REVOKED"] * 2, [row["state"] for row in self.made("revoke", "ada")["certificates"]])
        for certificate in (ada, former):
            self.assertIn("certificate revoked", self.verify(certificate, CLIENT))
        self.assertEqual("", self.verify(bob, CLIENT))
        lists = (self.dir / "authority/crl.pem").read_bytes()
        self.assertEqual(lists, (self.dir / "coordinator/crl.pem").read_bytes())
        # Once more changes nothing, and who lost a key gets another one.
        self.made("revoke", "ada")
        self.made("renew", "ada")
        self.assertEqual("", self.verify(ada, CLIENT))
        self.assertIn("certificate revoked", self.verify(former, CLIENT))

    def test_serial_numbers_are_taken_as_tools_write_them(self):
        certificate = self.issue("ada", "submitter")
        serial = openssl("x509", "-noout", "-serial", "-in", certificate)[1].strip().split("=")[1]
        colons = ":".join(serial[i : i + 2] for i in range(0, len(serial), 2))
        self.made("revoke", "--serial", colons)
        self.assertIn("certificate revoked", self.verify(certificate, CLIENT))
        self.refused("CERT_NOT_FOUND", 3, "revoke", "--serial", "abc")
        self.refused("CERT_NOT_FOUND", 3, "revoke", "nobody")
        self.refused("SERIAL_INVALID", 2, "revoke", "--serial", "xyz", "--worker")
        for arguments in ([], ["ada", "--serial", "1"], ["ada", "--worker"]):
            self.refused("USAGE", 2, "revoke", *arguments)

    def test_workers_are_revoked_without_the_roots_key(self):
        joined, _ = self.forged("URI:espalier://worker/joined", "clientAuth")
        worker = self.issue("edge-1", "worker")
        (self.dir / "authority/ca.key").rename(self.top / "offline.key")
        serial = openssl("x509", "-noout", "-serial", "-in", joined)[1].strip().split("=")[1]
        self.made("revoke", "--serial", serial, "--worker")
        self.made("revoke", "edge-1")
        for certificate in (joined, worker):
            self.assertIn("certificate revoked", self.verify(certificate, CLIENT))
        self.assertEqual("", self.verify(self.dir / "admin/cert.pem", CLIENT))
        message = self.refused("FILE_NOT_FOUND", 3, "revoke", "admin")
        self.assertIn("kept elsewhere", message)
        (self.top / "offline.key").rename(self.dir / "authority/ca.key")
        self.made("revoke", "admin")
        for certificate in (joined, worker, self.dir / "admin/cert.pem"):
            self.assertIn("certificate revoked", self.verify(certificate, CLIENT))

    def test_lists_are_renewed(self):
        def number():
            return int(openssl("crl", "-noout", "-crlnumber", "-in", self.dir / "authority/crl.pem")[1].split("=")[1], 16)

        before = number()
        printed = self.made("renew", "--crl")
        self.assertEqual([], printed["certificates"])
        self.assertLess(before, number())
        self.assertEqual(
            (self.dir / "authority/crl.pem").read_bytes(), (self.dir / "coordinator/crl.pem").read_bytes()
        )

    def test_authority_for_workers_is_renewed_with_its_key(self):
        worker = self.issue("edge-1", "worker")
        key = (self.dir / "authority/workers.key").read_text()
        before = (self.dir / "authority/workers.pem").read_text()
        self.made("renew", "workers")
        after = (self.dir / "authority/workers.pem").read_text()
        self.assertNotEqual(before, after)
        self.assertEqual(after, (self.dir / "coordinator/workers.pem").read_text())
        self.assertEqual(key, (self.dir / "authority/workers.key").read_text())
        self.assertEqual("", self.verify(worker, CLIENT))
        self.assertEqual("", self.verify(self.issue("edge-2", "worker"), CLIENT))


class FolderTest(CertTest):
    def test_folders_that_are_none_are_named(self):
        message = self.refused("CERT_FOLDER_NOT_FOUND", 3, "list")
        self.assertIn(str(self.dir), message)
        self.assertIn("espalier cert init", message)

    def test_register_that_is_damaged_is_not_passed_over(self):
        self.cert("init").ok()
        register = self.dir / "authority/issued.jsonl"
        lines = register.read_text().splitlines()
        for damage in ("{}", "x", lines[0][:-5], json.dumps(json.loads(lines[0]) | {"role": "root"})):
            register.write_text("\n".join([*lines, damage]))
            self.assertIn("line 3", self.refused("CERT_REGISTER_DAMAGED", 5, "revoke", "admin"))
        register.write_text("\n".join(lines))
        self.made("revoke", "admin")
        self.assertEqual("REVOKED", self.listed()["admin"]["state"])

    def test_one_command_at_a_time_changes_a_folder(self):
        self.cert("init").ok()
        held = os.open(self.dir, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_EX)
        self.refused("CERT_FOLDER_BUSY", 5, "issue", "ada", "--role", "viewer")
        self.made("list")
        os.close(held)
        self.made("issue", "ada", "--role", "viewer")


if __name__ == "__main__":
    unittest.main()
