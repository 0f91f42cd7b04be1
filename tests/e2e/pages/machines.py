"""Where a test runs a page's commands: one terminal, or machines of one network, each a network namespace on a switch.

The test process first moves into namespaces of its own (`enter`), so that the machine it runs on never sees any of
this, nothing stays when it ends, however it ends, and the ports of a page are free: with its last process the kernel
removes them.
"""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import cluster  # noqa: E402

_INSIDE = "ESPALIER_TEST_INSIDE_NAMESPACES"
# Folders that each machine has for itself; all others are those of the machine that the test runs on.
OWN_FOLDERS = ("srv", "usr/local/bin")
COMMAND_S = 60


def enter():
    """Goes on with this program in own namespaces of network, mounts and processes; ends it where they are not permitted."""
    if os.environ.get(_INSIDE):
        run("mount", "-t", "tmpfs", "tmpfs", "/run")  # for `ip netns`
        run("ip", "link", "set", "dev", "lo", "up")
        return
    own = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        own.append("--map-root-user")
    try:
        tried = subprocess.run([*own, "ip", "link"], capture_output=True, text=True, check=False)
        reason = tried.stderr.strip() if tried.returncode else ""
    except FileNotFoundError as error:
        reason = str(error)
    if reason:
        sys.exit(
            "This test runs a page's commands inside of network namespaces, and cannot make one here:\n"
            f"  {reason}\n"
            "It needs `unshare` and `ip` (Debian: util-linux and iproute2; make deps), and root or user namespaces\n"
            "(sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces above 0). In a container it needs\n"
            "the capability SYS_ADMIN, for instance with docker run --privileged."
        )
    os.environ[_INSIDE] = "1"
    os.execvp(own[0], [*own, sys.executable, *sys.argv])


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


class Shell:
    """Runs commands in a folder as one who sits at a terminal: what one block exports or where it goes holds for the next."""

    def __init__(self, owner, folder, begin="", prefix=()):
        """`owner`: the ExitStack that ends what was started. `begin`: commands before each block."""
        self.folder = folder
        self._owner, self._begin, self._prefix = owner, begin, prefix
        self._state = folder / "state.sh"
        self._state.write_text("")

    def _command(self, script):
        # A reader's terminal has none of our variables; one who runs the tests may.
        forget = "unset $(env | sed -n 's/^\\(ESPALIER_[A-Z_]*\\)=.*/\\1/p')"
        return [*self._prefix, "sh", "-c", f"set -eu\n{forget}\n{self._begin}\n. '{self._state}'\n{script}"]

    def run(self, script):
        """What the commands print."""
        keep = f"\n{{ export -p; echo cd \"'$PWD'\"; }} >'{self._state}'\n"
        done = subprocess.run(
            self._command(script + keep),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_S,
            check=False,
            preexec_fn=cluster.die_with_parent,
        )
        if done.returncode:
            raise AssertionError(f"exit code {done.returncode} of:\n{script}\n{done.stdout}")
        return done.stdout

    def start(self, script):
        """A program that stays until it is stopped or the test ends. Gives the process, and the file with what it prints."""
        log = self.folder / f"log-{time.monotonic_ns()}"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                self._command("exec " + script.strip()),
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=cluster.die_with_parent,
            )
        self._owner.callback(process.wait)
        self._owner.callback(process.kill)
        return process, log

    def do(self, block):
        """What a page's block asks for: what run() or start() give, nothing of a file."""
        if block.file:
            return self.write(block.file, block.text)
        return self.start(block.text) if block.stays else self.run(block.text)

    def write(self, name, text):
        self.run(f"cat >'{name}' <<'END OF FILE'\n{text}END OF FILE\n")


class Terminal(Shell):
    """A terminal of this machine in a new folder; programs are on its path, and addresses those of the namespaces."""

    def __init__(self, owner):
        folder = pathlib.Path(owner.enter_context(tempfile.TemporaryDirectory()))
        super().__init__(owner, folder, f"cd '{folder}'\nPATH='{cluster.BIN}':$PATH")
        (folder / "venv").symlink_to(sys.prefix)  # the packages that the reader of a page installs there


class Machine(Shell):
    """Its mounts are those of one command: `ip netns exec` makes a new table of them."""

    def __init__(self, network, name, address):
        self.name, self.address = name, address
        folder = network.folder / address
        for own in OWN_FOLDERS:
            (folder / own).mkdir(parents=True)
        mounts = "".join(f"mount --bind '{folder}/{own}' /{own}\n" for own in OWN_FOLDERS)
        super().__init__(
            network,
            folder,
            f"{mounts}cd /srv\nPATH='{network.tools}':$PATH",
            ("ip", "netns", "exec", name),
        )
        run("ip", "netns", "add", name)
        run("ip", "link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", f"to-{name}", "netns", "switch")
        run("ip", "-n", "switch", "link", "set", "dev", f"to-{name}", "master", "bridge", "up")
        run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            run("ip", "-n", name, "link", "set", "dev", link, "up")


class Network(contextlib.ExitStack):
    """A switch with machines {name: address}, and an scp that copies from one to another."""

    def __init__(self, addresses):
        super().__init__()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.tools = self.folder / "tools"
        self.tools.mkdir()
        scp = self.tools / "scp"
        scp.write_text(_SCP.replace("FOLDER", str(self.folder)))
        scp.chmod(0o755)
        run("ip", "netns", "add", "switch")
        run("ip", "-n", "switch", "link", "add", "name", "bridge", "type", "bridge")
        run("ip", "-n", "switch", "link", "set", "dev", "bridge", "up")
        self.machines = {name: Machine(self, name, address) for name, address in addresses.items()}


# scp FILE… root@ADDRESS:PATH, where the other machine is a folder.
_SCP = """#!/bin/sh
set -eu
for target; do :; done
address=${target#root@}
address=${address%%:*}
files=
while [ $# -gt 1 ]; do files="$files $1"; shift; done
cp $files "FOLDER/$address${target#*:}"
"""
