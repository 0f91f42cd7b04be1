"""docs/three-machines.md on three machines of a network inside of this one: sections 1 to 8 but for building and installing
packages. Of section 9 the commands of the services are compared with those above."""

import re
import unittest

import machines
from page import Page

import cluster
from cluster import eventually

PAGE = "three-machines.md"
ADDRESSES = {"hub": "10.77.0.1", "north": "10.77.0.2", "south": "10.77.0.3"}
SERVICES = {"hub": "espalier-coordinator", "north": "espalier-worker"}


class ThreeMachinesTest(unittest.TestCase):
    def setUp(self):
        self.page = Page(PAGE)
        self.network = self.enterContext(machines.Network(ADDRESSES))
        self.machines = self.network.machines
        # `make programs` has been called in a clone of the repository, in which the reader is.
        (self.machines["hub"].folder / "srv/build/release").mkdir(parents=True)
        (self.machines["hub"].folder / "srv/build/release/bin").symlink_to(cluster.BIN)

    def run_block(self, block):
        """What it gives on the last of its machines."""
        for name in block.machines:
            done = self.machines[name].do(block)
            if block.stays:
                _, self.logs[name] = done
        return done

    def do(self, heading):
        return [self.run_block(block) for block in self.page.take(heading)]

    def open_ports(self, name):
        """Addresses at which programs of the machine listen, other than its own loopback."""
        lines = self.machines[name].run("ss -Hltn").splitlines()
        addresses = [line.split()[3] for line in lines]
        return [a for a in addresses if not a.startswith(("127.", "[::1]"))]

    def model(self, job):
        return re.search(r'"model_hash": "(\w{64})"', self.machines["south"].run(f"espalier job get {job} -o json"))[1]

    def test_from_nothing_to_a_model_that_a_cut_cable_does_not_change(self):
        self.logs = {}
        self.assertEqual("", self.do("1. The programs")[-1], "libraries that are not found")
        packages = (self.machines["north"].folder / "srv/packages.txt").read_text().split()
        self.assertTrue([name for name in packages if name.startswith("libgrpc++")], packages)
        self.do("2. Certificates")
        self.assertEqual(0o600, (self.machines["hub"].folder / "srv/espalier/tls/key.pem").stat().st_mode & 0o777)
        coordinator, tokens = self.page.take("4. The coordinator")
        self.run_block(coordinator)
        eventually("the coordinator listens", lambda: "listening" in self.logs["hub"].read_text())
        self.run_block(tokens)
        self.do("5. Data, and the workers")
        for name in ("north", "south"):
            eventually(f"{name} registers", lambda n=name: " registered " in self.logs[n].read_text())
            joined = self.machines[name].folder / "srv/espalier/state/tls/worker.pem"
            self.assertEqual(0o600, joined.stat().st_mode & 0o777)
        self.see()
        self.do("7. A job")
        self.cut_the_cable()
        self.assertEqual([], self.page.rest, "blocks that no test runs")

    def see(self):
        shown = self.do("6. What the coordinator sees")[-1]
        for words in (r"workers/north\s+ACTIVE", r"workers/south\s+ACTIVE", "healthy, worn", "broken, healthy"):
            self.assertRegex(shown, words)
        self.assertEqual((["0.0.0.0:7070"], [], []), tuple(map(self.open_ports, ADDRESSES)))
        stranger = self.machines["north"].run(
            "espalier --server 10.77.0.1:7070 --ca /srv/espalier/ca.pem worker list 2>&1 || echo code $?"
        )
        self.assertIn("code 4", stranger)
        self.assertIn("--tls-dir", stranger)

    def cut_the_cable(self):
        south = self.machines["south"]
        submit, down, look, up, end = self.page.take("8. A machine that goes away and comes back")
        self.run_block(submit)
        eventually("the job runs", lambda: '"participants"' in south.run("espalier job get second -o json"))
        self.run_block(down)
        eventually("north is lost", lambda: re.search(r"workers/north\s+LOST", south.run("espalier worker list")))
        shown = self.run_block(look)
        self.assertRegex(shown, r"workers/south\s+ACTIVE")
        self.assertIn("WAITING_WORKERS", shown)
        self.assertIn("RUNNING", shown)
        self.run_block(up)
        shown = self.run_block(end)
        self.assertIn("SUCCEEDED", shown)
        self.assertRegex(shown, r"workers/north\s+ACTIVE")
        self.assertIn("HEARTBEAT_TIMEOUT", shown)
        self.assertEqual(self.model("first"), self.model("second"))


class ServicesTest(unittest.TestCase):
    def test_services_run_the_commands_of_the_page(self):
        page = Page(PAGE)
        blocks = [block for heading in page.rest for block in page.take(heading)]
        by_hand = {block.machines[0]: block.text for block in blocks if block.stays}
        for machine, service in SERVICES.items():
            unit = (cluster.SOURCE / "deploy/systemd" / f"{service}.service").read_text()
            command = re.search(r"^ExecStart=((?:.*\\\n)*.*)$", unit, re.M)[1]
            self.assertEqual(by_hand[machine].split(), command.split())


if __name__ == "__main__":
    machines.enter()
    unittest.main()
