"""Which role may make which call: the whole table, over TLS, with certificates and with tokens."""

import pathlib
import sys
import tempfile
import unittest

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
from cluster import digits_job
from python_client_test import generate_stubs
from security import Secured

NOBODY = "nobody"
# Who is let in, beside "all of them", by the letters of ROLES. docs/security/roles.md has it for people.
ROLES = {"a": "admin", "s": "submitter", "v": "viewer", "w": "worker", "c": "coordinator"}
TABLE = {
    "CreateJob": "as", "GetJob": "asv", "ListJobs": "asv", "ListRounds": "asv", "WatchJob": "asv", "WatchJobs": "asv",
    "CancelJob": "as", "PauseJob": "as", "ResumeJob": "as", "RetryJob": "as", "DeleteJob": "as",
    "ListCheckpoints": "asv", "GetCheckpoint": "asv", "VerifyCheckpoint": "as", "GetTopology": "asv", "DownloadCheckpoint": "as",
    "DeleteCheckpoint": "as", "Recommend": "as", "Predict": "as",
    "ListMethods": "asv", "DescribeMethod": "asv", "GetClusterInfo": "asv", "ListWorkers": "asv", "WatchWorkers": "asv",
    "GetRoundProgress": "asv", "GetSystem": "asv",
    "DrainWorker": "a", "UndrainWorker": "a",
    "Session": "w", "Fetch": "w", "Submit": "w",
    "WhoAmI": "asvwc", "Join": "asvwc-", "RenewCertificate": "w", "RevokeWorker": "a",
    "CreateToken": "a", "ListTokens": "a", "RevokeToken": "a",
}  # fmt: skip
# Streams that go on for as long as somebody reads them.
ENDLESS = {"WatchJobs", "WatchWorkers"}


class RolesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.stubs = generate_stubs(cls.folder)
        cls.secured = cls.enterClassContext(Secured())
        for role in ROLES.values():
            if role != "coordinator":
                cls.secured.issue(f"some-{role}", role)
        for role in ("admin", "submitter", "viewer"):
            cls.secured.user_token(f"token-{role}", role)

    def credentials(self, caller):
        """Of a channel of somebody who is known by the folder of his certificate, or not at all."""
        certificates = self.secured.certificates
        trust = (certificates / "authority" / "ca.pem").read_bytes()
        if caller == NOBODY or caller.startswith("token-"):
            channel = grpc.ssl_channel_credentials(trust)
        else:
            own = certificates / caller
            channel = grpc.ssl_channel_credentials(
                trust, (own / "key.pem").read_bytes(), (own / "cert.pem").read_bytes()
            )
        if not caller.startswith("token-"):
            return channel
        token = (self.secured.folder / caller).read_text().strip()
        return grpc.composite_channel_credentials(channel, grpc.access_token_call_credentials(token))

    def methods(self):
        for name, module in self.stubs.items():
            if not name.endswith("_grpc"):
                for service in module.DESCRIPTOR.services_by_name.values():
                    yield from service.methods

    def call(self, channel, method):
        """How a call with an empty request ends."""
        path = f"/{method.containing_service.full_name}/{method.name}"
        kinds = {(False, False): channel.unary_unary, (False, True): channel.unary_stream,
                 (True, False): channel.stream_unary, (True, True): channel.stream_stream}  # fmt: skip
        call = kinds[method.client_streaming, method.server_streaming](path)
        request = iter([b""]) if method.client_streaming else b""
        try:
            answer = call(request, timeout=20)
            if method.server_streaming:
                for _ in answer:
                    if method.name in ENDLESS:
                        answer.cancel()
                        break
        except grpc.RpcError as error:
            return error.code(), error.details()
        return grpc.StatusCode.OK, ""

    def test_every_call_by_every_caller(self):
        callers = {f"some-{role}": letter for letter, role in ROLES.items() if role != "coordinator"}
        callers |= {"coordinator": "c", NOBODY: "-", "token-admin": "a", "token-submitter": "s", "token-viewer": "v"}
        methods = list(self.methods())
        self.assertEqual(set(TABLE), {method.name for method in methods})
        for caller, letter in callers.items():
            with grpc.secure_channel(self.secured.address, self.credentials(caller)) as channel:
                for method in methods:
                    with self.subTest(caller=caller, call=method.name):
                        code, words = self.call(channel, method)
                        refused = (
                            "expected a caller with the role" in words
                            or "expected a client certificate or a token" in words
                        )
                        self.assertEqual(letter not in TABLE[method.name], refused, (code, words))
                        if refused:
                            unknown = grpc.StatusCode.UNAUTHENTICATED
                            denied = grpc.StatusCode.PERMISSION_DENIED
                            self.assertEqual(unknown if letter == "-" else denied, code)

    def cli(self, who, *arguments):
        return self.secured.cli(*arguments, who=who)

    def submit(self, who, name, **changes):
        spec = digits_job()
        spec["federation"]["rounds"] = 2
        spec["checkpoint"] = {"every_rounds": 1}
        spec.update(changes)
        return self.cli(who, "job", "submit", self.secured.file(spec), "--name", name, "--wait", "-o", "json")

    def test_submitters_see_and_change_their_own_jobs(self):
        self.secured.issue("bob", "submitter")
        self.secured.issue("eve", "submitter")
        self.secured.issue("vic", "viewer")
        self.secured.add_worker("owned")
        self.assertEqual("bob", self.submit("bob", "of-bob").ok().json["owner"])
        self.submit("eve", "of-eve").ok()
        for command in (
            ("job", "get", "of-bob"),
            ("job", "rounds", "of-bob"),
            ("job", "watch", "of-bob"),
            ("job", "cancel", "of-bob"),
            ("job", "delete", "of-bob"),
            ("checkpoint", "get", "of-bob-1", "-O", str(self.folder / "stolen")),
            ("checkpoint", "verify", "of-bob-1"),
            ("checkpoint", "delete", "of-bob-1"),
        ):
            with self.subTest(command):
                refused = self.cli("eve", *command, "-o", "json")
                self.assertEqual(3, refused.code, refused.err)
                self.assertIn("of yours", refused.error["message"])
        # Names that are like it are no hint either.
        self.assertNotIn("of-bob", self.cli("eve", "job", "get", "of-bo").err.replace("'of-bo'", ""))
        listed = [job["name"] for job in self.cli("eve", "job", "list", "-o", "json").ok().json["jobs"]]
        self.assertEqual(["jobs/of-eve"], listed)
        checkpoints = self.cli("eve", "checkpoint", "list", "-o", "json").ok().json["checkpoints"]
        self.assertEqual({"jobs/of-eve"}, {checkpoint["job"] for checkpoint in checkpoints})
        # Nor may a job begin with another's model.
        for source in ("jobs/of-bob", "checkpoints/of-bob-1"):
            spec = digits_job()
            spec["model"] = {"pretrained": source}
            refused = self.cli("eve", "job", "submit", self.secured.file(spec), "-o", "json")
            self.assertEqual("CHECKPOINT_NOT_FOUND", refused.error["reason"], refused.err)
        for who in ("vic", "admin"):
            jobs = self.cli(who, "job", "list", "-o", "json").ok().json["jobs"]
            self.assertLessEqual({"jobs/of-bob", "jobs/of-eve"}, {job["name"] for job in jobs})
        self.assertEqual(4, self.cli("vic", "job", "cancel", "of-bob").code)
        self.cli("bob", "checkpoint", "get", "of-bob-1", "-O", str(self.folder / "own")).ok()
        # The owner is in the file, and so stays when the job is gone and its name another's.
        self.cli("bob", "job", "delete", "of-bob").ok()
        if self.cli("bob", "checkpoint", "list", "--job", "of-bob", "-o", "json").json.get("checkpoints"):
            self.assertEqual(3, self.cli("eve", "checkpoint", "verify", "of-bob-1").code)

    def test_a_worker_is_who_its_certificate_says(self):
        self.secured.issue("honest", "worker")
        liar = self.secured.start_worker("liar", "--id", "another", tls=self.secured.certificates / "honest")
        self.assertEqual(78, liar.wait(), liar.errors())
        self.assertIn("WORKER_ID_MISMATCH", liar.errors())
        person = self.secured.start_worker("person", "--id", "admin", tls=self.secured.certificates / "admin")
        self.assertEqual(78, person.wait(), person.errors())
        self.assertIn("ROLE_NOT_ALLOWED", person.errors())


if __name__ == "__main__":
    unittest.main()
