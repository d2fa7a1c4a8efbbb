"""Managed policies in the IAM API, and the account's figures."""

from __future__ import annotations

import base64

from ...core.identity.builtin import BUILTIN_POLICIES
from ...core.identity.names import (
    ATTACHED_MAX,
    GROUPS_OF_USER_MAX,
    HOLDERS_MAX,
    INLINE_CHARACTERS_MAX,
    KEYS_OF_USER_MAX,
    MANAGED_CHARACTERS_MAX,
    POLICIES_MAX,
    POLICY_VERSIONS_MAX,
    policy_arn,
)
from ...core.identity.policies import find_version
from ...core.identity.records import ManagedPolicy
from ...core.identity.schema import Kind
from .call import (
    Call,
    Operation,
    on_arn,
    on_everything,
    on_path,
    page_answer,
    tag_members,
)
from .query import Answer, Entries, invalid
from .shapes import policy_shape, version_shape

_BUILTIN_MARKER = b"aws"


async def _shape(call: Call, policy: ManagedPolicy, *, tags: bool = True) -> Answer:
    arn = policy_arn(policy)
    attached = await call.store.attachments(arn, call.account_id)
    bounding = await call.store.attachments(arn, call.account_id, "boundary")
    return policy_shape(policy, len(attached), len(bounding), tags=tags)


async def _policy(call: Call) -> ManagedPolicy:
    return await call.store.get_policy(call.parameters.need("PolicyArn"), call.account_id)


async def _create(call: Call) -> Answer:
    document = call.document()
    call.rights.check_policy(document)
    parameters = call.parameters
    policy = await call.store.create_policy(
        call.account_id,
        parameters.need("PolicyName"),
        document,
        path=parameters.get("Path", "/"),
        description=parameters.get("Description"),
        tags=parameters.tags(),
    )
    return {"Policy": policy_shape(policy, 0, 0)}


async def _on_new_policy(call: Call) -> str:
    name, path = call.parameters.need("PolicyName"), call.parameters.get("Path", "/")
    return f"arn:aws:iam::{call.account_id}:policy{path}{name}"


async def _get(call: Call) -> Answer:
    return {"Policy": await _shape(call, await _policy(call))}


async def _list(call: Call) -> Answer:
    """The account's own policies by name, then those that every store has."""
    scope = call.parameters.get("Scope", "All")
    if scope not in ("All", "AWS", "Local"):
        raise invalid(
            f"Value '{scope[:64]}' at 'scope' failed to satisfy constraint: Member must "
            f"satisfy enum value set: [All, AWS, Local]"
        )
    prefix = call.parameters.get("PathPrefix", "/")
    found: list[ManagedPolicy] = []
    last = b""
    after = call.after
    if scope != "AWS" and after != _BUILTIN_MARKER:
        found, last = await call.store.list_policies(
            call.account_id, path_prefix=prefix, after=after, limit=call.limit
        )
    if scope != "Local" and not last:
        builtin = [one for one in BUILTIN_POLICIES.values() if one.path.startswith(prefix)]
        if found and len(found) + len(builtin) > call.limit:
            last = _BUILTIN_MARKER  # they fill a page of their own
        else:
            found += builtin
    shapes = [await _shape(call, one, tags=False) for one in found]
    if call.parameters.flag("OnlyAttached"):
        shapes = [shape for shape in shapes if shape["AttachmentCount"]]
    return page_answer("Policies", shapes, last)


async def _delete(call: Call) -> None:
    await call.store.delete_policy(call.parameters.need("PolicyArn"), call.account_id)


async def _create_version(call: Call) -> Answer:
    document = call.document()
    call.rights.check_policy(document)
    arn = call.parameters.need("PolicyArn")
    version = await call.store.create_policy_version(
        arn, call.account_id, document, as_default=call.parameters.flag("SetAsDefault")
    )
    policy = await call.store.get_policy(arn, call.account_id)
    return {"PolicyVersion": version_shape(policy, version, document=False)}


async def _get_version(call: Call) -> Answer:
    policy = await _policy(call)
    version = find_version(policy, call.parameters.need("VersionId"))
    return {"PolicyVersion": version_shape(policy, version, document=True)}


async def _list_versions(call: Call) -> Answer:
    policy = await _policy(call)
    # There are at most five: one page.
    shapes = [version_shape(policy, one, document=False) for one in reversed(policy.versions)]
    return page_answer("Versions", shapes, b"")


async def _delete_version(call: Call) -> None:
    version_id = call.parameters.need("VersionId")
    arn = call.parameters.need("PolicyArn")
    await call.store.delete_policy_version(arn, call.account_id, version_id)


async def _set_default(call: Call) -> None:
    version_id = call.parameters.need("VersionId")
    arn = call.parameters.need("PolicyArn")
    await call.store.set_default_version(arn, call.account_id, version_id)


async def _entities(call: Call) -> Answer:
    arn = policy_arn(await _policy(call))
    bounding = call.parameters.get("PolicyUsageFilter") == "PermissionsBoundary"
    wanted = call.parameters.get("EntityFilter")
    usage = "boundary" if bounding else "attached"
    found = await call.store.attachments(arn, call.account_id, usage)
    start = 0
    if call.after:
        start = int(call.after) if call.after.isdigit() else len(found)
    shown = found[start : start + call.limit]
    lists: dict[Kind, list[Answer]] = {kind: [] for kind in Kind}
    for kind, name in shown:
        word = kind.word.capitalize()
        if wanted in ("", word):
            holder = await call.store.get_holder(kind, call.account_id, name)
            lists[kind].append({f"{word}Name": holder.name, f"{word}Id": holder.unique_id})
    is_more = start + len(shown) < len(found)
    marker = base64.urlsafe_b64encode(b"%d" % (start + len(shown))).decode() if is_more else None
    return {
        "PolicyGroups": lists[Kind.GROUP],
        "PolicyUsers": lists[Kind.USER],
        "PolicyRoles": lists[Kind.ROLE],
        "IsTruncated": is_more,
        "Marker": marker,
    }


async def _tag(call: Call) -> None:
    arn, tags = call.parameters.need("PolicyArn"), call.parameters.tags()
    await call.store.set_policy_tags(arn, call.account_id, tags, [])


async def _untag(call: Call) -> None:
    arn, names = call.parameters.need("PolicyArn"), call.parameters.members("TagKeys")
    await call.store.set_policy_tags(arn, call.account_id, {}, names)


async def _list_tags(call: Call) -> Answer:
    return page_answer("Tags", tag_members((await _policy(call)).tags), b"")


async def _summary(call: Call) -> Answer:
    """What the account has, and its quotas."""
    store, account_id = call.store, call.account_id
    counts = {kind: await store.count_holders(kind, account_id) for kind in Kind}
    policies, _ = await store.list_policies(account_id, limit=POLICIES_MAX)
    figures = {
        "Users": counts[Kind.USER],
        "Groups": counts[Kind.GROUP],
        "Roles": counts[Kind.ROLE],
        "Policies": len(policies),
        "PolicyVersionsInUse": sum(len(one.versions) for one in policies),
        "UsersQuota": HOLDERS_MAX[Kind.USER],
        "GroupsQuota": HOLDERS_MAX[Kind.GROUP],
        "RolesQuota": HOLDERS_MAX[Kind.ROLE],
        "PoliciesQuota": POLICIES_MAX,
        "Providers": len(await store.list_providers(account_id)),
        "AccountAccessKeysPresent": len(await store.list_access_keys(account_id, "")),
        "AccessKeysPerUserQuota": KEYS_OF_USER_MAX,
        "AttachedPoliciesPerGroupQuota": ATTACHED_MAX,
        "AttachedPoliciesPerRoleQuota": ATTACHED_MAX,
        "AttachedPoliciesPerUserQuota": ATTACHED_MAX,
        "GroupPolicySizeQuota": INLINE_CHARACTERS_MAX[Kind.GROUP],
        "GroupsPerUserQuota": GROUPS_OF_USER_MAX,
        "PolicySizeQuota": MANAGED_CHARACTERS_MAX,
        "RolePolicySizeQuota": INLINE_CHARACTERS_MAX[Kind.ROLE],
        "UserPolicySizeQuota": INLINE_CHARACTERS_MAX[Kind.USER],
        "VersionsPerPolicyQuota": POLICY_VERSIONS_MAX,
        "MFADevices": 0,
        "MFADevicesInUse": 0,
        "AccountMFAEnabled": 0,
    }
    return {"SummaryMap": Entries(figures)}


async def _aliases(call: Call) -> Answer:
    return page_answer("AccountAliases", [], b"")


_ON_POLICY = on_arn("PolicyArn")

OPERATIONS = {
    "CreatePolicy": Operation(_create, _on_new_policy),
    "GetPolicy": Operation(_get, _ON_POLICY),
    "ListPolicies": Operation(_list, on_path("policy")),
    "DeletePolicy": Operation(_delete, _ON_POLICY),
    "CreatePolicyVersion": Operation(_create_version, _ON_POLICY),
    "GetPolicyVersion": Operation(_get_version, _ON_POLICY),
    "ListPolicyVersions": Operation(_list_versions, _ON_POLICY),
    "DeletePolicyVersion": Operation(_delete_version, _ON_POLICY),
    "SetDefaultPolicyVersion": Operation(_set_default, _ON_POLICY),
    "ListEntitiesForPolicy": Operation(_entities, _ON_POLICY),
    "TagPolicy": Operation(_tag, _ON_POLICY),
    "UntagPolicy": Operation(_untag, _ON_POLICY),
    "ListPolicyTags": Operation(_list_tags, _ON_POLICY),
    "GetAccountSummary": Operation(_summary, on_everything),
    "ListAccountAliases": Operation(_aliases, on_everything),
}
