"""One gateway for all attacks of a module, with two accounts, and clients for both."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from craqen.tests.gateway.attacks.attack_support import new_bucket, numbers
from craqen.tests.gateway.integration.raw_client import RawClient
from craqen.tests.gateway.integration.running_gateway import Gateway, running_gateway

Keys = tuple[str, str]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("segments")) as running:
        yield running


@pytest.fixture(scope="module")
def s3(gateway: Gateway) -> Iterator[Any]:
    """The store's own account."""
    client = gateway.client()
    yield client
    client.close()


@pytest.fixture(scope="module")
def iam(gateway: Gateway) -> Iterator[Any]:
    client = gateway.client(service="iam")
    yield client
    client.close()


@pytest.fixture
def bucket(s3: Any) -> str:
    return new_bucket(s3)


@pytest.fixture
def raw(gateway: Gateway) -> Iterator[RawClient]:
    with RawClient(gateway) as client:
        yield client


@pytest.fixture
def new_user(gateway: Gateway, iam: Any) -> Iterator[Callable[..., Any]]:
    """Makes users of the store's account: ``new_user("GetObject", …)`` gives an S3 client of one
    that has these rights on everything; with ``service`` one of another service."""
    made: list[Any] = []

    def make(*actions: str, service: str = "s3", name: str = "", document: Any = None) -> Any:
        name = name or f"user-{next(numbers)}"
        iam.create_user(UserName=name)
        if actions:
            document = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        if document is not None:
            text = json.dumps({"Statement": document})
            iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=text)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        client = gateway.client(service=service, keys=(key["AccessKeyId"], key["SecretAccessKey"]))
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.fixture(scope="module")
def stranger_keys(gateway: Gateway) -> Keys:
    """Access key and secret of another account."""

    account = gateway.call(gateway.identities.create_account("stranger"))
    key, secret = gateway.call(gateway.identities.create_access_key(account.account_id, ""))
    return key.access_key, secret


@pytest.fixture(scope="module")
def stranger(gateway: Gateway, stranger_keys: Keys) -> Iterator[Any]:
    """An S3 client of another account."""
    client = gateway.client(keys=stranger_keys)
    yield client
    client.close()
