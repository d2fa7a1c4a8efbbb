"""Hosts as network namespaces on one bridge, and the faults of the network between them.

A cut is one direction of one pair: the sender's neighbour entry names a card that does not exist,
so that packets leave and never arrive, as behind a broken switch; nobody is told.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SUBNETS = 250  # of 198.18.0.0/16, which is set aside for tests of networks
NOWHERE = "02:00:de:ad:00:00"
_numbers = itertools.count(os.getpid())


@dataclass(frozen=True)
class Host:
    """One namespace."""

    name: str
    namespace: str
    address: str
    card: str


class Network:
    """A bridge in the namespace of the tests, and hosts on it. Close it."""

    def __init__(self) -> None:
        number = next(_numbers)
        self._prefix = f"cq{number % 100_000}"
        self._subnet = self._free_subnet(number)
        self._cuts: set[tuple[str, str]] = set()
        self.hosts: dict[str, Host] = {}
        run("ip", "link", "add", "name", self._prefix, "type", "bridge")
        run("ip", "address", "add", f"{self._subnet}.254/24", "dev", self._prefix)
        run("ip", "link", "set", self._prefix, "up")

    @staticmethod
    def _free_subnet(number: int) -> str:
        taken = run("ip", "-4", "-brief", "address")
        for offset in range(SUBNETS):
            subnet = f"198.18.{(number + offset) % SUBNETS}"
            if f"{subnet}." not in taken:
                return subnet
        raise AssertionError("no subnet of 198.18.0.0/16 is free")

    def add(self, name: str) -> Host:
        """Another host, in touch with all others and with the tests."""
        number = len(self.hosts) + 1
        host = Host(
            name,
            f"{self._prefix}-{name}",
            f"{self._subnet}.{number}",
            f"02:00:c6:12:00:{number:02x}",
        )
        outer = f"{self._prefix}v{number}"
        run("ip", "netns", "add", host.namespace)
        self.hosts[name] = host
        run("ip", "link", "add", "name", outer, "type", "veth", "peer", "name", "eth0",
            "netns", host.namespace)  # fmt: skip
        run("ip", "link", "set", outer, "master", self._prefix, "up")
        inside = ("ip", "-n", host.namespace)
        run(*inside, "link", "set", "eth0", "address", host.card)
        run(*inside, "address", "add", f"{host.address}/24", "dev", "eth0")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "link", "set", "lo", "up")
        return host

    def cut(self, senders: Iterable[str], receivers: Iterable[str]) -> None:
        """What *senders* send to *receivers* is lost from now on; the other way is left alone."""
        receivers = tuple(receivers)
        for sender, receiver in itertools.product(senders, receivers):
            if sender != receiver:
                self._point(sender, receiver, NOWHERE)
                self._cuts.add((sender, receiver))

    def part(self, some: Iterable[str], others: Iterable[str]) -> None:
        """Nothing passes between *some* and *others*."""
        some, others = tuple(some), tuple(others)
        self.cut(some, others)
        self.cut(others, some)

    def isolate(self, name: str) -> None:
        """Nothing passes between a host and all others."""
        self.part([name], [other for other in self.hosts if other != name])

    def heal(self) -> None:
        """All cuts are mended."""
        for sender, receiver in self._cuts:
            self._point(sender, receiver, self.hosts[receiver].card)
        self._cuts.clear()

    def _point(self, sender: str, receiver: str, card: str) -> None:
        run("ip", "-n", self.hosts[sender].namespace, "neighbour", "replace",
            self.hosts[receiver].address, "lladdr", card, "dev", "eth0",
            "nud", "permanent")  # fmt: skip

    def shape(self, name: str, *discipline: str) -> None:
        """What the host sends passes through a queueing *discipline* (tc)."""
        namespace = self.hosts[name].namespace
        run("tc", "-n", namespace, "qdisc", "replace", "dev", "eth0", "root", *discipline)

    def unshape(self, name: str) -> None:
        """What the host sends passes at once again."""
        run("tc", "-n", self.hosts[name].namespace, "qdisc", "del", "dev", "eth0", "root")

    def close(self) -> None:
        """Take everything away."""
        for host in self.hosts.values():
            run("ip", "netns", "del", host.namespace)
        run("ip", "link", "del", self._prefix)


def entered(host: Host) -> list[str]:
    """The words that start a program on the host; its process id stays that of the first word."""
    return ["nsenter", f"--net={Path('/run/netns') / host.namespace}", "--"]


def run(*words: str) -> str:
    """Run a command; return what it said. Raises AssertionError with its complaint."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"`{' '.join(words)}`: {done.stderr.strip()}"
    return done.stdout
