"""A store of several hosts: managers, storage nodes, gateways and a mount, each process in a
network namespace of its own, so that all of them talk by TCP and prove the cluster's secret.

The metadata is one embedded store on the disk of the tests, which every process opens: its own
replication is not what is tested here, and no fault reaches it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.config import Config as BotoConfig

from craqen.tests.faults.network import Network, entered, run

LEASE_SECONDS = 2.0
REPLICAS = 3
MANAGER_PORT, NODE_PORT, GATEWAY_PORT = 9400, 9500, 9000
ACCESS_KEY, SECRET_KEY = "FAULTTESTS", "known/to+these=tests%only"
READY_SECONDS = 60.0
END_SECONDS = 30.0
PATIENCE_SECONDS = 60.0
BOOT_ID = "/proc/sys/kernel/random/boot_id"
CLOCK_FOLDER = Path(__file__).parent / "clock"


@dataclass
class Running:
    """A process, and how it is started."""

    name: str
    words: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    ready: str = ""

    @property
    def process_id(self) -> int:
        assert self.process is not None, f"{self.name} does not run"
        return self.process.pid


class Hosts:
    """The store. ``processes`` by name: manager1, node1, gateway1, mount."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # What is mounted in here later is seen, and let go of, in the hosts' mount namespaces too.
        run("mount", "--bind", str(folder), str(folder))
        run("mount", "--make-shared", str(folder))
        self.network = Network()
        self.processes: dict[str, Running] = {}
        self._secret = folder / "secret"
        self._write_private(self._secret, secrets.token_hex(32))
        self._managers: list[str] = []

    # Making it

    def build(
        self, *, managers: int = 2, nodes: int = 3, disks: int = 1, gateways: int = 2
    ) -> None:
        """Everything up, the nodes taken in, the chain table made."""
        names = [f"manager{number}" for number in range(1, managers + 1)]
        names += [f"node{number}" for number in range(1, nodes + 1)]
        for name in (*names, "gateway", "mount"):
            self.network.add(name)
        self._managers = [
            f"tcp://{self.network.hosts[name].address}:{MANAGER_PORT}"
            for name in names
            if name.startswith("manager")
        ]
        (self.folder / "here").mkdir()
        self._configure("here", {})
        for number in range(1, managers + 1):
            self._configure(f"manager{number}", {"cluster": {"manager_number": number}})
            self.start(f"manager{number}", f"manager{number}", "manager", own_boot=True)
        for number in range(1, nodes + 1):
            self.configure_node(number, disks)
        # A node is ready once it was let in.
        begun = [self.begin_node(number) for number in range(1, nodes + 1)]
        self.wait_until(lambda: len(self.ask("nodes")) == nodes, "the nodes ask to be let in")
        self.admin("node", "add", "--all")
        self.admin("init", "--replicas", str(REPLICAS), "--targets-per-disk", "2")
        for wait in begun:
            wait()
        self._configure("gateway", {"gateway": {"host": "0.0.0.0", "port": GATEWAY_PORT}})
        for number in range(1, gateways + 1):
            self.start_gateway(number)
        self.wait_until_well()

    def configure_node(self, number: int, disks: int = 1) -> None:
        """The configuration of a storage node with folders ``disk1`` … of its own."""
        name = f"node{number}"
        folders = [str(self.disk(number, disk)) for disk in range(1, disks + 1)]
        for folder in folders:
            Path(folder).mkdir(parents=True, exist_ok=True)
        address = self.network.hosts[name].address
        listen = {"listen": f"tcp://{address}:{NODE_PORT}", "disks": folders}
        self._configure(name, {"storage": listen, "cluster": {"node_id": number}})

    def disk(self, node: int, disk: int = 1) -> Path:
        """The folder of a node's disk."""
        return self.folder / f"node{node}-disk{disk}"

    def _configure(self, host: str, options: dict[str, dict[str, Any]]) -> None:
        folder = self.folder / host
        folder.mkdir(exist_ok=True)
        common: dict[str, Any] = {
            "data_folder": str(folder),
            "kv": {"url": f"embedded:{self.folder}/kv"},
            "cluster": {
                "managers": self._managers,
                "lease_seconds": LEASE_SECONDS,
                "secret_file": str(self._secret),
            },
            "storage": {"lease_seconds": 1.0},
            "meta": {"removal_grace_seconds": 5.0},
        }
        for section, values in options.items():
            common.setdefault(section, {}).update(values)
        (folder / "craqen.yaml").write_text(yaml.safe_dump(common))
        # Each host is another machine: nobody takes a short cut by unix sockets and descriptors.
        (folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
        user = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "name": "root"}
        self._write_private(folder / "credentials.yaml", yaml.safe_dump({"credentials": [user]}))

    @staticmethod
    def _write_private(path: Path, text: str) -> None:
        path.touch(0o600)
        path.write_text(text)

    # Processes

    def begin_node(self, number: int) -> Callable[[], None]:
        """Start a storage node; call the result to wait until it is let in and serves."""
        name = f"node{number}"
        return self.begin(name, name, "storage", own_boot=True)

    def start_node(self, number: int) -> None:
        """Start a storage node, and wait until it serves."""
        self.begin_node(number)()

    def start_gateway(self, number: int) -> None:
        """Start one worker of the gateway's host."""
        self.start(f"gateway{number}", "gateway", "gateway", "--worker", str(number))

    def start_mount(self) -> Path:
        """Mount the store; return where."""
        self._configure("mount", {})
        point = self.folder / "mnt"
        point.mkdir(exist_ok=True)
        self.start("mount", "mount", "mount", str(point))
        return point

    def start(self, name: str, host: str, *words: str, own_boot: bool = False) -> None:
        """Start a process on a host, and wait until it is ready."""
        self.begin(name, host, *words, own_boot=own_boot)()

    def begin(
        self, name: str, host: str, *words: str, own_boot: bool = False
    ) -> Callable[[], None]:
        """Start a process on a host; call the result to wait until it is ready."""
        where = entered(self.network.hosts[host])
        if own_boot:
            script = f'mount --bind "$0" {BOOT_ID} && exec "$@"'
            boot = str(self.folder / host / "boot_id")
            where += ["unshare", "--mount", "--propagation", "slave", "sh", "-c", script, boot]
        command, *rest = words
        config = str(self.folder / host / "craqen.yaml")
        program = [sys.executable, "-m", "craqen.core.cli", command, "--config", config, *rest]
        running = self.processes.setdefault(name, Running(name, []))
        running.words = [*where, *program]
        return self._launch(running)

    def start_again(self, name: str) -> None:
        """Start a process that has ended, as it was started before."""
        self._launch(self.processes[name])()

    def _launch(self, running: Running) -> Callable[[], None]:
        receive, send = os.pipe()
        environment = {**os.environ, **running.environment, "CRAQEN_READY_FD": str(send)}
        with self._log(running.name).open("ab") as log:
            running.process = subprocess.Popen(
                running.words,
                env=environment,
                pass_fds=(send,),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        os.close(send)

        def wait() -> None:
            timer = threading.Timer(READY_SECONDS, running.process.kill)  # type: ignore[union-attr]
            timer.start()
            with os.fdopen(receive) as ready:
                line = ready.readline()
            timer.cancel()
            if not line.startswith("READY "):
                self.kill(running.name)
                raise AssertionError(f"{running.name} did not start: {self.log(running)}")

        return wait

    def end(self, name: str) -> None:
        """End a process as an operator does."""
        running = self.processes[name]
        process, running.process = running.process, None
        assert process is not None
        process.terminate()
        try:
            code = process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{name} did not end: {self.log(running)}") from None
        assert code == 0, f"{name} ended with {code}: {self.log(running)}"

    def kill(self, name: str) -> None:
        """End a process at once."""
        running = self.processes[name]
        process, running.process = running.process, None
        assert process is not None
        process.kill()
        process.wait()

    def running(self, name: str) -> bool:
        """Whether the process has not ended."""
        process = self.processes[name].process
        return process is not None and process.poll() is None

    def shift_clock(self, name: str, seconds: float) -> None:
        """The wall clock of a process that was started with ``own_clock`` jumps."""
        (self.folder / f"{name}.clock").write_text(f"{seconds:020.3f}")

    def own_clock(self, name: str) -> None:
        """Have a process, from its next start on, see a wall clock that ``shift_clock`` moves."""
        self.shift_clock(name, 0.0)
        self.processes.setdefault(name, Running(name, [])).environment = {
            "PYTHONPATH": os.pathsep.join([str(CLOCK_FOLDER), os.environ.get("PYTHONPATH", "")]),
            "WALL_CLOCK_SHIFT_FILE": str(self.folder / f"{name}.clock"),
        }

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def log(self, running: Running) -> str:
        """The end of what a process has said."""
        return self._log(running.name).read_text()[-3000:]

    def primary(self) -> str:
        """The name of the manager that is the primary."""
        said = {
            name: self._log(name).read_text()
            for name in self.processes
            if name.startswith("manager") and self.running(name)
        }
        epochs = {
            name: max((int(one.split()[0]) for one in text.split("epoch ")[1:]), default=0)
            for name, text in said.items()
            if text.rstrip()
        }
        return max(epochs, key=lambda name: epochs[name])

    # Asking it

    def admin(self, *words: str, codes: Sequence[int] = (0,)) -> str:
        """What ``craqen admin`` prints."""
        config = str(self.folder / "here" / "craqen.yaml")
        done = subprocess.run(
            [sys.executable, "-m", "craqen.core.cli", "admin", *words, "--config", config],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in codes, f"admin {words}: {done.returncode} {done.stderr}"
        return done.stdout

    def ask(self, *words: str) -> Any:
        """What ``craqen admin … --json`` prints."""
        return json.loads(self.admin(*words, "--json", codes=(0, 1, 2)))

    def wait_until(
        self, holds: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS
    ) -> float:
        """Wait until something holds; return for how long."""
        began = time.monotonic()
        while not holds():
            waited = time.monotonic() - began
            assert waited < seconds, f"not within {seconds:g} s: {what}\n{self.told()}"
            threading.Event().wait(0.2)
        return time.monotonic() - began

    def wait_until_well(self, seconds: float = PATIENCE_SECONDS) -> float:
        """Wait until ``craqen admin status`` has no complaint; return for how long."""
        return self.wait_until(lambda: bool(self.ask("status")["level"] == 0), "all well", seconds)

    def wait_until_told(self, *words: str, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """Wait until a point of ``craqen admin status`` has all *words*; return the status."""
        told: dict[str, Any] = {}

        def is_told() -> bool:
            told.update(self.ask("status"))
            return any(all(word in one["what"] for word in words) for one in told["troubles"])

        self.wait_until(is_told, f"status tells of {words}", seconds)
        return told

    def told(self) -> str:
        """The status, and the last words of all processes, for a test that fails."""
        logs = [f"--- {name}\n{self.log(one)}" for name, one in self.processes.items()]
        return "\n".join([self.admin("status", codes=(0, 1, 2)), *logs])

    def client(self) -> Any:
        """An S3 client with the retries that boto3 has by itself."""
        return boto3.client(
            "s3",
            endpoint_url=f"http://{self.network.hosts['gateway'].address}:{GATEWAY_PORT}",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=BotoConfig(s3={"addressing_style": "path"}),
        )

    def end_all(self) -> None:
        """End everything, the mount first."""
        order = sorted(
            (name for name, one in self.processes.items() if one.process is not None),
            key=lambda name: ("mount", "gateway", "node", "manager").index(
                name.rstrip("0123456789")
            ),
        )
        for name in order:
            process = self.processes[name].process
            assert process is not None
            process.send_signal(signal.SIGCONT)
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
            process.kill()
            process.wait()
            if name == "mount":
                subprocess.run(["umount", "-l", self.folder / "mnt"], check=False,
                               capture_output=True)  # fmt: skip
            self.processes[name].process = None

    def close(self) -> None:
        """End everything, and take the network away."""
        self.end_all()
        self.network.close()
        run("umount", "-l", str(self.folder))
