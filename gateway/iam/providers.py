"""OpenID Connect providers in the IAM API."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from ...core.errors import InvalidArgumentError
from ...core.identity.names import provider_arn, split_arn
from ...core.identity.records import OidcProvider
from .call import Call, Operation, iam_time, on_arn, on_everything, page_answer, tag_members
from .query import Answer, QueryError, invalid
from .tokens import provider_url

URL_CHARACTERS_MAX = 255
CLIENT_IDS_MAX = 100
THUMBPRINTS_MAX = 5

_URL = re.compile(r"https?://([A-Za-z0-9._~:/\[\]@!$&'()*+,;=%-]+)")
_THUMBPRINT = re.compile(r"[0-9A-Za-z]{40}")  # AWS looks at the length alone
_CLIENT_ID = re.compile(r"[\x21-\x7e]{1,255}")


def _url(call: Call) -> str:
    """Of the provider that the call names by its ARN. Raises QueryError."""
    arn = call.parameters.need("OpenIDConnectProviderArn")
    try:
        account_id, url = split_arn(arn, "oidc-provider")
    except InvalidArgumentError as error:
        raise QueryError("InvalidInput", str(error)) from error
    if account_id != call.account_id:
        raise QueryError(
            "NoSuchEntity", f"OpenIDConnect Provider not found for arn {arn}", status=404
        )
    return url


def _checked_clients(clients: list[str]) -> tuple[str, ...]:
    if len(clients) > CLIENT_IDS_MAX:
        raise QueryError(
            "LimitExceeded",
            f"Cannot exceed quota for ClientIdsPerOpenIdConnectProvider: {CLIENT_IDS_MAX}",
            status=409,
        )
    if not all(_CLIENT_ID.fullmatch(one) for one in clients):
        raise invalid("A client id is not valid.")
    return tuple(dict.fromkeys(clients))


def _checked_thumbprints(thumbprints: list[str]) -> tuple[str, ...]:
    """Kept and shown, but not used: keys come from where the operator says."""
    if len(thumbprints) > THUMBPRINTS_MAX:
        raise QueryError("InvalidInput", "Thumbprint list must contain fewer than 5 entries.")
    if not all(_THUMBPRINT.fullmatch(one) for one in thumbprints):
        raise QueryError("InvalidInput", "Thumbprint must be 40 characters.")
    return tuple(thumbprints)


async def _create(call: Call) -> Answer:
    parameters = call.parameters
    url = parameters.need("Url")
    match = _URL.fullmatch(url)
    if match is None or len(url) > URL_CHARACTERS_MAX:
        raise QueryError("InvalidInput", "The Url is not that of an issuer.")
    tags = parameters.tags()
    provider = OidcProvider(
        call.account_id,
        provider_url(url),
        int(call.now_seconds) * 1_000_000_000,
        _checked_clients(parameters.members("ClientIDList")),
        _checked_thumbprints(parameters.members("ThumbprintList")),
        tags,
    )
    await call.store.create_provider(provider)
    return {
        "OpenIDConnectProviderArn": provider_arn(provider),
        "Tags": tag_members(tags) if tags else None,
    }


async def _get(call: Call) -> Answer:
    provider = await call.store.get_provider(call.account_id, _url(call))
    return {
        "Url": provider.url,
        "ClientIDList": list(provider.client_ids),
        "ThumbprintList": list(provider.thumbprints),
        "CreateDate": iam_time(provider.created_ns),
        "Tags": tag_members(provider.tags) if provider.tags else None,
    }


async def _list(call: Call) -> Answer:
    found = await call.store.list_providers(call.account_id)
    return {"OpenIDConnectProviderList": [{"Arn": provider_arn(one)} for one in found]}


async def _delete(call: Call) -> None:
    await call.store.delete_provider(call.account_id, _url(call))


async def _change(call: Call, change: Callable[[OidcProvider], OidcProvider]) -> None:
    await call.store.update_provider(call.account_id, _url(call), change)


async def _add_client(call: Call) -> None:
    client = call.parameters.need("ClientID")

    def change(old: OidcProvider) -> OidcProvider:
        return msgspec.structs.replace(old, client_ids=_checked_clients([*old.client_ids, client]))

    await _change(call, change)


async def _remove_client(call: Call) -> None:
    client = call.parameters.need("ClientID")

    def change(old: OidcProvider) -> OidcProvider:
        rest = tuple(one for one in old.client_ids if one != client)
        return msgspec.structs.replace(old, client_ids=rest)

    await _change(call, change)


async def _update_thumbprints(call: Call) -> None:
    thumbprints = _checked_thumbprints(call.parameters.members("ThumbprintList"))
    await _change(call, lambda old: msgspec.structs.replace(old, thumbprints=thumbprints))


async def _tag(call: Call) -> None:
    tags = call.parameters.tags()
    await _change(call, lambda old: msgspec.structs.replace(old, tags=old.tags | tags))


async def _untag(call: Call) -> None:
    names = call.parameters.members("TagKeys")

    def change(old: OidcProvider) -> OidcProvider:
        tags = {name: text for name, text in old.tags.items() if name not in names}
        return msgspec.structs.replace(old, tags=tags)

    await _change(call, change)


async def _list_tags(call: Call) -> Answer:
    provider = await call.store.get_provider(call.account_id, _url(call))
    return page_answer("Tags", tag_members(provider.tags), b"")


async def _on_new_provider(call: Call) -> str:
    url = provider_url(call.parameters.need("Url"))
    return f"arn:aws:iam::{call.account_id}:oidc-provider/{url}"


_ON_PROVIDER = on_arn("OpenIDConnectProviderArn")

OPERATIONS = {
    "CreateOpenIDConnectProvider": Operation(_create, _on_new_provider),
    "GetOpenIDConnectProvider": Operation(_get, _ON_PROVIDER),
    "ListOpenIDConnectProviders": Operation(_list, on_everything),
    "DeleteOpenIDConnectProvider": Operation(_delete, _ON_PROVIDER),
    "AddClientIDToOpenIDConnectProvider": Operation(_add_client, _ON_PROVIDER),
    "RemoveClientIDFromOpenIDConnectProvider": Operation(_remove_client, _ON_PROVIDER),
    "UpdateOpenIDConnectProviderThumbprint": Operation(_update_thumbprints, _ON_PROVIDER),
    "TagOpenIDConnectProvider": Operation(_tag, _ON_PROVIDER),
    "UntagOpenIDConnectProvider": Operation(_untag, _ON_PROVIDER),
    "ListOpenIDConnectProviderTags": Operation(_list_tags, _ON_PROVIDER),
}
