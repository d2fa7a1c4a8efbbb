"""Which machine is this, and which of its processes?"""

from __future__ import annotations

import os
from pathlib import Path


def host_identity() -> str:
    """Names this boot of this machine: where equal, unix sockets and descriptors can be shared."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def process_identity() -> str:
    """Names this process for others on this host: boot, process namespace, id and start time."""
    return f"{_namespace()} {os.getpid()} {_started(os.getpid())}"


def process_is_gone(identity: str) -> bool:
    """Whether *identity* (``process_identity``) names a process of this host that is no more.
    Unknown: it is not."""
    namespace, _, rest = identity.rpartition(" ")
    namespace, _, number = namespace.rpartition(" ")
    if not number.isdigit() or namespace != _namespace():
        return False
    return _started(int(number)) != rest


def _namespace() -> str:
    return f"{host_identity()}/{Path('/proc/self/ns/pid').readlink()}"


def _started(process_id: int) -> str:
    """When a process began, in the kernel's ticks; empty: there is none."""
    try:
        text = Path(f"/proc/{process_id}/stat").read_text()
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]
