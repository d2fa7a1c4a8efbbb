"""One gateway by http, one by https and one whole store for all tests of this folder; a bucket of
its own for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from craqen.core.options import Config, GatewayOptions
from craqen.gateway.tls import Certificates
from craqen.tests.gateway.integration.raw_client import RawClient
from craqen.tests.gateway.integration.running_gateway import (
    Gateway,
    running_gateway,
    wait_until,
)
from craqen.tests.gateway.integration.whole_store import WholeStore, whole_store

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def plain_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("segments")) as running:
        yield running


@pytest.fixture
def gateway(plain_gateway: Gateway) -> Iterator[Gateway]:
    """The http gateway, without faults; afterwards nothing of it may be held."""
    plain_gateway.data.mend()
    yield plain_gateway
    plain_gateway.data.mend()
    # A connection that a test closed may be in its last moments.
    wait_until(lambda: plain_gateway.data.open_writers == 0)
    wait_until(lambda: plain_gateway.free_buffers() == 4)


@pytest.fixture(scope="session")
def secure_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("secure")
    config = Config(data_folder=str(folder), gateway=GatewayOptions(tls=True))
    context = Certificates(config).context
    segments = folder / "segments"
    segments.mkdir()
    with running_gateway(segments, context=context) as running:
        running.certificate = folder / "tls" / "certificate.pem"
        yield running


@pytest.fixture(scope="session")
def session_client(plain_gateway: Gateway) -> Iterator[Any]:
    client = plain_gateway.client()
    yield client
    client.close()


@pytest.fixture
def s3(gateway: Gateway, session_client: Any) -> Any:
    """A boto3 client of the http gateway."""
    return session_client


@pytest.fixture(scope="session")
def secure_s3(secure_gateway: Gateway) -> Iterator[Any]:
    client = secure_gateway.client()
    yield client
    client.close()


def make_bucket(client: Any) -> str:
    name = f"bucket-{next(_numbers)}"
    region = client.meta.region_name
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": region})
    return name


@pytest.fixture
def bucket(s3: Any) -> str:
    return make_bucket(s3)


@pytest.fixture
def secure_bucket(secure_s3: Any) -> str:
    return make_bucket(secure_s3)


@pytest.fixture
def raw(gateway: Gateway) -> Iterator[RawClient]:
    """A bare connection to the http gateway."""
    with RawClient(gateway) as client:
        yield client


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeStore]:
    """A store as ``craqen up`` starts it."""
    with whole_store(tmp_path_factory.mktemp("store")) as running:
        yield running


@pytest.fixture(scope="session")
def store_s3(store: WholeStore) -> Iterator[Any]:
    """A boto3 client of the whole store."""
    client = store.client()
    yield client
    client.close()


@pytest.fixture
def store_bucket(store_s3: Any) -> str:
    return make_bucket(store_s3)
