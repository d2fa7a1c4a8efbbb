"""What a case gets: the store's address and keys, a work folder, the mount; and the table of
results."""

from __future__ import annotations

import filecmp
import os
import platform
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from craqen.core.bench.store import LocalStore

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "build" / "compat"
TABLES = ROOT / "docs" / "compat.md"
COMMAND_TIMEOUT_SECONDS = 1800
INSTALL_TIMEOUT_SECONDS = 1200


class Skipped(Exception):
    """The case cannot run here; says what is missing."""


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table."""

    name: str
    scheme: str
    outcome: str
    note: str
    seconds: float


class Setting:
    """One running store, and how to reach it."""

    def __init__(
        self,
        store: LocalStore,
        scheme: str,
        work: Path,
        mount: Path,
        full: bool,
        checkouts: Mapping[str, Path],
    ) -> None:
        """*checkouts*: repositories of others, by name, whose own tests are run."""
        self.store = store
        self.scheme = scheme
        self.work = work
        self.mount = mount
        self.full = full
        self.checkouts = checkouts
        self.endpoint = store.endpoint
        self.certificate = f"{store.folder}/tls/certificate.pem" if scheme == "https" else ""
        home = work / "home"
        (home / ".aws").mkdir(parents=True)
        # The first generation of the aws CLI presigns by SigV2 unless told otherwise.
        (home / ".aws" / "config").write_text("[default]\ns3 =\n  signature_version = s3v4\n")
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "AWS_ACCESS_KEY_ID": store.access_key,
            "AWS_SECRET_ACCESS_KEY": store.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_AUTHOR_NAME": "Craqen",
            "GIT_AUTHOR_EMAIL": "craqen@example.org",
            "GIT_COMMITTER_NAME": "Craqen",
            "GIT_COMMITTER_EMAIL": "craqen@example.org",
        }
        if self.certificate:
            self.environment["AWS_CA_BUNDLE"] = self.certificate
            self.environment["SSL_CERT_FILE"] = self.certificate

    def run(self, *words: str | Path, folder: Path | None = None, stdin: bytes = b"") -> str:
        """Run a program; return what it printed. Raises RuntimeError with its words if it fails."""
        result = subprocess.run(
            [str(word) for word in words],
            cwd=folder or self.work,
            env=self.environment,
            input=stdin,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_SECONDS,
            check=False,
        )
        if result.returncode != 0:
            said = (result.stdout[-1500:] + result.stderr[-1500:]).decode(errors="replace")
            raise RuntimeError(
                f"{' '.join(map(str, words))}: exit code {result.returncode}: {said}"
            )
        return result.stdout.decode(errors="replace")

    def bucket(self, name: str) -> str:
        """A new empty bucket, made through the mount."""
        (self.mount / name).mkdir()
        return name

    def folder(self, name: str) -> Path:
        """A new empty local folder."""
        path = self.work / name
        path.mkdir()
        return path


def program(name: str, package: str, *, path: str | None = None) -> str:
    """The path of an installed program. Raises Skipped naming the Debian package."""
    if path:
        found = path if os.access(path, os.X_OK) else None
    else:
        found = shutil.which(name)
    if not found:
        raise Skipped(f"{name} is not installed (Debian package {package})")
    return found


def python_tool(name: str, packages: Sequence[str]) -> Path:
    """A virtual environment with *packages* under build/compat, made once; returns its bin
    folder. Raises Skipped if they cannot be installed."""
    folder = TOOLS / name
    marker = folder / ".ready"
    wanted = " ".join(packages)
    if not marker.exists() or marker.read_text() != wanted:
        folder.parent.mkdir(parents=True, exist_ok=True)
        venv.create(folder, with_pip=True, clear=True)
        words = [str(folder / "bin" / "pip"), "install", "--quiet", *packages]
        try:
            subprocess.run(words, check=True, timeout=INSTALL_TIMEOUT_SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            raise Skipped(f"pip install {wanted} failed") from None
        marker.write_text(wanted)
    return folder / "bin"


def differences(left: Path, right: Path) -> list[str]:
    """Relative paths of files that are only on one side or differ in a byte; empty folders do not
    count."""
    ours, theirs = _files(left), _files(right)
    found = sorted(ours ^ theirs)
    for name in sorted(ours & theirs):
        if not filecmp.cmp(left / name, right / name, shallow=False):
            found.append(name)
    return found


def expect_equal(left: Path, right: Path) -> None:
    """Raise AssertionError naming the first differences."""
    found = differences(left, right)
    assert not found, f"{len(found)} files differ: {found[:5]}"


def _files(folder: Path) -> set[str]:
    return {
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, _, names in os.walk(folder)
        for name in names
    }


def write_table(results: Sequence[Result], *, full: bool) -> None:
    """Write docs/compat.md."""
    names = list(dict.fromkeys(result.name for result in results))
    by_key = {(result.name, result.scheme): result for result in results}
    lines = [
        "# Real clients",
        "",
        "Written by `make compat`: each case ran against a freshly started store, over http and",
        "over https, with the mount of the same store beside it.",
        "",
        *([] if full else ["The main case ran with its small tree (`ARGS=--quick`).", ""]),
        f"{time.strftime('%Y-%m-%d')}, Python {platform.python_version()}, {sys.platform} "
        f"{platform.release().split('-')[0]}.",
        "",
        "| case | http | https | notes |",
        "|---|---|---|---|",
    ]
    for name in names:
        cells, notes = [], []
        for scheme in ("http", "https"):
            result = by_key.get((name, scheme))
            cells.append(f"{result.outcome} ({result.seconds:.1f} s)" if result else "–")
            if result and result.note and result.note not in notes:
                notes.append(result.note)
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {'; '.join(notes)} |")
    _, separator, sections = TABLES.read_text().partition("\n## ")
    TABLES.write_text("\n".join(lines) + "\n" + separator + sections)


def write_section(title: str, text: str) -> None:
    """Put *text*, which begins with its *title* (``## …``), into docs/compat.md, instead of the
    section of that title if there is one."""
    present = TABLES.read_text()
    before, _, rest = present.partition(f"{title}\n")
    _, separator, after = rest.partition("\n## ")
    TABLES.write_text(before.rstrip("\n") + "\n\n" + text + separator + after)
