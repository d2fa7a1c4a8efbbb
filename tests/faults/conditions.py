"""What these tests need of the machine, and which of it is missing here."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

TOOLS = {
    "network": ("ip", "tc", "nsenter", "unshare", "mount"),
    "mount": (),
    "disk": ("losetup", "mkfs.ext4", "mount", "umount"),
}


SLOW_LINE = ("tbf", "rate", "16mbit", "burst", "64kb", "latency", "100ms")
"""A line that delays what does not fit, and loses what would be delayed for longer."""
BAD_LINE = ("netem", "delay", "30ms", "20ms", "loss", "2%")
"""A line that delays everything, and loses some of it."""


@cache
def why_not(need: str) -> str | None:
    """Why there is no *need* ("network", "mount", "disk", "netem") here; None if there is."""
    if os.geteuid() != 0:
        return "not root"
    for tool in TOOLS.get(need, ()):
        if shutil.which(tool) is None:
            return f"the program {tool} is not installed"
    if need == "network":
        return _namespaces()
    if need == "netem":
        return _netem()
    if need in ("mount", "disk") and not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is missing or not open to this user"
    if need == "disk" and not Path("/dev/loop-control").exists():
        return "/dev/loop-control is missing: the kernel has no loop devices"
    return None


def require(needs: Iterable[str]) -> None:
    """Skip the test that runs unless all *needs* are here."""
    for need in needs:
        reason = why_not(need)
        if reason is not None:
            pytest.skip(f"no {need} to make faults with: {reason}")


def _namespaces() -> str | None:
    name = f"cqprobe{os.getpid()}"
    for words in (
        ("ip", "netns", "add", name),
        (
            "ip",
            "-n",
            name,
            "link",
            "add",
            "name",
            "probe0",
            "type",
            "veth",
            "peer",
            "name",
            "probe1",
        ),
        ("ip", "-n", name, "link", "add", "name", "probe2", "type", "bridge"),
        ("ip", "-n", name, "link", "set", "probe0", "up"),
        ("tc", "-n", name, "qdisc", "add", "dev", "probe0", "root", *SLOW_LINE),
    ):
        reason = _refused(*words)
        if reason is not None:
            break
    _refused("ip", "netns", "del", name)
    return reason


def _netem() -> str | None:
    name = f"cqprobe{os.getpid()}"
    for words in (
        ("ip", "netns", "add", name),
        ("ip", "-n", name, "link", "set", "lo", "up"),
        ("tc", "-n", name, "qdisc", "add", "dev", "lo", "root", *BAD_LINE),
    ):
        reason = _refused(*words)
        if reason is not None:
            break
    _refused("ip", "netns", "del", name)
    return reason


def _refused(*words: str) -> str | None:
    """What the command said, if it failed."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"`{' '.join(words)}`: {done.stderr.strip()}"
