"""The Debian packages in a Debian that has nothing else: installed, used, removed and purged."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

BUILD = pathlib.Path(os.environ["ESPALIER_BIN_DIR"]).parent
DATA = pathlib.Path(os.environ["ESPALIER_SOURCE_DIR"]) / "data"
# A minimal system takes most of a minute to fetch, so it is kept.
BASE = BUILD / "packages" / "debian.tar"
PACKAGES = {"espalier", "libespalier-dev"}


def run(*command, timeout=300, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=timeout, **options)
    if done.returncode != 0:
        raise AssertionError(f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def release():
    """This machine's Debian: packages are for the one that they were built on."""
    for line in pathlib.Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.split("=")[1].strip('"')
    raise AssertionError("/etc/os-release does not say which Debian this is")


def fetch_base():
    if BASE.exists():
        return
    BASE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder) / "root"
        mirror = os.environ.get("ESPALIER_DEBIAN_MIRROR", "http://deb.debian.org/debian")
        run("debootstrap", "--variant=minbase", release(), root, mirror)
        run("tar", "-C", root, "-cf", f"{BASE}.part", ".")
    os.replace(f"{BASE}.part", BASE)


class Debian:
    """A root folder with a Debian in it, entered in namespaces of its own, so that nothing is mounted out here."""

    def __init__(self, root):
        self.root = root
        run("tar", "-C", root, "-xf", BASE)
        # As this machine reaches its mirrors.
        for settings in ("sources.list", "sources.list.d", "apt.conf", "apt.conf.d", "auth.conf.d"):
            there = pathlib.Path("/etc/apt") / settings
            if there.is_dir():
                shutil.copytree(there, root / "etc/apt" / settings, dirs_exist_ok=True)
            elif there.exists():
                shutil.copy(there, root / "etc/apt" / settings)
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        shutil.copytree("/etc/ssl", root / "etc/ssl", dirs_exist_ok=True)

    def sh(self, text):
        inside = f"mount -t proc proc {self.root}/proc && exec chroot {self.root} sh -ec '{text}'"
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "HOME": "/root"}
        environment |= {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        return run("unshare", "--mount", "--pid", "--fork", "sh", "-ec", inside, env=environment)


class PackagesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        fetch_base()
        folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory(dir=BASE.parent)))
        run("cpack", "-G", "DEB", "-B", folder / "debs", cwd=BUILD)
        cls.files = {file.name.split("_")[0]: file for file in (folder / "debs").glob("*.deb")}
        root = folder / "root"
        root.mkdir()
        cls.debian = Debian(root)
        cls.debs = root / "debs"
        cls.debs.mkdir()
        for file in cls.files.values():
            shutil.copy(file, cls.debs)

    def fields(self, name):
        text = run("dpkg-deb", "--field", self.files[name])
        return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line and not line.startswith(" "))

    def test_1_the_packages_say_what_they_are(self):
        self.assertEqual(PACKAGES, set(self.files))
        needs = self.fields("espalier")["Depends"]
        for library in ("libgrpc++", "libprotobuf", "libc6", "adduser"):
            self.assertIn(library, needs)
        self.assertNotIn("-dev", needs)
        self.assertIn("libgrpc++-dev", self.fields("libespalier-dev")["Depends"])
        for name in PACKAGES:
            self.assertEqual([], [line for line in run("dpkg-deb", "--contents", self.files[name]).splitlines() if os.environ["ESPALIER_SOURCE_DIR"] in line or "./opt" in line])

    def test_2_installed_used_removed_and_purged(self):
        debian = self.debian
        debian.sh("apt-get update -q && apt-get install -q -y --no-install-recommends /debs/espalier_*.deb")
        for program in ("espalier", "espalier-coordinator", "espalier-worker"):
            self.assertRegex(debian.sh(f"{program} --version"), r"\d+\.\d+\.\d+")
        self.assertIn("espalier", debian.sh("getent passwd espalier"))
        self.assertEqual("espalier espalier 750", debian.sh("stat -c \"%U %G %a\" /srv/espalier/state").strip())
        units = debian.sh("cat /lib/systemd/system/espalier-coordinator.service /lib/systemd/system/espalier-worker.service")
        self.assertIn("ExecStart=/usr/bin/espalier-coordinator", units)
        self.assertIn("ExecStart=/usr/bin/espalier-worker", units)
        # A job by somebody without rights, as the service's user is.
        shutil.copytree(DATA, debian.root / "srv/espalier/data", dirs_exist_ok=True)
        told = debian.sh("cd /tmp && su -s /bin/sh espalier -c \"espalier demo --workers 2 --no-dashboard --data-root /srv/espalier/data\" 2>&1")
        self.assertIn("accuracy", told)
        debian.sh("echo mine >/srv/espalier/state/mine")
        debian.sh("apt-get remove -q -y espalier")
        self.assertEqual("gone", debian.sh("command -v espalier espalier-coordinator espalier-worker || echo gone").strip())
        debian.sh("apt-get purge -q -y espalier")
        self.assertEqual("mine", debian.sh("cat /srv/espalier/state/mine").strip(), "what people keep stays")


if __name__ == "__main__":
    unittest.main()
