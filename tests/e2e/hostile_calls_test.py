"""Calls that no client of ours would make, beside a job: the coordinator lives, and the job ends as if alone.

Every service and method is called with valid messages that were changed at random: fields set to extremes,
copied, removed, nested; bytes flipped, cut and inserted; metadata of all kinds. The seed is printed on failure.
ESPALIER_CALLS=100000 and ESPALIER_SEED=n make it longer and other.
"""

import concurrent.futures
import contextlib
import importlib
import os
import pathlib
import random
import tempfile
import unittest

import grpc

import cluster
from cluster import digits_job
from python_client_test import generate_stubs

CALLS = int(os.environ.get("ESPALIER_CALLS", "3000"))
SEED = int(os.environ.get("ESPALIER_SEED", "1"))
# Growth of the coordinator that 3,000 and 100,000 calls alike must stay below.
MOST_GROWTH_MB = 150
AT_ONCE = 8
INTERESTING = (0, 1, -1, 2, 127, 128, 2**31 - 1, -(2**31), 2**32 - 1, 2**53, 2**62, 2**63 - 1, -(2**63))
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-300, 1e300, float("inf"), float("-inf"), float("nan"))
WORDS = ("", "a", "jobs/a", "jobs/known", "checkpoints/known-1", "../../etc/passwd", "\x00", "\n\x1b[31m", "é" * 100,
         "x" * 5000, "%s%n", "workers/w1", "task-1", "digits", "set", "dense")


def resident_mb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024


def integer(field, rng):
    """A value that fits the field's type."""
    value = rng.choice(INTERESTING) if rng.random() < 0.7 else rng.getrandbits(rng.randrange(1, 64))
    kinds = type(field)
    bits = 32 if field.cpp_type in (kinds.CPPTYPE_INT32, kinds.CPPTYPE_UINT32, kinds.CPPTYPE_ENUM) else 64
    if field.cpp_type in (kinds.CPPTYPE_UINT32, kinds.CPPTYPE_UINT64):
        return value % 2**bits
    return (value + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)


def scalar(field, rng):
    kinds = type(field)
    if field.cpp_type in (kinds.CPPTYPE_DOUBLE, kinds.CPPTYPE_FLOAT):
        return rng.choice(FLOATS)
    if field.cpp_type == kinds.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if field.cpp_type == kinds.CPPTYPE_STRING:
        if field.type == kinds.TYPE_BYTES:
            return rng.randbytes(rng.choice((0, 1, 16, 300)))
        return rng.choice(WORDS)
    return integer(field, rng)


def is_map(field):
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def change_field(message, field, rng, depth):
    """Sets, fills, empties or descends into one field."""
    if is_map(field) or rng.random() < 0.1:
        message.ClearField(field.name)
        return
    repeated = field.is_repeated
    value = getattr(message, field.name)
    if field.message_type is not None:
        if not repeated:
            value.SetInParent()
            change(value, rng, depth + 1)
        elif len(value) > 0 and rng.random() < 0.6:
            change(rng.choice(value), rng, depth + 1)
        else:
            for _ in range(rng.choice((1, 2, 50))):
                change(value.add(), rng, depth + 1)
    elif repeated:
        value.extend(scalar(field, rng) for _ in range(rng.choice((1, 3, 100))))
    else:
        with contextlib.suppress(ValueError, UnicodeError):
            setattr(message, field.name, scalar(field, rng))


def change(message, rng, depth=0):
    """Changes one to three fields of the message."""
    fields = list(message.DESCRIPTOR.fields)
    for _ in range(rng.randrange(1, 4)):
        if fields and depth < 6:
            change_field(message, rng.choice(fields), rng, depth)


def damage(data, rng):
    """The bytes with a few of them flipped, cut, doubled or inserted."""
    data = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(4)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at : at + rng.randrange(1, 9)]
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
        else:
            data[at:at] = data[at : at + rng.randrange(1, 33)]
    return bytes(data)


def metadata(rng):
    pairs = []
    for _ in range(rng.choice((0, 0, 0, 1, 5))):
        name = "x-" + "".join(rng.choice("abcdefghijklmnop-_.0123456789") for _ in range(rng.randrange(1, 30)))
        if rng.random() < 0.3:
            pairs.append((name + "-bin", rng.randbytes(rng.choice((0, 10, 3000)))))
        else:
            pairs.append((name, "".join(chr(rng.randrange(32, 127)) for _ in range(rng.choice((0, 20, 9000))))))
    return pairs


class Caller:
    """Makes one hostile call after the other on a connection of its own."""

    def __init__(self, address, api, seeds, rng):
        self._channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self._methods = [
            (f"/{service.full_name}/{method.name}", method.input_type, seeds.get(method.name), method)
            for file in api
            for service in file.DESCRIPTOR.services_by_name.values()
            for method in service.methods
        ]
        self._messages = importlib.import_module("google.protobuf.message_factory")
        self._rng = rng

    def message(self, kind, seed):
        message = self._messages.GetMessageClass(kind)()
        if seed is not None and self._rng.random() < 0.8:
            message.CopyFrom(seed)
        change(message, self._rng)
        data = message.SerializeToString()
        return damage(data, self._rng) if self._rng.random() < 0.4 else data

    def call(self):
        path, kind, seed, method = self._rng.choice(self._methods)
        if self._rng.random() < 0.02:
            path += "X"
        messages = [self.message(kind, seed) for _ in range(self._rng.randrange(0, 4))]
        client = "stream" if method.client_streaming else "unary"
        server = "stream" if method.server_streaming else "unary"
        stub = getattr(self._channel, f"{client}_{server}")(path)
        request = iter(messages) if method.client_streaming else (messages or [b""])[0]
        timeout = self._rng.choice((0.02, 0.2))
        try:
            answer = stub(request, timeout=timeout, metadata=metadata(self._rng))
            if method.server_streaming:
                for _ in range(3):
                    next(answer)
                answer.cancel()
        except (grpc.RpcError, StopIteration, ValueError):
            pass

    def close(self):
        self._channel.close()


class HostileCallsTest(unittest.TestCase):
    def seeds(self, api):
        """Valid requests to begin with, by method."""
        job, worker, checkpoint = api["job"], api["worker"], api["checkpoint"]
        spec = job.JobSpec()
        spec.model.input_features = 64
        spec.model.layers.add().linear.units = 10
        spec.data.dataset = "digits"
        spec.data.partition.shards = 2
        spec.method.name = "static"
        spec.method.parameters["density"].double_value = 0.5
        spec.training.optimizer.learning_rate = 0.05
        spec.federation.rounds = 1
        register = worker.Register(worker_id="fuzz", version="0.1.0", threads=1)
        register.protocol.min = register.protocol.max = 1
        register.datasets.add(name="elsewhere", features=3, classes=2, train_examples=5)
        header = worker.PartialHeader(task_id="task-1", update_id="u", body_bytes=400, examples=10)
        header.sections.add(kind=worker.SECTION_KIND_VALUES, type=worker.SECTION_TYPE_F32, count=100, bytes=400)
        return {
            # Validated only: jobs that are accepted would compete with the one that is watched here.
            "CreateJob": job.CreateJobRequest(spec=spec, validate_only=True),
            "GetJob": job.GetJobRequest(name="jobs/known"),
            "WatchJob": job.WatchJobRequest(name="jobs/known"),
            "ListJobs": job.ListJobsRequest(page_size=5),
            "ListRounds": job.ListRoundsRequest(job="jobs/known", page_size=5, max_points=3, page_token="0.1.0"),
            "CancelJob": job.CancelJobRequest(name="jobs/nobody"),
            "Session": worker.WorkerMessage(register=register),
            "Submit": worker.SubmitRequest(header=header),
            "Fetch": worker.FetchRequest(digest="00" * 32, job="jobs/known"),
            "GetCheckpoint": checkpoint.GetCheckpointRequest(name="checkpoints/known-1"),
            "DownloadCheckpoint": checkpoint.DownloadCheckpointRequest(name="checkpoints/known-1", ticket=b"x" * 16),
            "Recommend": checkpoint.RecommendRequest(checkpoint="checkpoints/known-1", user="1", k=3),
        }

    def storm(self, own, api):
        files = [module for name, module in api.items() if not name.endswith("_grpc")]
        seeds = self.seeds(api)
        callers = [Caller(own.address, files, seeds, random.Random(f"{SEED}/{i}")) for i in range(AT_ONCE)]

        def run(caller):
            for _ in range(CALLS // AT_ONCE):
                caller.call()
                if not own.coordinator.running():
                    break
            caller.close()

        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(run, callers))

    def test_coordinator_outlives_hostile_calls_and_its_job_does_not_notice(self):
        api = generate_stubs(self.enterContext(tempfile.TemporaryDirectory()))
        rounds = max(300, CALLS // 10)
        # Strangers that claim to have the data may get tasks of it, and lose them.
        job = digits_job(rounds, federation={"rounds": rounds, "max_retries": 100})
        with cluster.Cluster(2) as other:
            undisturbed = other.run(job)["model_hash"]
        own = self.enterContext(cluster.Cluster(2))
        own.run(digits_job(1), "--name", "known")  # the calls know this job, not the other
        own.submit(job, "--name", "watched")
        before = resident_mb(own.coordinator.pid)
        self.storm(own, api)
        self.assertTrue(own.coordinator.running(), f"seed {SEED}: {own.coordinator.errors()[-2000:]}")
        done = own.wait_state("watched", "SUCCEEDED", "FAILED", "CANCELLED", seconds=120)
        self.assertEqual("SUCCEEDED", done["state"], f"seed {SEED}: {done['failure_message']}")
        self.assertEqual(undisturbed, done["model_hash"], f"seed {SEED}")
        after = resident_mb(own.coordinator.pid)
        self.assertLess(after - before, MOST_GROWTH_MB, f"seed {SEED}")
        print(f"{CALLS} calls, seed {SEED}: {before:.0f} MB before, {after:.0f} MB after")


if __name__ == "__main__":
    unittest.main()
