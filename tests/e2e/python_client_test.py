"""The API from another language: stubs made from the installed protocol and nothing else of the project."""

import importlib
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

import grpc
import grpc_tools.protoc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import proto_reflection_descriptor_database as reflection

import cluster

DEADLINE_S = cluster.DEADLINE_S


def install_protocol(folder):
    """Installs the protocol as a user would, and returns the folder that holds it."""
    subprocess.run(
        ["cmake", "--install", cluster.BIN.parent, "--component", "protocol", "--prefix", folder],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return pathlib.Path(folder) / "share/espalier/proto"


def generate_stubs(folder, proto=cluster.SOURCE / "proto"):
    """Generates into `folder` the messages and stubs of every file of the protocol, and imports them."""
    files = [str(path) for path in sorted(proto.glob("espalier/v1/*.proto"))]
    own = pathlib.Path(grpc_tools.protoc.__file__).parent / "_proto"
    code = grpc_tools.protoc.main(
        [
            "protoc",
            f"-I{proto}",
            f"-I{own}",
            f"--python_out={folder}",
            f"--grpc_python_out={folder}",
            *files,
        ]
    )
    if code != 0:
        raise RuntimeError(f"protoc ended with {code}")
    sys.path.insert(0, str(folder))
    names = ("access", "checkpoint", "cluster", "events", "job", "method", "predict", "progress", "structure", "system", "types", "worker")
    return {name: importlib.import_module(f"espalier.v1.{name}_pb2") for name in names} | {
        f"{name}_grpc": importlib.import_module(f"espalier.v1.{name}_pb2_grpc") for name in names
    }


class PythonClientTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.proto = install_protocol(cls.folder / "installed")
        (cls.folder / "stubs").mkdir()
        cls.api = generate_stubs(cls.folder / "stubs", cls.proto)
        cls.cluster = cls.enterClassContext(cluster.Cluster(workers=1))
        cls.channel = cls.enterClassContext(grpc.insecure_channel(cls.cluster.address))

    def stub(self, service, name):
        return getattr(self.api[f"{service}_grpc"], name)(self.channel)

    def spec(self, rounds=2):
        job = self.api["job"]
        spec = job.JobSpec()
        spec.model.input_features = 64
        spec.model.layers.add().linear.units = 10
        spec.data.dataset = "digits"
        spec.data.test_fraction = 0.2
        spec.data.partition.shards = 2
        spec.method.name = "static"
        spec.method.parameters["density"].double_value = 0.5
        spec.training.optimizer.learning_rate = 0.05
        spec.federation.rounds = rounds
        return spec

    def detail(self, error):
        """The ErrorDetail of a failed call, from the trailer that gRPC libraries define for it."""
        trailers = dict(error.trailing_metadata())
        status = self.api["types"].RpcStatus.FromString(trailers["grpc-status-details-bin"])
        detail = self.api["types"].ErrorDetail()
        self.assertTrue(status.details[0].Unpack(detail))
        self.assertEqual(error.code().value[0], status.code)
        return detail

    def test_health(self):
        health = health_pb2_grpc.HealthStub(self.channel)
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
        self.assertEqual(health_pb2.HealthCheckResponse.SERVING, answer.status)

    def test_create_and_watch(self):
        job, jobs = self.api["job"], self.stub("job", "JobServiceStub")
        created = jobs.CreateJob(
            job.CreateJobRequest(spec=self.spec(), job_id="from-python"), timeout=DEADLINE_S
        )
        self.assertEqual("jobs/from-python", created.name)
        events = [
            answer.event
            for answer in jobs.WatchJob(job.WatchJobRequest(name=created.name), timeout=DEADLINE_S)
        ]
        self.assertEqual(list(range(1, len(events) + 1)), [event.sequence for event in events])
        committed = [
            e.round_committed.summary.round for e in events if e.HasField("round_committed")
        ]
        self.assertEqual([1, 2], committed)
        self.assertEqual(job.Job.STATE_SUCCEEDED, events[-1].state_changed.state)
        done = jobs.GetJob(job.GetJobRequest(name=created.name), timeout=DEADLINE_S)
        self.assertEqual(job.Job.STATE_SUCCEEDED, done.state)

    def test_watch_from_an_event_that_cannot_be(self):
        job, jobs = self.api["job"], self.stub("job", "JobServiceStub")
        created = jobs.CreateJob(job.CreateJobRequest(spec=self.spec(1)), timeout=DEADLINE_S)
        events = list(jobs.WatchJob(job.WatchJobRequest(name=created.name), timeout=DEADLINE_S))

        def watch(after):
            request = job.WatchJobRequest(name=created.name, after_sequence=after)
            return list(jobs.WatchJob(request, timeout=DEADLINE_S))

        self.assertEqual([], watch(len(events)))
        for after, code in (
            (-1, grpc.StatusCode.INVALID_ARGUMENT),
            (len(events) + 1, grpc.StatusCode.OUT_OF_RANGE),
            (2**62, grpc.StatusCode.OUT_OF_RANGE),
        ):
            with self.assertRaises(grpc.RpcError) as caught:
                watch(after)
            self.assertEqual(code, caught.exception.code())
            self.assertIn(str(after), caught.exception.details())
            self.assertEqual("INVALID_SEQUENCE", self.detail(caught.exception).reason)
        refused = self.cluster.cli("job", "watch", created.name, "--after", 999, "-o", "json")
        self.assertEqual((2, "INVALID_SEQUENCE"), (refused.code, refused.error["reason"]))

    def test_more_mistakes_than_an_answer_holds(self):
        job, jobs = self.api["job"], self.stub("job", "JobServiceStub")
        spec = self.spec()
        for _ in range(1000):
            spec.model.layers.add().linear.units = -1
        with self.assertRaises(grpc.RpcError) as caught:
            jobs.CreateJob(job.CreateJobRequest(spec=spec), timeout=DEADLINE_S)
        self.assertEqual(grpc.StatusCode.INVALID_ARGUMENT, caught.exception.code())
        detail = self.detail(caught.exception)
        self.assertEqual("INVALID_JOB", detail.reason)
        self.assertGreater(len(detail.field_violations), 0)

    def test_spec_that_answers_could_not_repeat(self):
        job, jobs = self.api["job"], self.stub("job", "JobServiceStub")
        spec = self.spec()
        spec.display_name = "x" * 2_000_000
        with self.assertRaises(grpc.RpcError) as caught:
            jobs.CreateJob(job.CreateJobRequest(spec=spec), timeout=DEADLINE_S)
        self.assertEqual("SPEC_TOO_LARGE", self.detail(caught.exception).reason)

    def test_download(self):
        job, jobs = self.api["job"], self.stub("job", "JobServiceStub")
        checkpoint, checkpoints = self.api["checkpoint"], self.stub(
            "checkpoint", "CheckpointServiceStub"
        )
        name = jobs.CreateJob(job.CreateJobRequest(spec=self.spec(1)), timeout=DEADLINE_S).name
        list(jobs.WatchJob(job.WatchJobRequest(name=name), timeout=DEADLINE_S))
        latest = jobs.GetJob(job.GetJobRequest(name=name), timeout=DEADLINE_S).latest_checkpoint
        about = checkpoints.GetCheckpoint(
            checkpoint.GetCheckpointRequest(name=latest), timeout=DEADLINE_S
        )

        def download(**fields):
            request = checkpoint.DownloadCheckpointRequest(name=latest, **fields)
            return list(checkpoints.DownloadCheckpoint(request, timeout=DEADLINE_S))

        chunks = download(ticket=about.download_ticket)
        self.assertEqual(about.size_bytes, sum(len(chunk.data) for chunk in chunks))
        # The same ticket again: a download that is continued.
        rest = download(ticket=about.download_ticket, offset=100)
        whole = b"".join(chunk.data for chunk in chunks)
        self.assertEqual(whole[100:], b"".join(chunk.data for chunk in rest))
        for ticket in (b"", b"0" * 16, about.download_ticket[:-1]):
            with self.assertRaises(grpc.RpcError) as refused:
                download(ticket=ticket)
            self.assertEqual(grpc.StatusCode.PERMISSION_DENIED, refused.exception.code())
            self.assertEqual("TICKET_INVALID", self.detail(refused.exception).reason)
        listed = checkpoints.ListCheckpoints(
            checkpoint.ListCheckpointsRequest(job=name), timeout=DEADLINE_S
        )
        self.assertEqual({b""}, {one.download_ticket for one in listed.checkpoints})

    def test_lists_come_in_pages(self):
        job, jobs = self.api["job"], self.stub("job", "JobServiceStub")
        names = {
            jobs.CreateJob(job.CreateJobRequest(spec=self.spec(1)), timeout=DEADLINE_S).name
            for _ in range(3)
        }
        seen, token = [], ""
        while True:
            page = jobs.ListJobs(
                job.ListJobsRequest(page_size=1, page_token=token), timeout=DEADLINE_S
            )
            self.assertLessEqual(len(page.jobs), 1)
            seen += [entry.name for entry in page.jobs]
            token = page.next_page_token
            if not token:
                break
        self.assertLessEqual(names, set(seen))
        self.assertEqual(len(seen), len(set(seen)))
        for request in (
            job.ListJobsRequest(page_size=-1),
            job.ListJobsRequest(page_token="made up"),
        ):
            with self.assertRaises(grpc.RpcError) as refused:
                jobs.ListJobs(request, timeout=DEADLINE_S)
            self.assertEqual(grpc.StatusCode.INVALID_ARGUMENT, refused.exception.code())

    def test_errors_carry_their_details(self):
        job, jobs = self.api["job"], self.stub("job", "JobServiceStub")
        spec = self.spec(0)
        spec.training.optimizer.learning_rate = -1
        spec.method.parameters["density"].double_value = 3
        with self.assertRaises(grpc.RpcError) as refused:
            jobs.CreateJob(job.CreateJobRequest(spec=spec), timeout=DEADLINE_S)
        self.assertEqual(grpc.StatusCode.INVALID_ARGUMENT, refused.exception.code())
        detail = self.detail(refused.exception)
        self.assertEqual("INVALID_JOB", detail.reason)
        self.assertEqual(
            {
                "spec.federation.rounds",
                "spec.training.optimizer.learning_rate",
                "spec.method.parameters.density",
            },
            {v.field for v in detail.field_violations},
        )

    def test_empty_and_absurd_requests_are_refused(self):
        job, jobs = self.api["job"], self.stub("job", "JobServiceStub")
        absurd = self.spec()
        absurd.model.layers[0].linear.units = 10_000_000
        absurd.model.input_features = 2**31 - 1
        for request in (job.CreateJobRequest(), job.CreateJobRequest(spec=absurd)):
            with self.assertRaises(grpc.RpcError) as refused:
                jobs.CreateJob(request, timeout=DEADLINE_S)
            self.assertEqual(grpc.StatusCode.INVALID_ARGUMENT, refused.exception.code())
            self.assertTrue(self.detail(refused.exception).field_violations)

    def open_session(self, *messages):
        """What a worker that sends these messages is told in the end."""
        worker = self.api["worker"]
        stream = self.stub("worker", "WorkerServiceStub").Session(
            iter([worker.WorkerMessage(**message) for message in messages]), timeout=DEADLINE_S
        )
        with self.assertRaises(grpc.RpcError) as refused:
            list(stream)
        return refused.exception

    def test_worker_of_another_protocol(self):
        worker, types = self.api["worker"], self.api["types"]
        error = self.open_session(
            {
                "register": worker.Register(
                    worker_id="future",
                    protocol=types.ProtocolRange(min=99, max=99),
                    version="9.9.9",
                )
            }
        )
        self.assertEqual(grpc.StatusCode.FAILED_PRECONDITION, error.code())
        self.assertEqual("PROTOCOL_MISMATCH", self.detail(error).reason)
        for word in ("protocol 1 to 1", "99 to 99", "9.9.9", "install the same version"):
            self.assertIn(word, error.details())
        self.assertNotIn("future", self.cluster.worker_states())

    def test_worker_that_does_not_register_first(self):
        worker = self.api["worker"]
        error = self.open_session({"heartbeat": worker.Heartbeat()})
        self.assertEqual(
            (grpc.StatusCode.FAILED_PRECONDITION, "NOT_REGISTERED"),
            (error.code(), self.detail(error).reason),
        )

    def test_worker_with_a_taken_name(self):
        worker, types = self.api["worker"], self.api["types"]
        error = self.open_session(
            {
                "register": worker.Register(
                    worker_id="w1", protocol=types.ProtocolRange(min=1, max=1)
                )
            }
        )
        self.assertEqual(
            (grpc.StatusCode.ALREADY_EXISTS, "WORKER_EXISTS"),
            (error.code(), self.detail(error).reason),
        )

    def test_uploads_of_strangers_are_refused(self):
        worker = self.api["worker"]
        stub = self.stub("worker", "WorkerServiceStub")
        header = worker.PartialHeader(
            task_id="task-1",
            update_id="x",
            session=b"guessed",
            epoch=worker.Epoch(incarnation=1, counter=1),
            body_bytes=1 << 60,
            sections=[worker.Section(kind=worker.SECTION_KIND_VALUES, count=1 << 58, bytes=1 << 60)],
        )
        with self.assertRaises(grpc.RpcError) as refused:
            stub.Submit(iter([worker.SubmitRequest(header=header)]), timeout=DEADLINE_S)
        self.assertIn(
            refused.exception.code(),
            (
                grpc.StatusCode.ABORTED,
                grpc.StatusCode.INVALID_ARGUMENT,
                grpc.StatusCode.FAILED_PRECONDITION,
                grpc.StatusCode.RESOURCE_EXHAUSTED,
            ),
        )
        self.assertTrue(self.detail(refused.exception).reason)
        with self.assertRaises(grpc.RpcError) as refused:
            list(stub.Fetch(worker.FetchRequest(session=b"guessed", digest="00"), timeout=DEADLINE_S))
        self.assertTrue(self.detail(refused.exception).reason)

    def reflected(self, address):
        """The services that the reflection service names; None where there is none."""
        with grpc.insecure_channel(address) as channel:
            served = reflection.ProtoReflectionDescriptorDatabase(channel)
            try:
                return set(served.get_services())
            except grpc.RpcError as error:
                self.assertEqual(grpc.StatusCode.UNIMPLEMENTED, error.code())
                return None

    def test_reflection_is_there_by_itself_on_loopback_alone(self):
        services = {"AccessService", "CheckpointService", "ClusterService", "JobService", "MethodService", "WorkerService"}
        whole = {f"espalier.v1.{name}" for name in services}
        self.assertLessEqual(whole, self.reflected(self.cluster.address))
        everywhere = ("--listen", "0.0.0.0:0", "--insecure")
        for arguments, served in (
            (everywhere, False),
            ((*everywhere, "--reflection"), True),
            (("--no-reflection",), False),
            (("--listen", "localhost:0"), True),
        ):
            with self.subTest(arguments), cluster.Cluster(coordinator=arguments) as own:
                found = self.reflected(own.address.replace("0.0.0.0", "127.0.0.1"))
                self.assertEqual(served, found is not None)

    def test_the_former_name_of_the_flag_is_explained(self):
        ended = subprocess.run(
            [cluster.BIN / "espalier-coordinator", "--debug-reflection"],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(64, ended.returncode)
        self.assertIn("write --reflection, or leave it out", ended.stderr)

    def test_rounds_in_pages(self):
        job, jobs = self.api["job"], self.stub("job", "JobServiceStub")
        name = self.cluster.run(cluster.digits_job(25), "--name", "in-pages")["name"]

        def pages(**fields):
            token = ""
            while True:
                page = jobs.ListRounds(
                    job.ListRoundsRequest(job=name, page_token=token, **fields), timeout=DEADLINE_S
                )
                self.assertEqual(25, page.total_rounds)
                yield [one.round for one in page.rounds]
                token = page.next_page_token
                if not token:
                    return

        self.assertEqual(list(range(1, 26)), sum(pages(page_size=10), []))
        self.assertEqual([10, 10, 5], [len(page) for page in pages(page_size=10)])
        some = list(pages(page_size=4, max_points=7))
        self.assertEqual([4, 3], [len(page) for page in some])
        self.assertLessEqual({1, 25}, set(sum(some, [])))
        self.assertEqual(sum(some, []), sum(pages(max_points=7), []))
        for wrong in (
            {"page_size": -1},
            {"max_points": -1},
            {"page_token": "3"},
            {"page_token": "0.26.26"},
            {"page_token": "x.25.25"},
            {"page_token": "0.25.26"},
            {"page_token": "26.25.25"},
        ):
            with self.subTest(wrong), self.assertRaises(grpc.RpcError) as refused:
                jobs.ListRounds(job.ListRoundsRequest(job=name, **wrong), timeout=DEADLINE_S)
            self.assertEqual("INVALID_PAGE", self.detail(refused.exception).reason)
        with self.assertRaises(grpc.RpcError) as refused:
            jobs.ListRounds(job.ListRoundsRequest(job="jobs/absent"), timeout=DEADLINE_S)
        self.assertEqual(grpc.StatusCode.NOT_FOUND, refused.exception.code())
        self.assertEqual("JOB_NOT_FOUND", self.detail(refused.exception).reason)

    def test_programs_of_the_installed_readme(self):
        readme = (self.proto / "README.md").read_text()
        programs = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
        self.assertEqual(2, len(programs))
        for program in programs:
            with self.subTest(program):
                done = subprocess.run(
                    [sys.executable, "-c", program.replace("127.0.0.1:7070", self.cluster.address)],
                    capture_output=True,
                    text=True,
                    check=False,
                    cwd=self.folder,
                )
                self.assertEqual((0, ""), (done.returncode, done.stderr))
                self.assertRegex(done.stdout, r"(?m)^\d+\.\d+\.\d+$")

    def test_installed_files_are_whole(self):
        own = {path.name for path in (cluster.SOURCE / "proto/espalier/v1").iterdir()}
        self.assertEqual(own, {path.name for path in (self.proto / "espalier/v1").iterdir()})
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                ["protoc", "-I", ".", f"--descriptor_set_out={folder}/set"]
                + [f"espalier/v1/{name}" for name in sorted(own)],
                check=True,
                cwd=self.proto,
            )


if __name__ == "__main__":
    unittest.main()
