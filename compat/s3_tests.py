"""``make s3-tests S3TESTS=path``: the conformance suite ceph/s3-tests, from its own checkout,
against a freshly started store; the totals go to docs/compat.md.

The suite brings its own virtual environment (made once under build/compat) and knows nothing of
Craqen but the configuration that is written here: the store's address and the keys of six accounts.
"""

from __future__ import annotations

import argparse
import configparser
import json
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from setting import python_tool, write_section

from craqen.core.bench.store import LocalStore

GROUP_TIMEOUT_SECONDS = 3600
TEST_TIMEOUT_SECONDS = 300
LIFECYCLE_DAY_SECONDS = 10  # of the suite's clock, unless its configuration says otherwise
WORKERS = 2  # processes of the suite at a time
TITLE = "## ceph/s3-tests"
KNOWN = Path(__file__).resolve().parent / "s3_tests_known.txt"

_OPTIONAL = "encryption or sse_s3 or bucket_encryption"
_LIFECYCLE = "lifecycle or lifecycle_expiration or lifecycle_transition"
_ELSEWHERE = "bucket_logging or bucket_logging_cleanup or cloud_transition or cloud_restore"
_FUNCTIONAL = "s3tests/functional"


@dataclass(frozen=True, slots=True)
class Group:
    """Tests that are counted together."""

    name: str
    title: str
    files: tuple[str, ...]
    markers: str
    """As pytest's -m has it."""


GROUPS = (
    Group(
        "core",
        "core: buckets, objects, listings, ACLs, policies, versions, locks, multipart",
        ("test_s3.py",),
        f"not (fails_on_aws or fails_on_rgw or auth_aws2 or {_OPTIONAL} or {_LIFECYCLE} or "
        f"{_ELSEWHERE})",
    ),
    Group(
        "core-beyond-rgw",
        "core, what the suite's own server fails",
        ("test_s3.py",),
        f"fails_on_rgw and not (fails_on_aws or auth_aws2 or {_OPTIONAL} or {_LIFECYCLE} or "
        f"{_ELSEWHERE})",
    ),
    Group(
        "lifecycle",
        "lifecycle: the API",
        ("test_s3.py",),
        "lifecycle and not (fails_on_aws or lifecycle_expiration or lifecycle_transition or "
        f"{_ELSEWHERE})",
    ),
    Group(
        "expiration",
        "lifecycle: objects end",
        ("test_s3.py",),
        f"lifecycle_expiration and not (lifecycle_transition or {_ELSEWHERE})",
    ),
    Group(
        "transition",
        "lifecycle: objects move to other storage, or to a cloud and back",
        ("test_s3.py",),
        "lifecycle_transition or cloud_transition or cloud_restore",
    ),
    Group(
        "encryption",
        "encryption: SSE-C, SSE-S3, SSE-KMS",
        ("test_s3.py",),
        f"({_OPTIONAL}) and not (fails_on_aws or {_LIFECYCLE} or {_ELSEWHERE})",
    ),
    Group("headers", "headers of requests, Signature Versions 2 and 4", ("test_headers.py",), ""),
    Group("sts", "STS without web identities", ("test_sts.py",), "test_of_sts"),
    Group("iam", "IAM: users, groups, roles and their policies", ("test_iam.py",), ""),
    Group("select", "S3 Select", ("test_s3select.py",), ""),
)

_TOGETHER = ("core", "lifecycle", "expiration", "encryption")

ACCOUNTS = {
    "s3 main": ("main", "M. Tester"),
    "s3 alt": ("alt", "john.doe"),
    "s3 tenant": ("tenant", "tenanted user"),
    "iam": ("iam", "iam tester"),
    "iam root": ("iam-root", "iam root"),
    "iam alt root": ("iam-alt-root", "iam alt root"),
}
"""Section of the suite's configuration: name in the e-mail address, display name."""

_BY_ACCOUNT_ID = "iam root"  # the suite compares this one's id with that of GetCallerIdentity

ENCRYPTION_KEYS = ("testkey-1", "testkey-2")
"""Keys that the suite expects to be there."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One test."""

    name: str
    outcome: str
    """passed, failed, error or skipped."""
    markers: tuple[str, ...]
    message: str


def administer(store: LocalStore, *words: str) -> dict[str, str]:
    """What ``craqen admin`` says to *words*."""
    done = subprocess.run(
        [sys.executable, "-m", "craqen.core.cli", "admin", *words, "--json"],
        env={**os.environ, "CRAQEN_DATA_FOLDER": store.folder},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    said: dict[str, str] = json.loads(done.stdout)
    return said


def write_configuration(store: LocalStore, path: Path, worker: int) -> None:
    """The suite's configuration for one of its processes: where the store is, and who asks it. Each
    has accounts of its own, since some tests count the buckets of one."""
    parser = configparser.RawConfigParser()
    parser["DEFAULT"] = {
        "host": "127.0.0.1",
        "port": str(store.port),
        "is_secure": "False",
        "ssl_verify": "False",
    }
    parser["fixtures"] = {"bucket prefix": "craqen-{random}-"}
    for section, (name, display_name) in ACCOUNTS.items():
        email = f"{name}-{worker}@example.org"
        made = administer(store, "account", "create", "--key", "--email", email, display_name)
        parser[section] = {
            "access_key": made["access_key"],
            "secret_key": made["secret_key"],
            "user_id": made["id" if section == _BY_ACCOUNT_ID else "canonical_id"],
            "display_name": display_name,
            "email": email,
        }
    parser["s3 tenant"]["tenant"] = "testx"
    parser["s3 main"]["lc_debug_interval"] = str(LIFECYCLE_DAY_SECONDS)
    with path.open("w") as file:
        parser.write(file)
    path.chmod(0o600)


def run_group(
    group: Group, suite: Path, python: Path, work: Path, more: Sequence[str]
) -> list[Outcome]:
    """Run the tests of *group*; the suite's own words go to a file in *work*."""
    report = work / f"{group.name}.xml"
    words = [str(python), "-m", "pytest", "-q", "-p", "s3_tests_markers", "--tb=short"]
    words += [f"--junitxml={report}", "-o", "junit_family=xunit1", "-n", str(WORKERS)]
    words += [f"--timeout={TEST_TIMEOUT_SECONDS}"]
    words += ["-m", group.markers] if group.markers else []
    words += [*more, *(f"{_FUNCTIONAL}/{name}" for name in group.files)]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(work),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(Path(__file__).resolve().parent / "s3_tests_plugin"),
        "CRAQEN_S3TEST_CONF": str(work / "s3tests.conf"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with (work / f"{group.name}.log").open("wb") as log:
        subprocess.run(
            words,
            cwd=suite,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=GROUP_TIMEOUT_SECONDS,
            check=False,
        )
    if not report.exists():
        said = (work / f"{group.name}.log").read_text(errors="replace")
        raise RuntimeError(f"{group.name}: the suite did not run:\n{said[-3000:]}")
    return _outcomes(report)


def kept_results(folders: Sequence[Path]) -> dict[str, list[Outcome]]:
    """The outcomes of the groups that have a report in any of *folders*; of a test that was run
    several times, that in the last of them."""
    results: dict[str, list[Outcome]] = {}
    for group in GROUPS:
        reports = [folder / f"{group.name}.xml" for folder in folders]
        found: dict[str, Outcome] = {}
        for report in reports:
            if report.exists():
                found |= {outcome.name: outcome for outcome in _outcomes(report)}
        if found:
            results[group.name] = list(found.values())
    return results


def _outcomes(report: Path) -> list[Outcome]:
    """The tests of a report; one whose teardown failed is there twice, and counts as failed."""
    found: dict[str, Outcome] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.get("name", "")
        markers = tuple(each.get("value", "") for each in case.iter("property"))
        outcome, message = "passed", ""
        for kind, word in (("skipped", "skipped"), ("error", "error"), ("failure", "failed")):
            element = case.find(kind)
            if element is not None:
                lines = element.get("message", "").splitlines()
                outcome, message = word, lines[0] if lines else ""
        known = found.get(name)
        if known is None or known.outcome == "passed":
            found[name] = Outcome(name, outcome, markers, message)
    return list(found.values())


def reasons() -> dict[str, str]:
    """Why tests fail that are known to: a line each, name and reason."""
    lines = [line.strip() for line in KNOWN.read_text().splitlines()]
    pairs = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return {name: reason.strip() for name, _, reason in pairs}


def section(results: dict[str, list[Outcome]], revision: str, *, runs: int = 1) -> str:
    """The section of docs/compat.md. *runs*: of how many runs the results are."""
    lines = [
        TITLE,
        "",
        "Written by `make s3-tests S3TESTS=path`: the suite's own checkout"
        f" ({revision}), its own pytest,",
        f"a freshly started store, http. {time.strftime('%Y-%m-%d')}.",
        *([f"Of {runs} runs; a test that was run again counts as it went last."] * (runs > 1)),
        "",
        "| group | passed | failed | skipped |",
        "|---|---|---|---|",
    ]
    titles = {group.name: group.title for group in GROUPS}
    everything = [outcome for outcomes in results.values() for outcome in outcomes]
    for name, outcomes in results.items():
        lines.append(f"| {titles[name]} | {_counts(outcomes)} |")
    lines.append(f"| **all** | {_counts(everything)} |")
    together = [outcome for name in _TOGETHER for outcome in results.get(name, [])]
    passed = sum(outcome.outcome == "passed" for outcome in together)
    lines += ["", f"Core, lifecycle and encryption together: {passed} of {len(together)}."]
    markers: dict[str, list[Outcome]] = {}
    for outcome in everything:
        for marker in outcome.markers:
            markers.setdefault(marker, []).append(outcome)
    lines += ["", "| marker | passed | failed | skipped |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {_counts(markers[name])} |"
        for name in sorted(markers)
        if name not in ("usefixtures", "parametrize", "filterwarnings")
    ]
    failed = [outcome for outcome in everything if outcome.outcome in ("failed", "error")]
    if failed:
        known = reasons()
        by_reason: dict[str, list[str]] = {}
        for outcome in sorted(failed, key=lambda each: each.name):
            reason = known.get(outcome.name.partition("[")[0], "not looked into yet")
            by_reason.setdefault(reason, []).append(f"`{outcome.name}`")
        lines += ["", "Failed, and why:", ""]
        lines += [f"* {reason}: {', '.join(names)}" for reason, names in by_reason.items()]
    skipped: dict[str, list[str]] = {}
    for outcome in everything:
        if outcome.outcome == "skipped":
            skipped.setdefault(outcome.message, []).append(f"`{outcome.name}`")
    if skipped:
        lines += ["", "Skipped by the suite, and its words for why:", ""]
        lines += [f"* {words}: {', '.join(sorted(names))}" for words, names in skipped.items()]
    return "\n".join(lines) + "\n"


def _counts(outcomes: Sequence[Outcome]) -> str:
    counts = Counter(outcome.outcome for outcome in outcomes)
    failed = counts["failed"] + counts["error"]
    return f"{counts['passed']} | {failed} | {counts['skipped']}"


def main() -> int:
    """Run what the command line asks for; return 0 if nothing failed."""
    parser = argparse.ArgumentParser(prog="make s3-tests")
    parser.add_argument("suite", type=Path, help="checkout of ceph/s3-tests")
    parser.add_argument(
        "--group", action="append", choices=[group.name for group in GROUPS], default=[]
    )
    parser.add_argument("-k", dest="words", default="", help="only tests whose names match")
    parser.add_argument("--keep", type=Path, help="folder for the suite's logs and reports")
    parser.add_argument("--no-table", action="store_true", help="leave docs/compat.md alone")
    parser.add_argument(
        "--table-of",
        type=Path,
        action="append",
        default=[],
        help="run nothing: write the table of the reports in a --keep folder (several: the last "
        "one that has a test counts)",
    )
    arguments = parser.parse_args()
    suite: Path = arguments.suite.resolve()
    requirements = suite / "requirements.txt"
    if not requirements.exists():
        parser.error(f"{suite} is no checkout of ceph/s3-tests: it has no requirements.txt")
    if arguments.table_of:
        kept = kept_results(arguments.table_of)
        write_section(TITLE, section(kept, _revision(suite), runs=len(arguments.table_of)))
        return 0
    packages = ["-r", str(requirements), "pytest-xdist", "pytest-timeout"]
    python = python_tool("s3-tests", packages) / "python"
    more = ["-k", arguments.words] if arguments.words else []
    results: dict[str, list[Outcome]] = {}
    options = [
        "CRAQEN_GATEWAY_SIGNATURE_VERSION_2=true",
        # The suite's own server has ACLs in every new bucket, and knows no file permissions: what
        # nobody may write in a mount is public there.
        "CRAQEN_GATEWAY_OBJECT_OWNERSHIP=ObjectWriter",
        "CRAQEN_GATEWAY_ACCESS_MODE=policy",
        f"CRAQEN_LIFECYCLE_DAY_SECONDS={LIFECYCLE_DAY_SECONDS}",
        "CRAQEN_LIFECYCLE_INTERVAL_SECONDS=1",
    ]
    with (
        tempfile.TemporaryDirectory(prefix="craqen-s3-tests-") as temporary,
        LocalStore(options=options) as store,
    ):
        work: Path = arguments.keep or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        for name in ENCRYPTION_KEYS:
            administer(store, "encryption-key", "create", name)
        for worker in range(WORKERS):
            write_configuration(store, work / f"s3tests.conf.gw{worker}", worker)
        for group in GROUPS:
            if arguments.group and group.name not in arguments.group:
                continue
            outcomes = results[group.name] = run_group(group, suite, python, work, more)
            print(f"{group.name:16} {_counts(outcomes)}", flush=True)
            for outcome in outcomes:
                if outcome.outcome in ("failed", "error"):
                    print(f"  {outcome.outcome:6} {outcome.name}: {outcome.message[:150]}")
    if not arguments.no_table and not arguments.group and not arguments.words:
        write_section(TITLE, section(results, _revision(suite)))
    failed = [each for outcomes in results.values() for each in outcomes]
    return 1 if any(each.outcome in ("failed", "error") for each in failed) else 0


def _revision(suite: Path) -> str:
    done = subprocess.run(
        ["git", "-C", str(suite), "rev-parse", "--short=8", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "no git checkout"


if __name__ == "__main__":
    sys.exit(main())
