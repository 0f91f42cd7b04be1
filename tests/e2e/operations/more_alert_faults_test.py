"""As alert_faults_test.py, with strangers, certificates and disks, and with faults that come at the programs' own pace."""

import contextlib
import os
import pathlib
import ssl
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "durable"))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "secure"))

import cluster
from cluster import ENDLESS, digits_job, eventually, words
from disks_test import fill, small_disk
from faults import Faults
from monitored import Haste
from raw_grpc import Connection, encode
from security import Secured
from standby import StandBys


class ShortLived(Secured):
    """With certificates that end soon, and a given data folder."""

    def __init__(self, data):
        self._data = data
        super().__init__("--worker-certificate-days", "0.5")
        self.cert("renew", "coordinator", "--days", "10")

    def start(self, *more, **options):
        return super().start(*more, **options | {"data": self._data})


class StrangersTest(Faults):
    FAULTS = {
        "EspalierCertificateExpiring": "the coordinator's certificate is for ten days",
        "EspalierWorkerCertificateExpiring": "a worker's certificate is for twelve hours",
        "EspalierHandshakesFail": "somebody who trusts another authority connects again and again",
        "EspalierCallsRefused": "somebody without certificate or token calls again and again",
        "EspalierCheckpointFailing": "the disk of the checkpoints is filled",
        "EspalierStorageWaits": "the same",
        "EspalierStoreNearFull": "the disk of the data folder is filled",
        "EspalierAuditFaulty": "and calls are to be written down meanwhile",
    }
    EARLY = {"EspalierCertificateExpiring", "EspalierWorkerCertificateExpiring"}

    def test_faults_of_certificates_strangers_and_disks(self):
        disk = self.enterContext(small_disk(24 * 1024 * 1024))
        checkpoints = disk / "checkpoints"
        checkpoints.mkdir()
        self.enterContext(small_disk(1024 * 1024, checkpoints))
        for folder in (disk, checkpoints):
            (folder / "filler").touch()  # on a disk that is full for a moment there is no room for its name
        own = self.own = self.enterContext(ShortLived(disk))
        worker = own.join("w1", own.join_token("w1.token", "--id", "w1"))
        self.watch([own.metrics], [words(worker.line())["metrics"]])
        self.fire("EspalierCertificateExpiring", "EspalierWorkerCertificateExpiring")
        self.fire("EspalierHandshakesFail", fault=self.distrust, again=True)
        self.fire("EspalierCallsRefused", fault=self.call_without_right, again=True)

        job = digits_job(ENDLESS, checkpoint={"every_rounds": 1, "keep": 1})
        own.cli("job", "submit", own.file(job), "--name", "long").ok()
        eventually("it has a checkpoint", lambda: own.cli("checkpoint", "list", "-o", "json").ok().json.get("checkpoints"))
        self.fire("EspalierCheckpointFailing", "EspalierStorageWaits", fault=lambda: fill(checkpoints / "filler"))
        fill(disk / "filler")
        # An entry of a long name soon needs more than is left of the page that the log has.
        self.fire("EspalierStoreNearFull", "EspalierAuditFaulty", fault=lambda: own.cli("job", "cancel", "x" * 500), again=True)
        self.all_fired()

    def distrust(self):
        with contextlib.suppress(ssl.SSLError):
            Connection(self.own.address, tls=ssl.create_default_context())

    def call_without_right(self):
        context = ssl.create_default_context(cafile=self.own.trust())
        context.set_alpn_protocols(["h2"])
        with Connection(self.own.address, tls=context) as connection:
            streams = {connection.call("/espalier.v1.JobService/ListJobs", b"", half_close=True) for _ in range(50)}
            while not connection.ended.keys() >= streams and connection.pump(5):
                pass


class CrowdTest(Faults):
    FAULTS = {"EspalierCoreBusy": "somebody asks for a job of a thousand rounds again and again, and never reads the answers"}

    def test_a_core_that_is_busy_all_the_time(self):
        self.own = self.enterContext(cluster.Cluster(workers=1))
        job = digits_job(1000, evaluation={})
        job["data"]["partition"]["shards"] = 1
        job["training"] = {"batch_size": 16, "local_steps": 1, "optimizer": {"kind": "sgd", "learning_rate": 0.01}}
        self.question = encode((1, self.own.run(job)["name"]))
        self.watch([self.own.metrics])
        self.fire("EspalierCoreBusy", fault=self.ask, again=True)
        self.all_fired()

    def ask(self):
        with Connection(self.own.address, reading=False) as connection:
            for _ in range(60):
                connection.call("/espalier.v1.JobService/GetJob", self.question, half_close=True)
            connection.pump(0.2)


class DatabaseTest(Faults):
    FAULTS = {"EspalierNoCoordinatorActive": "the database of two coordinators is stopped"}

    def test_faults_of_a_database(self):
        own = self.enterContext(StandBys())
        self.watch(list(own.metrics.values()))
        self.fire("EspalierNoCoordinatorActive", fault=own.server.stop)
        self.all_fired()


class DeafTest(Faults):
    FAULTS = {"EspalierCoordinatorDeaf": "the way to the coordinator's own address is taken away"}
    # It listens to itself every ten seconds, whatever the rules say: the five minutes of this alert become thirty seconds.
    HASTE = Haste(divisor=10, longest=30)

    def test_a_coordinator_that_does_not_hear_itself(self):
        # An address that nothing else of this machine has; the one of the metrics stays.
        number = os.getpid()
        host = f"127.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255 | 2}"
        own = self.enterContext(cluster.Cluster(coordinator=("--listen", f"{host}:0")))
        self.watch([own.metrics])
        # Failures count once it has heard itself.
        eventually("it has heard itself", lambda: self.prometheus.query("time() - process_start_time_seconds > 12"))
        route = ["blackhole", host, "table", "local"]
        self.addCleanup(subprocess.run, ["ip", "route", "del", *route], check=True)
        self.fire("EspalierCoordinatorDeaf", fault=lambda: subprocess.run(["ip", "route", "add", *route], check=True))
        self.all_fired()


if __name__ == "__main__":
    unittest.main()
