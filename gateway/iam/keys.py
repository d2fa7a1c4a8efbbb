"""Access keys in the IAM API, and the other credentials that users do not have here."""

from __future__ import annotations

from ...core.errors import NotFoundError
from ...core.identity.records import Principal
from ...core.identity.schema import Kind
from .call import Call, Operation, on_everything, on_holder, page_answer
from .query import Answer, invalid
from .shapes import key_shape


async def _create_key(call: Call) -> Answer:
    key, secret = await call.store.create_access_key(call.account_id, call.user_name())
    return {"AccessKey": {**_owned(call, key_shape(key)), "SecretAccessKey": secret}}


async def _list_keys(call: Call) -> Answer:
    keys = await call.store.list_access_keys(call.account_id, call.user_name())
    # A user has at most two: there is only one page.
    return page_answer("AccessKeyMetadata", [_owned(call, key_shape(key)) for key in keys], b"")


def _owned(call: Call, shape: Answer) -> Answer:
    """Documents have a user's name in any case: that of the account for its own keys."""
    name = shape["UserName"] or call.identity.display_name
    return {**shape, "UserName": name}


async def _update_key(call: Call) -> None:
    status = call.parameters.need("Status")
    if status not in ("Active", "Inactive"):
        raise invalid(
            f"Value '{status[:64]}' at 'status' failed to satisfy constraint: Member must "
            f"satisfy enum value set: [Active, Inactive]"
        )
    await call.store.set_access_key(
        call.account_id,
        call.user_name(),
        call.parameters.need("AccessKeyId"),
        active=status == "Active",
    )


async def _delete_key(call: Call) -> None:
    access_key = call.parameters.need("AccessKeyId")
    await call.store.delete_access_key(call.account_id, call.user_name(), access_key)


async def _last_used(call: Call) -> Answer:
    """That keys are used is not recorded: it would be a write with every request."""
    key = await call.store.get_access_key(call.parameters.need("AccessKeyId"))
    if key.account_id != call.account_id:
        raise NotFoundError(f"The Access Key with id {key.access_key} cannot be found.")
    return {
        "UserName": key.user or call.identity.display_name,
        "AccessKeyLastUsed": {"ServiceName": "N/A", "Region": "N/A"},
    }


async def _no_login(call: Call) -> Answer:
    """Nobody has a password."""
    name = call.user_name()
    await _known_user(call, name)
    raise NotFoundError(f"Login Profile for User {name} cannot be found.")


async def _no_devices(call: Call) -> Answer:
    await _known_user(call, call.user_name())
    return page_answer("MFADevices", [], b"")


async def _no_ssh_keys(call: Call) -> Answer:
    await _known_user(call, call.user_name())
    return page_answer("SSHPublicKeys", [], b"")


async def _no_certificates(call: Call) -> Answer:
    await _known_user(call, call.user_name())
    return page_answer("Certificates", [], b"")


async def _no_service_credentials(call: Call) -> Answer:
    await _known_user(call, call.user_name())
    return {"ServiceSpecificCredentials": []}


async def _known_user(call: Call, name: str) -> None:
    if name or call.identity.principal is not Principal.ACCOUNT:
        await call.store.get_user(call.account_id, name)


_ON_USER = on_holder(Kind.USER, "UserName")

OPERATIONS = {
    "CreateAccessKey": Operation(_create_key, _ON_USER),
    "ListAccessKeys": Operation(_list_keys, _ON_USER),
    "UpdateAccessKey": Operation(_update_key, _ON_USER),
    "DeleteAccessKey": Operation(_delete_key, _ON_USER),
    "GetAccessKeyLastUsed": Operation(_last_used, on_everything),
    "GetLoginProfile": Operation(_no_login, _ON_USER),
    "DeleteLoginProfile": Operation(_no_login, _ON_USER),
    "ListMFADevices": Operation(_no_devices, _ON_USER),
    "ListSSHPublicKeys": Operation(_no_ssh_keys, _ON_USER),
    "ListSigningCertificates": Operation(_no_certificates, _ON_USER),
    "ListServiceSpecificCredentials": Operation(_no_service_credentials, _ON_USER),
}
