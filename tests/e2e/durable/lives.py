"""Clusters whose coordinator is killed and comes back, and what must be the same then."""

import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster

JOB_S = 120
# What depends on when something happened, and on how often something was sent.
TIMES_AND_BYTES = {"time", "duration", "bytes_sent", "bytes_received", "dense_bytes", "compute_time", "worker_peak_memory_bytes"}


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES_AND_BYTES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def history(events):
    """What must be the same however often programs were killed; workers that vanished are told of, too."""
    kept = [without_times(event) for event in events if "task_reassigned" not in event]
    for number, event in enumerate(kept):
        event["sequence"] = number
    return kept


class Lives(cluster.Cluster):
    """A cluster whose coordinator is killed and comes back at the same address."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._coordinator_arguments = options.get("coordinator", ())
        self.recoveries = []

    def kill_coordinator(self, number=signal.SIGKILL):
        self.coordinator.send(number)
        self.coordinator.wait()

    def start_again(self, arguments=None):
        arguments = self._coordinator_arguments if arguments is None else arguments
        begin = time.monotonic()
        self.coordinator = self.enter_context(
            self.new_coordinator(self.data_dir, "--listen", self.address, *arguments)
        )
        self.coordinator.line()
        self.recoveries.append(time.monotonic() - begin)
