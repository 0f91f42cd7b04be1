"""Names that lead out of folders and text that forges lines (rows 41 and 55), from callers who are let in over TLS."""

import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
import urllib.request

import grpc
from google.protobuf import message_factory

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "support"))

from hostile_text import HOSTILE
from python_client_test import generate_stubs
from security import Secured

STOLEN = "stolen-by-a-name"
# Calls that take no name but another kind of request, or would keep this test waiting.
STREAMS_IN = {"Session", "Submit"}
HOSTILE_NAMES = (
    HOSTILE, f"../{STOLEN}", f"/tmp/{STOLEN}", f"{STOLEN}/../../{STOLEN}", "..", ".", "", "-rf", f"a\0{STOLEN}",
    "\udcff".encode("utf-8", "surrogatepass").decode("latin-1"), "a" * 5000, "%2e%2e%2f", "../" * 200 + "etc/passwd",
)  # fmt: skip
STRING, MESSAGE = 9, 11


def fill(message, text, depth=4):
    """Puts `text` into every text of a message, which otherwise makes sense."""
    if message.DESCRIPTOR.full_name == "google.protobuf.Duration":
        message.seconds = 3600
        return message
    for field in message.DESCRIPTOR.fields:
        if field.type == STRING:
            if field.is_repeated:
                getattr(message, field.name).append(text)
            elif field.containing_oneof is None and field.name != "page_token":
                setattr(message, field.name, text)
        elif field.type == MESSAGE and not field.message_type.GetOptions().map_entry and depth:
            inner = getattr(message, field.name)
            fill(inner.add() if field.is_repeated else inner, text, depth - 1)
    return message


class NamesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.stubs = generate_stubs(cls.folder)
        cls.secured = cls.enterClassContext(Secured())

    def channel(self, folder):
        credentials = grpc.ssl_channel_credentials(
            self.secured.trust().read_bytes(), (folder / "key.pem").read_bytes(), (folder / "cert.pem").read_bytes()
        )
        return self.enterContext(grpc.secure_channel(self.secured.address, credentials))

    def methods(self):
        for name, module in self.stubs.items():
            if not name.endswith("_grpc"):
                for service in module.DESCRIPTOR.services_by_name.values():
                    yield from (method for method in service.methods if method.name not in STREAMS_IN)

    def call(self, channel, method, text):
        request = fill(message_factory.GetMessageClass(method.input_type)(), text)
        path = f"/{method.containing_service.full_name}/{method.name}"
        kind = channel.unary_stream if method.server_streaming else channel.unary_unary
        call = kind(path, request_serializer=lambda message: message.SerializeToString())
        try:
            answer = call(request, timeout=2 if method.server_streaming else 20)
            return list(answer) if method.server_streaming else answer
        except grpc.RpcError as error:
            return error.code(), error.details()

    def files(self):
        """What is in the coordinator's folder and beside it, but for what grows as it should."""
        return {
            path for path in self.secured.folder.rglob("*")
            if "audit" not in path.parts and not path.name.startswith("jobs.sqlite")
        }  # fmt: skip

    def check_lines(self):
        """Everything that the coordinator has written is lines of its own."""
        log = (self.secured.folder / "coordinator.log").read_text(encoding="utf-8")
        for line in log.splitlines():
            self.assertRegex(line, r"^(level=|time=|\{|\d{4}-|espalier|[DIWE])", line)
        printed = self.secured.cli("audit", "list", self.secured.folder / "data/audit").ok().out
        page = urllib.request.urlopen(f"http://{self.secured.metrics}/metrics", timeout=10).read().decode()
        for text in (log, printed, page):
            self.assertFalse(set(text) & (set(HOSTILE) - set("x\nforged  SUCCEEDED[2J]0;titley\t")))
            self.assertIsNone(re.search(r"^\s*forged", text, re.MULTILINE))

    def test_no_call_leads_out_of_folders_or_forges_a_line(self):
        channel = self.channel(self.secured.certificates / "admin")
        before = self.files()
        for method in self.methods():
            for text in HOSTILE_NAMES:
                for prefix in ("", "jobs/", "checkpoints/", "workers/", "tokens/"):
                    answer = self.call(channel, method, prefix + text)
                    code = answer[0] if isinstance(answer, tuple) else grpc.StatusCode.OK
                    with self.subTest(call=method.name, text=prefix + text):
                        self.assertNotIn(code, (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE))
        self.assertEqual(before, self.files())
        self.assertFalse(list(pathlib.Path("/tmp").glob(f"*{STOLEN}*")))
        self.check_lines()
        self.secured.cli("audit", "verify", self.secured.folder / "data/audit").ok()
        self.assertTrue(self.secured.coordinator.running())

    def test_no_certificate_forges_a_line(self):
        """One that the root did sign, whose subject and names are no names."""
        authority = self.secured.certificates / "authority"
        mallory = self.folder / "mallory"
        mallory.mkdir()

        def openssl(*words):
            subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)

        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", mallory / "key.pem")
        subject = "/CN=x\nforged level=error\x1b[2J"
        openssl("req", "-new", "-utf8", "-key", mallory / "key.pem", "-subj", subject, "-out", mallory / "csr.pem")
        for number, names in enumerate(("URI:espalier://admin/../x", "URI:espalier://admin/x forged", "URI:espalier://root/x")):
            (mallory / "extensions").write_text(
                f"subjectAltName={names}\nextendedKeyUsage=clientAuth\nkeyUsage=critical,digitalSignature\n"
                "basicConstraints=CA:FALSE\n"
            )
            openssl("x509", "-req", "-in", mallory / "csr.pem", "-CA", authority / "ca.pem", "-CAkey", authority / "ca.key",
                    "-extfile", mallory / "extensions", "-days", "7", "-set_serial", number + 77, "-out", mallory / "cert.pem")
            for method in self.methods():
                if method.name == "ListJobs":
                    code, words = self.call(self.channel(mallory), method, "")
                    self.assertEqual(grpc.StatusCode.UNAUTHENTICATED, code, words)
        self.check_lines()


if __name__ == "__main__":
    unittest.main()
