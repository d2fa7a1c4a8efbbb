"""``make compat``: real clients against freshly started stores; the table goes to docs/compat.md.

Each case starts from an empty bucket on a store that was just started, over http and again over
https. A case that needs a program which is not installed is reported as skipped, with the package
that has it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import aws_cases
import build_cases
import cases
import mount_cases
import python_cases
import tool_cases
from main_case import main_case
from setting import Result, Setting, Skipped, write_table

from craqen.core.bench.store import LocalStore

ALL_CASES = [
    *cases.CASES,
    *aws_cases.CASES,
    *tool_cases.CASES,
    *python_cases.CASES,
    *mount_cases.CASES,
    *build_cases.CASES,
    main_case,
]


def run(
    selected: list[str], schemes: list[str], full: bool, checkouts: dict[str, Path]
) -> list[Result]:
    """Run the cases whose names contain one of *selected* (all if empty)."""
    results: list[Result] = []
    for scheme in schemes:
        with tempfile.TemporaryDirectory(prefix="craqen-compat-") as work:
            options = [f'CRAQEN_GATEWAY_BASE_DOMAINS=["{python_cases.VIRTUAL_DOMAIN}"]']
            if scheme == "https":
                options.append("CRAQEN_GATEWAY_TLS=true")
            mount = Path(work) / "mount"
            with LocalStore(folder=f"{work}/data", mount=str(mount), options=options) as store:
                setting = Setting(store, scheme, Path(work), mount, full, checkouts)
                for case in ALL_CASES:
                    name = " ".join((case.__doc__ or case.__name__).split())
                    if selected and not any(word.lower() in name.lower() for word in selected):
                        continue
                    results.append(_run_one(case, name, setting))
    return results


def _run_one(case: object, name: str, setting: Setting) -> Result:
    started = time.monotonic()
    try:
        note = case(setting) or ""  # type: ignore[operator]
        outcome = "pass"
    except Skipped as reason:
        outcome, note = "skipped", str(reason)
    except Exception as error:
        traceback.print_exc()
        outcome, note = (
            "FAIL",
            str(error).strip().splitlines()[-1][:200] if str(error) else repr(error),
        )
    seconds = time.monotonic() - started
    print(f"{outcome:8} {setting.scheme:5} {seconds:6.1f} s  {name}  {note}", flush=True)
    return Result(name, setting.scheme, outcome, note, seconds)


def main() -> int:
    """Run what the command line asks for; return 0 if nothing failed."""
    parser = argparse.ArgumentParser(prog="make compat")
    parser.add_argument(
        "--case", "--only", dest="only", action="append", default=[], help="part of a case's name"
    )
    parser.add_argument("--scheme", choices=["http", "https"], action="append")
    parser.add_argument("--quick", action="store_true", help="a small tree in the main case")
    parser.add_argument("--no-table", action="store_true", help="leave docs/compat.md alone")
    parser.add_argument("--minio-py", type=Path, help="a checkout of minio/minio-py: its own tests")
    arguments = parser.parse_args()
    checkouts = {"minio-py": arguments.minio_py.resolve()} if arguments.minio_py else {}
    schemes = arguments.scheme or ["http", "https"]
    results = run(arguments.only, schemes, not arguments.quick, checkouts)
    if not arguments.no_table and not arguments.only:
        write_table(results, full=not arguments.quick)
    passed = sum(result.outcome == "pass" for result in results)
    failed = sum(result.outcome == "FAIL" for result in results)
    skipped = len(results) - passed - failed
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


sys.exit(main())
