"""The API from another language: stubs made from proto/ and nothing else of the project."""

import importlib
import pathlib
import sys
import tempfile
import unittest

import grpc
import grpc_tools.protoc
from grpc_health.v1 import health_pb2, health_pb2_grpc

import cluster

DEADLINE_S = cluster.DEADLINE_S


def generate_stubs(folder):
    """Generates and imports the messages and stubs of every file under proto/."""
    proto = cluster.SOURCE / "proto"
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
    names = ("checkpoint", "cluster", "job", "method", "types", "worker")
    return {name: importlib.import_module(f"espalier.v1.{name}_pb2") for name in names} | {
        f"{name}_grpc": importlib.import_module(f"espalier.v1.{name}_pb2_grpc") for name in names
    }


class PythonClientTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.api = generate_stubs(cls.enterClassContext(tempfile.TemporaryDirectory()))
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
        """The code of a call to the reflection service."""
        with grpc.insecure_channel(address) as channel:
            call = channel.stream_stream(
                "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
            )
            try:
                answers = list(call(iter([b"\x3a\x00"]), timeout=DEADLINE_S))  # list_services = ""
            except grpc.RpcError as error:
                return error.code(), b""
            return grpc.StatusCode.OK, b"".join(answers)

    def test_reflection_is_only_there_when_asked_for(self):
        self.assertEqual(grpc.StatusCode.UNIMPLEMENTED, self.reflected(self.cluster.address)[0])
        with cluster.Cluster(coordinator=["--debug-reflection"]) as own:
            code, services = self.reflected(own.address)
        self.assertEqual(grpc.StatusCode.OK, code)
        self.assertIn(b"espalier.v1.JobService", services)


if __name__ == "__main__":
    unittest.main()
