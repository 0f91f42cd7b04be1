"""What the command line prints: text from elsewhere steers no terminal and forges no line, an output that
cannot be written is an error, and a printed job file can be submitted again.
"""

import concurrent.futures
import pathlib
import subprocess
import tempfile
import unittest

import grpc
from google.protobuf import descriptor as descriptors

import cluster
import terminal
from cluster import digits_job, espalier
from python_client_test import generate_stubs

EXHAUSTED = 8

# A line at line start, controls of terminals (C0, C1), of direction and of lines, invisible characters.
HOSTILE = (
    "x\nforged  SUCCEEDED\r\tforged\x1b[2J\x1b]0;title\x07\x7f\x9b2J\u202e\u2066\u061c\u2028forged\u2029"
    "\u200b\ufeff\U000e0041y"
)
FORBIDDEN = set(HOSTILE) - set("x forged  SUCCEEDED[2J]0;titley")


def fill(message, depth=0):
    """Sets every field: texts are hostile."""
    for field in message.DESCRIPTOR.fields:
        is_list = hasattr(getattr(message, field.name), "append") or hasattr(
            getattr(message, field.name), "add"
        )
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)[HOSTILE].string_value = HOSTILE
        elif field.message_type is not None:
            if depth < 6:
                target = getattr(message, field.name)
                fill(target.add() if is_list else target, depth + 1)
                if not is_list:
                    target.SetInParent()
        else:
            value = 1
            if field.cpp_type == descriptors.FieldDescriptor.CPPTYPE_STRING:
                value = HOSTILE
            elif field.cpp_type == descriptors.FieldDescriptor.CPPTYPE_ENUM:
                value = field.enum_type.values[-1].number
            if is_list:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)
    return message


class HostileCoordinator:
    """Answers every call with texts that a terminal would obey."""

    def __init__(self, api):
        self._api = api
        self.fails = False
        self._server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        for name, service in (
            ("job", "JobService"),
            ("method", "MethodService"),
            ("cluster", "ClusterService"),
            ("checkpoint", "CheckpointService"),
        ):
            self._add(api[name].DESCRIPTOR.services_by_name[service])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self):
        self._server.start()
        return self

    def __exit__(self, *_):
        self._server.stop(None).wait()

    def _add(self, service):
        handlers = {}
        for method in service.methods:
            answer, request = method.output_type._concrete_class, method.input_type._concrete_class
            make = (
                grpc.unary_stream_rpc_method_handler
                if method.name in ("WatchJob", "DownloadCheckpoint")
                else grpc.unary_unary_rpc_method_handler
            )
            handlers[method.name] = make(
                self._events if method.name == "WatchJob" else self._answer(answer),
                request.FromString,
                answer.SerializeToString,
            )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service.full_name, handlers),)
        )

    def _answer(self, kind):
        def handler(_, context):
            if self.fails:
                self._abort(context)
            answer = fill(kind())
            for name in ("next_page_token", "state"):
                if name in kind.DESCRIPTOR.fields_by_name:
                    answer.ClearField(name)
            if "state" in kind.DESCRIPTOR.fields_by_name:
                answer.state = self._api["job"].Job.STATE_FAILED
            return answer

        return handler

    def _events(self, _, context):
        if self.fails:
            self._abort(context)
        kinds = self._api["job"].JobEvent.DESCRIPTOR.oneofs_by_name["kind"].fields
        for number, kind in enumerate(kinds, 1):
            answer = self._api["job"].WatchJobResponse()
            answer.event.sequence = number
            fill(getattr(answer.event, kind.name))
            yield answer

    def _abort(self, context):
        detail = fill(self._api["types"].ErrorDetail())
        status = self._api["types"].RpcStatus(code=9, message=HOSTILE)
        status.details.add().Pack(detail)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, HOSTILE)


COMMANDS = [
    ("job", "list"),
    ("job", "get", "x"),
    ("job", "get", "x", "--spec"),
    ("job", "watch", "x"),
    ("job", "cancel", "x"),
    ("job", "submit", cluster.EXAMPLES / "digits-set.yaml"),
    ("job", "submit", cluster.EXAMPLES / "digits-set.yaml", "--watch"),
    ("job", "submit", cluster.EXAMPLES / "digits-set.yaml", "--dry-run"),
    ("worker", "list"),
    ("method", "list"),
    ("method", "describe", "x"),
    ("checkpoint", "list"),
    ("checkpoint", "get", "x", "-O", "/nonexistent/x"),
    ("recommend", "x", "--user", "1"),
    ("generate", "x", "--tokenizer", "bytes", "--prompt", "x"),
    ("cluster", "status"),
]


class HostileTextTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        api = generate_stubs(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.coordinator = cls.enterClassContext(HostileCoordinator(api))

    def check(self, text, what):
        self.assertFalse((FORBIDDEN - set("\n\t")) & set(text), (what, text))
        for line in text.splitlines():
            self.assertFalse(line.lstrip().startswith("forged"), (what, text))

    def test_pipes_and_data_formats(self):
        for self.coordinator.fails in (False, True):
            for command in COMMANDS:
                for form in ((), ("-o", "json"), ("-o", "yaml")):
                    with self.subTest(command=command, form=form, fails=self.coordinator.fails):
                        result = espalier(*command, *form, server=self.coordinator.address)
                        self.check(result.out, command)
                        self.check(result.err, command)
                        self.assertNotEqual("", result.out + result.err)

    def test_terminals(self):
        for self.coordinator.fails in (False, True):
            for command in COMMANDS:
                with self.subTest(command=command, fails=self.coordinator.fails):
                    with terminal.Terminal(
                        *command, columns=100, ESPALIER_SERVER=self.coordinator.address
                    ) as person:
                        person.read_to_end()
                        self.check(person.screen, command)


class FullDiskTest(unittest.TestCase):
    def test_every_command_fails(self):
        with cluster.Cluster(workers=1) as own:
            done = own.run(digits_job(rounds=1), "--name", "done")
            commands = [
                ("job", "list"),
                ("job", "get", "done"),
                ("job", "get", "done", "--spec"),
                ("job", "watch", "done"),
                ("job", "submit", own.file(digits_job(rounds=1))),
                ("worker", "list"),
                ("method", "list"),
                ("method", "describe", "set"),
                ("checkpoint", "list"),
                ("checkpoint", "get", done["latest_checkpoint"], "-O", own.folder / "model"),
                ("cluster", "status"),
                ("version",),
                ("--help",),
                ("job", "submit", "--help"),
            ]
            for command in commands:
                for form in ((), ("-o", "json")):
                    with self.subTest(command=command, form=form), open("/dev/full", "wb") as full:
                        result = subprocess.run(
                            [cluster.BIN / "espalier", "--server", own.address]
                            + [str(word) for word in (*command, *form)],
                            stdout=full,
                            stderr=subprocess.PIPE,
                            check=False,
                            timeout=60,
                        )
                        self.assertEqual(EXHAUSTED, result.returncode, result.stderr)
                        self.assertIn(b"could not be written", result.stderr)

    def test_closed_pipe_ends_quietly(self):
        with cluster.Cluster(workers=1) as own:
            own.submit(digits_job(rounds=cluster.ENDLESS), "--name", "endless")
            watcher = own.background("job", "watch", "endless", "-o", "json")
            watcher.line()
            watcher._popen.stdout.close()
            self.assertNotEqual(0, watcher.wait())


class SpecTest(unittest.TestCase):
    """`job get --spec` of jobs that ran is a job file of the same job."""

    def check(self, own, job, name, *words):
        own.run(job, "--name", name)
        text = own.cli("job", "get", name, "--spec").ok().out
        for word in words:
            self.assertIn(word, text)
        path = pathlib.Path(own.folder) / f"{name}.yaml"
        path.write_text(text)
        own.cli("job", "submit", path, "--dry-run").ok()
        own.cli("job", "submit", path, "--name", f"{name}-again").ok()
        self.assertEqual(text, own.cli("job", "get", f"{name}-again", "--spec").ok().out)

    def test_lists(self):
        with cluster.Cluster(workers=1) as own:
            steps = digits_job(rounds=2)
            steps["training"] = steps["training"] | {
                "schedule": {"kind": "step", "milestones": [2, 4], "factor": 0.5}
            }
            self.check(own, steps, "steps", "    milestones:\n      - 2\n      - 4\n")
            image = {
                "input_features": 64,
                "input_image": {"channels": 1, "height": 8, "width": 8},
                "layers": [
                    {"conv2d": {"channels": 2, "kernel": 3, "padding": 0, "activation": "relu"}},
                    {"global_avg_pool": {}},
                    {"linear": {"units": 10}},
                ],
            }
            given = digits_job(rounds=1, model=image, method={"name": "dense"})
            del given["data"]["scale"]
            given["data"] = given["data"] | {"channel_mean": [5.5], "channel_std": [4]}
            self.check(own, given, "given", "  channel_mean:\n    - 5.5\n")
            measured = digits_job(rounds=1, model=image, method={"name": "dense"})
            measured["data"] = measured["data"] | {"normalization": "federated"}
            self.check(own, measured, "measured", "  channel_std:\n    - ")


if __name__ == "__main__":
    unittest.main()
