"""Keys of a key service: what is wrapped, what is asked, and what comes of its faults."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from craqen.core.clock import ManualClock, SystemClock
from craqen.core.crypt.external_keys import EXTERNAL, ExternalKeys
from craqen.core.crypt.key_ring import STORE_KEY_ID, FileKeyRing
from craqen.core.crypt.open_keys import open_keys, open_service
from craqen.core.crypt.port import KMS_DEFAULT_KEY_ID, KeyKeeper
from craqen.core.errors import (
    ConfigError,
    CraqenError,
    DataLossError,
    KeyServiceUnavailableError,
    NotFoundError,
    PermissionDeniedError,
)
from craqen.core.options import Config, EncryptionOptions
from craqen.tests.support.key_services import (
    ACCESS_KEY,
    REGION,
    SECRET_KEY,
    TOKEN,
    FakeKms,
    FakeService,
    FakeVault,
    running,
)

BOUND = b"bound"
DATA_KEY = bytes(range(32))


@pytest.fixture(params=[FakeKms, FakeVault])
def service(request: pytest.FixtureRequest) -> Iterator[FakeService]:
    fake: FakeService = request.param()
    with running(fake):
        yield fake


def configured(service: FakeService, folder: Path, **more: object) -> Config:
    """The configuration of a store that uses *service*."""
    credentials, token = folder / "credentials", folder / "token"
    lines = f"aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    for path, text in ((credentials, f"[default]\n{lines}"), (token, f"{TOKEN}\n")):
        path.write_text(text)
        path.chmod(0o600)
    ring = FileKeyRing(folder / "keys.yaml")
    if not ring.keys():
        ring.create(STORE_KEY_ID, "2026-11-24T00:00:00Z")
        ring.create("own", "2026-11-24T00:00:00Z")
    options = {
        "kms": "aws" if isinstance(service, FakeKms) else "vault",
        "kms_endpoint": service.url,
        "kms_region": REGION,
        "kms_credentials_file": str(credentials),
        "kms_token_file": str(token),
        "kms_default_key": "first",
        "kms_timeout_seconds": 5.0,
        **more,
    }
    encryption = EncryptionOptions(**options)  # type: ignore[arg-type]
    return Config(data_folder=str(folder), encryption=encryption)


def run(config: Config, work: Callable[[KeyKeeper], Awaitable[None]]) -> None:
    async def main() -> None:
        keys = open_keys(config, SystemClock())
        try:
            await work(keys)
        finally:
            await keys.close()

    asyncio.run(main())


def test_who_wraps_what(service: FakeService, tmp_path: Path) -> None:
    config = configured(service, tmp_path)

    async def work(keys: KeyKeeper) -> None:
        for key_id in ("", "own", STORE_KEY_ID):
            wrapped = await keys.wrap(key_id, DATA_KEY, BOUND)
            assert wrapped.key_version == 1
            assert await keys.unwrap(wrapped, BOUND) == DATA_KEY
        assert service.calls == []
        for key_id in ("second", KMS_DEFAULT_KEY_ID):
            wrapped = await keys.wrap(key_id, DATA_KEY, BOUND)
            assert wrapped.key_version == EXTERNAL
            assert wrapped.key_id.endswith("first" if key_id == KMS_DEFAULT_KEY_ID else key_id)
            assert DATA_KEY not in wrapped.wrapped
            assert keys.is_current(wrapped)
            again = open_keys(config, SystemClock())  # another process
            assert await again.unwrap(wrapped, BOUND) == DATA_KEY
            with pytest.raises(DataLossError):
                await again.unwrap(wrapped, b"bound elsewhere")
            with pytest.raises(DataLossError):
                await again.unwrap(wrapped._replace(wrapped=wrapped.wrapped[:-1]), BOUND)
            await again.close()

    run(config, work)


def test_calls_are_few(service: FakeService, tmp_path: Path) -> None:
    async def work(keys: KeyKeeper) -> None:
        wrapped = await asyncio.gather(*(keys.wrap("first", DATA_KEY, BOUND) for _ in range(50)))
        assert len(service.calls) == 1
        other = open_keys(configured(service, tmp_path), SystemClock())
        found = await asyncio.gather(*(other.unwrap(one, BOUND) for one in wrapped))
        assert found == [DATA_KEY] * 50
        assert len(service.calls) == 2
        await other.close()

    run(configured(service, tmp_path), work)


def test_keys_are_forgotten_in_time(service: FakeService, tmp_path: Path) -> None:
    config = configured(service, tmp_path)

    async def main() -> None:
        clock = ManualClock()
        keys = ExternalKeys(open_service(config, SystemClock()), clock, cache_seconds=60)
        wrapped = await keys.wrap("first", DATA_KEY, BOUND)
        service.disabled.add("first")
        clock.advance(59)
        assert await keys.unwrap(wrapped, BOUND) == DATA_KEY
        await keys.wrap("first", DATA_KEY, BOUND)
        clock.advance(2)
        with pytest.raises(PermissionDeniedError):
            await keys.unwrap(wrapped, BOUND)
        with pytest.raises(PermissionDeniedError):
            await keys.wrap("first", DATA_KEY, BOUND)
        service.disabled.clear()
        assert await keys.unwrap(wrapped, BOUND) == DATA_KEY
        await keys.close()
        always = ExternalKeys(open_service(config, SystemClock()), clock, cache_seconds=0)
        before = len(service.calls)
        for _ in range(3):
            one = await always.wrap("first", DATA_KEY, BOUND)
            assert await always.unwrap(one, BOUND) == DATA_KEY
        assert len(service.calls) == before + 6
        await always.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ((500, {"__type": "KMSInternalException", "errors": []}), KeyServiceUnavailableError),
        ((400, {"__type": "ThrottlingException"}), KeyServiceUnavailableError),
        ((503, {"errors": ["Vault is sealed"]}), KeyServiceUnavailableError),
        ((200, {"Plaintext": "AAAA", "data": {"plaintext": "AAAA"}}), KeyServiceUnavailableError),
        ((302, {}), KeyServiceUnavailableError),
    ],
)
def test_faults_of_the_service(
    service: FakeService, tmp_path: Path, fault: object, expected: type[CraqenError]
) -> None:
    if isinstance(service, FakeVault) and "ThrottlingException" in str(fault):
        fault = (429, {"errors": ["too many requests"]})

    async def work(keys: KeyKeeper) -> None:
        wrapped = await keys.wrap("second", DATA_KEY, BOUND)
        service.fault = fault  # type: ignore[assignment]
        with pytest.raises(expected, match=r"127\.0\.0\.1"):
            await keys.wrap("first", DATA_KEY, BOUND)
        assert await keys.unwrap(wrapped, BOUND) == DATA_KEY  # known yet
        other = open_keys(configured(service, tmp_path), SystemClock())
        with pytest.raises(expected):
            await other.unwrap(wrapped, BOUND)
        service.fault = None
        assert await other.unwrap(wrapped, BOUND) == DATA_KEY
        await other.close()

    run(configured(service, tmp_path), work)


def test_no_answer(service: FakeService, tmp_path: Path) -> None:
    service.hangs = True
    config = configured(service, tmp_path, kms_timeout_seconds=0.2)

    async def work(keys: KeyKeeper) -> None:
        with pytest.raises(KeyServiceUnavailableError, match=r"within 0\.2 seconds"):
            await keys.wrap("first", DATA_KEY, BOUND)

    run(config, work)


def test_nobody_listens(tmp_path: Path) -> None:
    service = FakeKms()
    with running(service):
        pass

    async def work(keys: KeyKeeper) -> None:
        with pytest.raises(KeyServiceUnavailableError, match="cannot be reached"):
            await keys.wrap("first", DATA_KEY, BOUND)
        assert await keys.unwrap(await keys.wrap("", DATA_KEY, BOUND), BOUND) == DATA_KEY

    run(configured(service, tmp_path), work)


def test_keys_that_are_not_there(service: FakeService, tmp_path: Path) -> None:
    async def work(keys: KeyKeeper) -> None:
        for key_id in ("missing", "../../sys/seal", "..", "a b"):
            with pytest.raises(NotFoundError):
                await keys.wrap(key_id, DATA_KEY, BOUND)

    run(configured(service, tmp_path), work)


def test_secrets_that_are_wrong(service: FakeService, tmp_path: Path) -> None:
    config = configured(service, tmp_path)

    async def work(keys: KeyKeeper) -> None:
        is_kms = isinstance(service, FakeKms)
        path = tmp_path / ("credentials" if is_kms else "token")
        good = path.read_text()
        path.write_text(good.replace("kms", "KMS").replace("hvs", "HVS"))
        with pytest.raises(ConfigError if is_kms else PermissionDeniedError):
            await keys.wrap("first", DATA_KEY, BOUND)
        path.write_text(good + "\n")
        await keys.wrap("first", DATA_KEY, BOUND)  # read again
        path.chmod(0o644)
        path.write_text(good + "\n\n")
        with pytest.raises(ConfigError, match="chmod 600"):
            await keys.wrap("second", DATA_KEY, BOUND)
        path.unlink()
        with pytest.raises(ConfigError, match="cannot be read"):
            await keys.wrap("second", DATA_KEY, BOUND)
        if is_kms:
            path.write_text("secret without a section")
            path.chmod(0o600)
            with pytest.raises(ConfigError, match="expected") as error:
                await keys.wrap("second", DATA_KEY, BOUND)
            assert "secret without" not in str(error.value)

    run(config, work)


def test_what_cannot_be_configured(tmp_path: Path) -> None:
    for more in (
        {"kms_endpoint": "127.0.0.1:1"},
        {"kms_credentials_file": ""},
        {"kms_ca_file": str(tmp_path / "missing")},
    ):
        with pytest.raises(ConfigError):
            open_keys(configured(FakeKms(), tmp_path, **more), SystemClock())
