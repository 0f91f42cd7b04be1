"""deploy/slurm/espalier.sbatch on a real Slurm of one node, which this test starts and ends."""

import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import cluster
from cluster import DATA, digits_job, eventually

ROOT = pathlib.Path(os.environ["ESPALIER_SOURCE_DIR"])
SCRIPT = ROOT / "deploy" / "slurm" / "espalier.sbatch"
PROCESSORS = 4


class Slurm:
    """munged, slurmctld and slurmd in a folder of their own."""

    def __init__(self, folder):
        self.folder = folder
        self.processes = []
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
        self.environment |= {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{cluster.BIN}:{os.environ['PATH']}",
            "ESPALIER_DATA": str(DATA),
        }

    def __enter__(self):
        self.start_munge()
        self.configure()
        for program in ("slurmctld", "slurmd"):
            self.start([program, "-D", "-f", self.environment["SLURM_CONF"]], f"{program}.out")
        eventually("the node is idle", lambda: "idle" in self.run("sinfo", "-h", "-o", "%T", check=False))
        return self

    def __exit__(self, *_):
        self.run("scancel", "--full", "-u", "root", check=False)
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(20)

    def start(self, command, log, **options):
        with open(self.folder / log, "wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out, env=self.environment, preexec_fn=cluster.die_with_parent, **options)
        self.processes.append(process)

    def start_munge(self):
        user = pwd.getpwnam("munge")
        folder = self.folder / "munge"
        folder.mkdir(mode=0o711)
        (folder / "key").write_bytes(os.urandom(128))
        for path, mode in ((folder / "key", 0o400), (folder, 0o711)):
            os.chown(path, user.pw_uid, user.pw_gid)
            path.chmod(mode)
        names = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        self.socket = folder / "socket"
        flags = [f"--{flag}={folder / name}" for flag, name in names.items()]
        self.start(["munged", "--foreground", "--num-threads=2", *flags], "munged.out", user=user.pw_uid, group=user.pw_gid)
        eventually("munged listens", self.socket.exists)

    def configure(self):
        ports = []
        for _ in range(2):
            with socket.create_server(("127.0.0.1", 0)) as free:
                ports.append(free.getsockname()[1])
        node = socket.gethostname().split(".")[0]
        lines = [
            "ClusterName=test", f"SlurmctldHost={node}(127.0.0.1)", "SlurmUser=root", f"AuthInfo=socket={self.socket}",
            f"SlurmctldPort={ports[0]}", f"SlurmdPort={ports[1]}", "ProctrackType=proctrack/linuxproc", "TaskPlugin=task/none",
            "SelectType=select/cons_tres", "SelectTypeParameters=CR_CPU", "MpiDefault=none", "ReturnToService=2", "SlurmdParameters=config_overrides",
            "JobAcctGatherType=jobacct_gather/none", "SchedulerParameters=sched_min_interval=100000", "KillWait=10", "MinJobAge=300",
            f"NodeName={node} NodeAddr=127.0.0.1 CPUs={PROCESSORS}", f"PartitionName=all Nodes={node} Default=YES",
        ]  # fmt: skip
        for name, value in {"StateSaveLocation": "state", "SlurmdSpoolDir": "spool", "SlurmctldPidFile": "ctld.pid", "SlurmdPidFile": "d.pid", "SlurmctldLogFile": "ctld.log", "SlurmdLogFile": "d.log"}.items():
            lines.append(f"{name}={self.folder / value}")
        (self.folder / "state").mkdir()
        (self.folder / "slurm.conf").write_text("\n".join(lines) + "\n")

    def run(self, *command, check=True, **options):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=self.environment, cwd=self.folder, **options)
        if check and done.returncode != 0:
            raise AssertionError(f"{command}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def submit(self, job, *flags):
        path = self.folder / "job.yaml"
        path.write_text(cluster.json.dumps(job))
        return self.run("sbatch", "--parsable", *flags, SCRIPT, path)

    def state(self, job):
        return self.run("squeue", "-h", "-t", "all", "-j", job, "-o", "%T", check=False)

    def told(self, job):
        """What the script and the programs wrote, for a test that fails."""
        files = [self.folder / f"slurm-{job}.out", *sorted((self.folder / f"espalier-{job}").glob("*.log")), self.folder / "d.log"]
        return "\n".join(f"== {file.name}\n{file.read_text()[-1500:]}" for file in files if file.exists())


class SlurmTest(unittest.TestCase):
    def setUp(self):
        folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        self.slurm = self.enterContext(Slurm(folder))

    def ends_as(self, state, job):
        try:
            eventually(f"job {job} is {state}", lambda: self.slurm.state(job) == state, seconds=60)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.slurm.state(job)}\n{self.slurm.told(job)}") from error

    def test_a_job_is_trained_in_an_allocation(self):
        job = self.slurm.submit(digits_job(5), "--ntasks=3")
        self.ends_as("COMPLETED", job)
        run = self.slurm.folder / f"espalier-{job}"
        self.assertGreater((run / "model.safetensors").stat().st_size, 1000)
        self.assertEqual(0o700, run.stat().st_mode & 0o777, "others on the nodes read no keys")
        for worker in range(3):
            self.assertTrue((run / f"worker-{worker}.log").exists())

    def test_a_job_that_is_put_back_goes_on_where_it_was(self):
        job = self.slurm.submit(digits_job(300), "--ntasks=2")
        log = self.slurm.folder / f"espalier-{job}" / "coordinator.log"
        eventually("rounds are done", lambda: log.exists() and " round_committed " in log.read_text(), seconds=60)
        self.slurm.run("scontrol", "requeue", job)
        eventually("it waits or runs again", lambda: self.slurm.state(job) in ("PENDING", "RUNNING"))
        # Slurm lets a job that was put back wait for a while.
        self.slurm.run("scontrol", "update", f"JobId={job}", "StartTime=now", check=False)
        eventually("it goes on", lambda: " job_goes_on " in log.read_text(), seconds=150)
        self.ends_as("COMPLETED", job)

    def test_a_training_that_fails_fails_the_job(self):
        wrong = digits_job(2)
        wrong["data"]["dataset"] = "nobody-has-it"
        job = self.slurm.submit(wrong, "--ntasks=1")
        eventually("it runs", lambda: self.slurm.state(job) == "RUNNING", seconds=30)
        self.slurm.run("scancel", "--batch", f"--signal={signal.SIGTERM.name[3:]}", job)
        self.ends_as("FAILED", job)


if __name__ == "__main__":
    unittest.main()
