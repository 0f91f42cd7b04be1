"""WatchJobs, WatchWorkers and GetRoundProgress over a real coordinator, through kills and reconnections."""

import pathlib
import queue
import signal
import sys
import tempfile
import threading
import unittest

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "durable"))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from cluster import digits_job, eventually
from lives import JOB_S, Lives
from python_client_test import generate_stubs

WAIT_S = 20


class Watch:
    """A stream that is read in a thread of its own; what came is in `all`."""

    def __init__(self, call):
        self.call, self.all, self.error = call, [], None
        self.new = queue.Queue()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        try:
            for message in self.call:
                self.all.append(message)
                self.new.put(message)
        except grpc.RpcError as error:
            self.error = error
        self.new.put(None)

    def until(self, done):
        """The messages up to the first one that is `done`."""
        seen = []
        while True:
            message = self.new.get(timeout=WAIT_S)
            if message is None:
                raise AssertionError(f"the stream ended: {self.error}; before that came {seen}")
            seen.append(message)
            if done(message):
                return seen

    def close(self):
        self.call.cancel()
        self.thread.join(WAIT_S)


def kind(message):
    return message.WhichOneof("change")


def caught_up(message):
    return kind(message) == "caught_up"


class WatchingTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stubs = generate_stubs(pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory())))

    def setUp(self):
        self.own = self.enterContext(Lives(2))
        self.connect()

    def connect(self):
        self.channel = channel = self.enterContext(grpc.insecure_channel(self.own.address))
        self.events = self.stubs["events_grpc"].EventServiceStub(channel)
        self.progress = self.stubs["progress_grpc"].ProgressServiceStub(channel)

    def jobs(self, **fields):
        watch = Watch(self.events.WatchJobs(self.stubs["events"].WatchJobsRequest(**fields), timeout=120))
        self.addCleanup(watch.close)
        return watch

    def workers(self, **fields):
        watch = Watch(self.events.WatchWorkers(self.stubs["events"].WatchWorkersRequest(**fields), timeout=120))
        self.addCleanup(watch.close)
        return watch

    def ends(self, name):
        def done(message):
            return kind(message) == "job" and message.job.name == name and message.job.end_time.seconds > 0

        return done

    def test_jobs_as_they_are_then_as_they_change_and_from_a_token_on(self):
        first = self.own.run(digits_job(3))["name"]
        watch = self.jobs()
        there = watch.until(caught_up)
        self.assertEqual([first], [message.job.name for message in there if kind(message) == "job"])
        second = self.own.submit(digits_job(3))["name"]
        came = watch.until(self.ends(second))
        for name in (first, second):
            expected = len(self.own.events(name))
            # The job as it is now may be ahead of its events, which are told once they are written.
            if len(self.told(there + came, name)) < expected:
                came += watch.until(lambda message, last=(name, expected): kind(message) == "event" and (message.event.job, message.event.event.sequence) == last)
            self.assertEqual(list(range(1, expected + 1)), self.told(there + came, name))
        self.assertEqual("SUCCEEDED", self.own.job(second)["state"])
        token = next(message.resume_token for message in reversed(watch.all) if message.resume_token)
        watch.close()
        third = self.own.run(digits_job(2))["name"]
        self.own.cli("job", "delete", first).ok()
        again = self.jobs(resume_token=token)
        came = again.until(caught_up)
        self.assertNotIn("reset", [kind(message) for message in came])
        # The second is told of once more as it leaves the coordinator's memory.
        self.assertEqual({third}, {message.job.name for message in came if kind(message) == "job"} - {second})
        self.assertEqual([first], [message.gone for message in came if kind(message) == "gone"])
        self.assertEqual({third}, {message.event.job for message in came if kind(message) == "event"})

    def told(self, messages, name):
        """The numbers of a job's events."""
        return [message.event.event.sequence for message in messages if kind(message) == "event" and message.event.job == name]

    def test_a_job_that_changes_meanwhile_is_there_before_it_is_said_that_all_are(self):
        api, jobs = self.stubs["job"], self.stubs["job_grpc"].JobServiceStub(self.channel)
        waiting = digits_job(1)
        waiting["federation"]["min_workers"] = 50
        # Large ones, of which few fit into a connection that nobody reads.
        waiting["model"]["layers"][:0] = [{"linear": {"units": 4, "activation": "relu"}} for _ in range(400)]
        first = self.own.submit(waiting)["name"]
        spec = jobs.GetJob(api.GetJobRequest(name=first), timeout=WAIT_S).spec
        names = [first] + [jobs.CreateJob(api.CreateJobRequest(spec=spec), timeout=WAIT_S).name for _ in range(400)]
        apart = self.enterContext(grpc.insecure_channel(self.own.address, [("grpc.use_local_subchannel_pool", 1)]))
        stream = self.stubs["events_grpc"].EventServiceStub(apart).WatchJobs(self.stubs["events"].WatchJobsRequest(past_events=-1), timeout=60)
        self.addCleanup(stream.cancel)
        there = {next(stream).job.name}
        for name in names[-60:]:
            jobs.CancelJob(api.CancelJobRequest(name=name), timeout=WAIT_S)
        for message in stream:
            if kind(message) == "caught_up":
                break
            there.add(message.job.name)
        self.assertEqual(set(names), there - {""})

    def test_how_many_past_events(self):
        self.own.run(digits_job(5))
        for asked, expected in ((-1, 0), (3, 3)):
            came = self.jobs(past_events=asked).until(caught_up)
            self.assertEqual(expected, sum(kind(message) == "event" for message in came), asked)
        for asked in (-2, 1001):
            with self.assertRaises(AssertionError):
                self.jobs(past_events=asked).until(caught_up)
        refused = self.jobs(resume_token="no token")
        refused.thread.join(WAIT_S)
        self.assertEqual(grpc.StatusCode.INVALID_ARGUMENT, refused.error.code())
        self.assertIn("begin without one", refused.error.details())

    def test_a_coordinator_that_was_killed_begins_anew(self):
        before = self.own.run(digits_job(2))["name"]
        jobs, workers = self.jobs(), self.workers()
        token = jobs.until(caught_up)[-1].resume_token
        worker_token = workers.until(caught_up)[-1].resume_token
        running = self.own.submit(digits_job(100))["name"]
        self.own.wait_round(running, 3)
        self.own.kill_coordinator(signal.SIGKILL)
        jobs.thread.join(WAIT_S)
        self.assertEqual(grpc.StatusCode.UNAVAILABLE, jobs.error.code())
        self.own.start_again()
        self.connect()
        came = self.jobs(resume_token=token).until(caught_up)
        self.assertEqual("reset", kind(came[0]))
        self.assertIn("started again", came[0].reset.reason)
        self.assertEqual({before, running}, {message.job.name for message in came if kind(message) == "job"})
        self.assertEqual("reset", kind(self.workers(resume_token=worker_token).until(caught_up)[0]))
        self.own.wait_state(running, "SUCCEEDED", seconds=JOB_S)

    def test_workers_come_work_and_are_drained(self):
        watch = self.workers()
        there = {message.worker.name for message in watch.until(caught_up) if kind(message) == "worker"}
        self.assertEqual(2, len(there))
        name = sorted(there)[0]
        self.own.cli("worker", "drain", name).ok()
        draining = self.stubs["cluster"].Worker.STATE_DRAINING
        watch.until(lambda message: kind(message) == "worker" and message.worker.name == name and message.worker.state == draining)

    def test_a_round_shows_its_participants_while_it_is_in_work_and_after(self):
        api = self.stubs["progress"]
        worker = self.own.workers["w1"]
        worker.send(signal.SIGSTOP)
        name = self.own.submit(digits_job(2))["name"]

        def in_work():
            try:
                return self.progress.GetRoundProgress(api.GetRoundProgressRequest(job=name), timeout=20)
            except grpc.RpcError:
                return None

        leased = api.ParticipantProgress.STATE_LEASED
        progress = eventually("a task is with a worker", lambda: (now := in_work()) and any(one.state == leased for one in now.participants) and now)
        self.assertEqual("train", progress.phase)
        self.assertGreater(progress.deadline.seconds, progress.start_time.seconds)
        worker.send(signal.SIGCONT)
        self.own.wait_state(name, "SUCCEEDED", seconds=JOB_S)
        ended = self.progress.GetRoundProgress(api.GetRoundProgressRequest(job=name, round=1), timeout=20)
        self.assertEqual({"train", "evaluate"}, {one.phase for one in ended.participants})
        self.assertEqual({api.ParticipantProgress.STATE_ACCEPTED}, {one.state for one in ended.participants})
        self.assertGreater(ended.end_time.seconds, 0)
        with self.assertRaises(grpc.RpcError) as error:
            self.progress.GetRoundProgress(api.GetRoundProgressRequest(job=name, round=7), timeout=20)
        self.assertEqual(grpc.StatusCode.NOT_FOUND, error.exception.code())


if __name__ == "__main__":
    unittest.main()
