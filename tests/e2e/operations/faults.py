"""A cluster with a Prometheus that has the real rules in a hurry, where real faults have alerts fire."""

import unittest

from cluster import eventually
from monitored import Haste, Prometheus

# For how long an alert may be waited for: its own shortened time, and a busy machine's.
FIRES_S = 60


class Faults(unittest.TestCase):
    """`FAULTS` is {alert: what is done}; a test calls `fire` for each of them."""

    FAULTS = {}
    # Of `FAULTS`, those that fire from the start because of how the cluster is made.
    EARLY = set()
    HASTE = Haste(divisor=100, longest=6)

    def setUp(self):
        self.fired = set()

    def watch(self, coordinator, worker=(), **options):
        self.prometheus = self.enterContext(Prometheus(self.HASTE, coordinator=coordinator, worker=worker, **options))
        wanted = len(coordinator) + len(worker)
        eventually("all are scraped", lambda: len(self.prometheus.query("up == 1")) == wanted)
        # Prometheus takes seconds to find its first target, for which there is an alert as well.
        eventually("nothing else fires", lambda: not self.prometheus.firing() - self.EARLY)

    def fire(self, *alerts, fault=None, again=False):
        """Does what is wrong, `again` and again where once is not enough, and waits until each alert has fired because of it."""
        missing = set(alerts)
        if fault:
            self.assertEqual(set(), self.prometheus.firing() & missing, "an alert was there before its fault")
            fault()

        def probe():
            if again:
                fault()
            missing.difference_update(self.prometheus.firing())
            return not missing

        try:
            eventually("alerts fire", probe, FIRES_S)
        except AssertionError:
            self.fail(f"did not fire: {missing}; what does: {self.prometheus.query('ALERTS')}")
        self.fired |= set(alerts)

    def all_fired(self):
        self.assertEqual(set(self.FAULTS), self.fired)
