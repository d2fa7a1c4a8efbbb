"""What the IAM API does with the policies and tags of users, groups and roles, one way for all
three; and with users and groups themselves."""

from __future__ import annotations

from ...core.errors import NotFoundError
from ...core.identity.names import policy_arn
from ...core.identity.records import Group, Principal, User
from ...core.identity.schema import Kind
from .call import (
    Call,
    Handler,
    Operation,
    iam_time,
    on_holder,
    on_path,
    page_answer,
    tag_members,
)
from .query import Answer, QueryError
from .shapes import encoded, group_shape, user_shape

NAME_OF = {Kind.USER: "UserName", Kind.GROUP: "GroupName", Kind.ROLE: "RoleName"}


def _name(call: Call, kind: Kind) -> str:
    return call.parameters.need(NAME_OF[kind])


def _put_inline(kind: Kind) -> Handler:
    async def handler(call: Call) -> None:
        document = call.document()
        call.rights.check_policy(document)
        policy_name = call.parameters.need("PolicyName")
        name = _name(call, kind)
        await call.store.put_inline(kind, call.account_id, name, policy_name, document)

    return handler


def _get_inline(kind: Kind) -> Handler:
    async def handler(call: Call) -> Answer:
        holder = await call.store.get_holder(kind, call.account_id, _name(call, kind))
        policy_name = call.parameters.need("PolicyName")
        document = holder.inline.get(policy_name)
        if document is None:
            raise NotFoundError(f"The {kind.word} policy with name {policy_name} cannot be found.")
        return {
            NAME_OF[kind]: holder.name,
            "PolicyName": policy_name,
            "PolicyDocument": encoded(document),
        }

    return handler


def _list_inline(kind: Kind) -> Handler:
    async def handler(call: Call) -> Answer:
        holder = await call.store.get_holder(kind, call.account_id, _name(call, kind))
        return _texts_page(call, "PolicyNames", sorted(holder.inline))

    return handler


def _delete_inline(kind: Kind) -> Handler:
    async def handler(call: Call) -> None:
        policy_name = call.parameters.need("PolicyName")
        name = _name(call, kind)
        await call.store.delete_inline(kind, call.account_id, name, policy_name)

    return handler


def _attach(kind: Kind) -> Handler:
    async def handler(call: Call) -> None:
        arn = call.parameters.need("PolicyArn")
        await call.store.attach(kind, call.account_id, _name(call, kind), arn)

    return handler


def _detach(kind: Kind) -> Handler:
    async def handler(call: Call) -> None:
        arn = call.parameters.need("PolicyArn")
        await call.store.detach(kind, call.account_id, _name(call, kind), arn)

    return handler


def _list_attached(kind: Kind) -> Handler:
    async def handler(call: Call) -> Answer:
        holder = await call.store.get_holder(kind, call.account_id, _name(call, kind))
        prefix = call.parameters.get("PathPrefix", "/")
        found: dict[str, Answer] = {}
        for arn in holder.attached:
            policy = await call.store.get_policy(arn, call.account_id)
            if policy.path.startswith(prefix):
                found[policy.name] = {"PolicyName": policy.name, "PolicyArn": policy_arn(policy)}
        return _members_page(call, "AttachedPolicies", found)

    return handler


def _put_boundary(kind: Kind) -> Handler:
    async def handler(call: Call) -> None:
        arn = call.parameters.need("PermissionsBoundary")
        await call.store.set_boundary(kind, call.account_id, _name(call, kind), arn)

    return handler


def _delete_boundary(kind: Kind) -> Handler:
    async def handler(call: Call) -> None:
        name = _name(call, kind)
        holder = await call.store.get_holder(kind, call.account_id, name)
        if isinstance(holder, Group) or not holder.boundary:
            raise NotFoundError(f"{kind.word.capitalize()} {name} has no permissions boundary.")
        await call.store.set_boundary(kind, call.account_id, name, "")

    return handler


def _tag(kind: Kind) -> Handler:
    async def handler(call: Call) -> None:
        tags = call.parameters.tags()
        await call.store.set_tags(kind, call.account_id, _name(call, kind), tags, [])

    return handler


def _untag(kind: Kind) -> Handler:
    async def handler(call: Call) -> None:
        names = call.parameters.members("TagKeys")
        await call.store.set_tags(kind, call.account_id, _name(call, kind), {}, names)

    return handler


def _list_tags(kind: Kind) -> Handler:
    async def handler(call: Call) -> Answer:
        holder = await call.store.get_holder(kind, call.account_id, _name(call, kind))
        members = {str(tag["Key"]): tag for tag in tag_members(holder.tags)}
        return _members_page(call, "Tags", members)

    return handler


def _texts_page(call: Call, name: str, texts: list[str]) -> Answer:
    """A page of texts in their order, which are their own markers."""
    after = call.after.decode(errors="replace")
    rest = [text for text in texts if text > after]
    shown = rest[: call.limit]
    last = shown[-1].encode() if len(rest) > len(shown) else b""
    return {**page_answer(name, [], last), name: shown}


def _members_page(call: Call, name: str, members: dict[str, Answer]) -> Answer:
    """A page of members in the order of their names."""
    page = _texts_page(call, name, sorted(members))
    shown = page[name]
    assert isinstance(shown, list)
    return {**page, name: [members[one] for one in shown]}


def holder_operations() -> dict[str, Operation]:
    """The actions that users, groups and roles share."""
    found: dict[str, Operation] = {}
    for kind in Kind:
        word = kind.word.capitalize()
        handlers = {
            f"Put{word}Policy": _put_inline(kind),
            f"Get{word}Policy": _get_inline(kind),
            f"List{word}Policies": _list_inline(kind),
            f"Delete{word}Policy": _delete_inline(kind),
            f"Attach{word}Policy": _attach(kind),
            f"Detach{word}Policy": _detach(kind),
            f"ListAttached{word}Policies": _list_attached(kind),
        }
        if kind is not Kind.GROUP:
            handlers |= {
                f"Put{word}PermissionsBoundary": _put_boundary(kind),
                f"Delete{word}PermissionsBoundary": _delete_boundary(kind),
                f"Tag{word}": _tag(kind),
                f"Untag{word}": _untag(kind),
                f"List{word}Tags": _list_tags(kind),
            }
        resource = on_holder(kind, NAME_OF[kind])
        found |= {name: Operation(handler, resource) for name, handler in handlers.items()}
    return found


async def _create_user(call: Call) -> Answer:
    parameters = call.parameters
    user = await call.store.create_user(
        call.account_id,
        parameters.need("UserName"),
        path=parameters.get("Path", "/"),
        tags=parameters.tags(),
        boundary=parameters.get("PermissionsBoundary"),
    )
    return {"User": user_shape(user)}


async def _get_user(call: Call) -> Answer:
    name = call.user_name()
    if name:
        return {"User": user_shape(await call.store.get_user(call.account_id, name))}
    identity = call.identity
    account = await call.store.get_account(call.account_id)
    return {
        "User": {
            "Path": "/",
            "UserName": account.name,
            "UserId": identity.account_id,
            "Arn": identity.arn,
            "CreateDate": iam_time(account.created_ns),
        }
    }


async def _list_users(call: Call) -> Answer:
    found, last = await call.store.list_holders(
        Kind.USER,
        call.account_id,
        path_prefix=call.parameters.get("PathPrefix", "/"),
        after=call.after,
        limit=call.limit,
    )
    users = [user_shape(one, tags=False) for one in found if isinstance(one, User)]
    return page_answer("Users", users, last)


async def _update_user(call: Call) -> None:
    await _rename(call, Kind.USER, "NewUserName")


async def _rename(call: Call, kind: Kind, new_name: str) -> None:
    await call.store.rename(
        kind,
        call.account_id,
        _name(call, kind),
        new_name=call.parameters.get(new_name),
        new_path=call.parameters.get("NewPath"),
    )


async def _delete_user(call: Call) -> None:
    if call.identity.principal is Principal.ACCOUNT and not call.parameters.get("UserName"):
        raise QueryError("ValidationError", "The account itself cannot be deleted.")
    await call.store.delete_holder(Kind.USER, call.account_id, call.user_name())


async def _groups_of_user(call: Call) -> Answer:
    user = await call.store.get_user(call.account_id, _name(call, Kind.USER))
    groups: dict[str, Answer] = {}
    for name in user.member_of:
        groups[name] = group_shape(await call.store.get_group(call.account_id, name))
    return _members_page(call, "Groups", groups)


async def _create_group(call: Call) -> Answer:
    path = call.parameters.get("Path", "/")
    group = await call.store.create_group(call.account_id, _name(call, Kind.GROUP), path=path)
    return {"Group": group_shape(group)}


async def _get_group(call: Call) -> Answer:
    name = _name(call, Kind.GROUP)
    group = await call.store.get_group(call.account_id, name)
    members = await call.store.group_members(call.account_id, name)
    users = {user.name.lower(): user_shape(user, tags=False) for user in members}
    return {"Group": group_shape(group), **_members_page(call, "Users", users)}


async def _list_groups(call: Call) -> Answer:
    found, last = await call.store.list_holders(
        Kind.GROUP,
        call.account_id,
        path_prefix=call.parameters.get("PathPrefix", "/"),
        after=call.after,
        limit=call.limit,
    )
    groups = [group_shape(one) for one in found if isinstance(one, Group)]
    return page_answer("Groups", groups, last)


async def _update_group(call: Call) -> None:
    await _rename(call, Kind.GROUP, "NewGroupName")


async def _delete_group(call: Call) -> None:
    await call.store.delete_holder(Kind.GROUP, call.account_id, _name(call, Kind.GROUP))


async def _add_member(call: Call) -> None:
    user = _name(call, Kind.USER)
    await call.store.add_to_group(call.account_id, _name(call, Kind.GROUP), user)


async def _remove_member(call: Call) -> None:
    user = _name(call, Kind.USER)
    await call.store.remove_from_group(call.account_id, _name(call, Kind.GROUP), user)


_ON_USER = on_holder(Kind.USER, "UserName")
_ON_GROUP = on_holder(Kind.GROUP, "GroupName")

OPERATIONS = {
    **holder_operations(),
    "CreateUser": Operation(_create_user, _ON_USER),
    "GetUser": Operation(_get_user, _ON_USER),
    "ListUsers": Operation(_list_users, on_path("user")),
    "UpdateUser": Operation(_update_user, _ON_USER),
    "DeleteUser": Operation(_delete_user, _ON_USER),
    "ListGroupsForUser": Operation(_groups_of_user, _ON_USER),
    "CreateGroup": Operation(_create_group, _ON_GROUP),
    "GetGroup": Operation(_get_group, _ON_GROUP),
    "ListGroups": Operation(_list_groups, on_path("group")),
    "UpdateGroup": Operation(_update_group, _ON_GROUP),
    "DeleteGroup": Operation(_delete_group, _ON_GROUP),
    "AddUserToGroup": Operation(_add_member, _ON_GROUP),
    "RemoveUserFromGroup": Operation(_remove_member, _ON_GROUP),
}
