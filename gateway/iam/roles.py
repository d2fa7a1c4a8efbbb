"""Roles in the IAM API."""

from __future__ import annotations

import msgspec

from ...core.identity.context import AnyHolder
from ...core.identity.records import Role
from ...core.identity.schema import Kind
from .call import Call, Operation, on_holder, on_path, page_answer
from .query import Answer, invalid
from .shapes import role_shape

SESSION_SECONDS_DEFAULT = 3600
SESSION_SECONDS_LEAST = 3600
SESSION_SECONDS_MOST = 12 * 3600  # what AWS allows
DESCRIPTION_CHARACTERS_MAX = 1000


def _description(call: Call, default: str) -> str:
    text = call.parameters.get("Description", default)
    if len(text) > DESCRIPTION_CHARACTERS_MAX:
        raise invalid(f"description: at most {DESCRIPTION_CHARACTERS_MAX} characters")
    return text


def _seconds(call: Call, default: int) -> int:
    return call.parameters.number(
        "MaxSessionDuration", default, SESSION_SECONDS_LEAST, SESSION_SECONDS_MOST
    )


async def _create(call: Call) -> Answer:
    parameters = call.parameters
    trust = call.document("AssumeRolePolicyDocument")
    call.rights.check_trust(trust)
    role = await call.store.create_role(
        call.account_id,
        parameters.need("RoleName"),
        trust=trust,
        path=parameters.get("Path", "/"),
        description=_description(call, ""),
        session_seconds_max=_seconds(call, SESSION_SECONDS_DEFAULT),
        tags=parameters.tags(),
        boundary=parameters.get("PermissionsBoundary"),
    )
    return {"Role": role_shape(role)}


async def _get(call: Call) -> Answer:
    role = await call.store.get_role(call.account_id, call.parameters.need("RoleName"))
    return {"Role": {**role_shape(role), "RoleLastUsed": {}}}


async def _list(call: Call) -> Answer:
    found, last = await call.store.list_holders(
        Kind.ROLE,
        call.account_id,
        path_prefix=call.parameters.get("PathPrefix", "/"),
        after=call.after,
        limit=call.limit,
    )
    roles = [role_shape(one, tags=False) for one in found if isinstance(one, Role)]
    return page_answer("Roles", roles, last)


async def _change(call: Call, **values: object) -> Role:
    def change(old: AnyHolder) -> AnyHolder:
        return msgspec.structs.replace(old, **values)

    name = call.parameters.need("RoleName")
    role = await call.store.update(Kind.ROLE, call.account_id, name, change)
    assert isinstance(role, Role)
    return role


async def _update(call: Call) -> Answer:
    old = await call.store.get_role(call.account_id, call.parameters.need("RoleName"))
    await _change(
        call,
        description=_description(call, old.description),
        session_seconds_max=_seconds(call, old.session_seconds_max),
    )
    return {}


async def _update_description(call: Call) -> Answer:
    return {"Role": role_shape(await _change(call, description=_description(call, "")))}


async def _update_trust(call: Call) -> None:
    trust = call.document()
    call.rights.check_trust(trust)
    await _change(call, trust=trust)


async def _delete(call: Call) -> None:
    name = call.parameters.need("RoleName")
    await call.store.delete_holder(Kind.ROLE, call.account_id, name)


async def _no_profiles(call: Call) -> Answer:
    """There are no machines that could have a profile."""
    await call.store.get_role(call.account_id, call.parameters.need("RoleName"))
    return page_answer("InstanceProfiles", [], b"")


_ON_ROLE = on_holder(Kind.ROLE, "RoleName")

OPERATIONS = {
    "CreateRole": Operation(_create, _ON_ROLE),
    "GetRole": Operation(_get, _ON_ROLE),
    "ListRoles": Operation(_list, on_path("role")),
    "UpdateRole": Operation(_update, _ON_ROLE),
    "UpdateRoleDescription": Operation(_update_description, _ON_ROLE),
    "UpdateAssumeRolePolicy": Operation(_update_trust, _ON_ROLE),
    "DeleteRole": Operation(_delete, _ON_ROLE),
    "ListInstanceProfilesForRole": Operation(_no_profiles, _ON_ROLE),
}
