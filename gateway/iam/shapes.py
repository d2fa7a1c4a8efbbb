"""Users, groups, roles and policies as the IAM API's documents show them. Pure."""

from __future__ import annotations

from urllib.parse import quote

from ...core.identity.names import holder_arn, policy_arn, role_arn, user_arn
from ...core.identity.records import AccessKey, Group, ManagedPolicy, PolicyVersion, Role, User
from ...core.identity.schema import Kind
from .call import iam_time, tag_members
from .query import Answer


def encoded(document: str) -> str:
    """A policy as answers carry it: percent-encoded."""
    return quote(document, safe="")


def _boundary(arn: str) -> Answer | None:
    if not arn:
        return None
    return {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": arn}


def user_shape(user: User, *, tags: bool = True) -> Answer:
    """A user."""
    return {
        "Path": user.path,
        "UserName": user.name,
        "UserId": user.unique_id,
        "Arn": user_arn(user),
        "CreateDate": iam_time(user.created_ns),
        "PermissionsBoundary": _boundary(user.boundary),
        "Tags": tag_members(user.tags) if tags and user.tags else None,
    }


def group_shape(group: Group) -> Answer:
    """A group."""
    return {
        "Path": group.path,
        "GroupName": group.name,
        "GroupId": group.unique_id,
        "Arn": holder_arn(Kind.GROUP, group.account_id, group.path, group.name),
        "CreateDate": iam_time(group.created_ns),
    }


def role_shape(role: Role, *, tags: bool = True) -> Answer:
    """A role."""
    return {
        "Path": role.path,
        "RoleName": role.name,
        "RoleId": role.unique_id,
        "Arn": role_arn(role),
        "CreateDate": iam_time(role.created_ns),
        "AssumeRolePolicyDocument": encoded(role.trust),
        "Description": role.description or None,
        "MaxSessionDuration": role.session_seconds_max,
        "PermissionsBoundary": _boundary(role.boundary),
        "Tags": tag_members(role.tags) if tags and role.tags else None,
    }


def policy_shape(
    policy: ManagedPolicy, attached: int, bounding: int, *, tags: bool = True
) -> Answer:
    """A managed policy, attached to *attached* holders and the boundary of *bounding*."""
    return {
        "PolicyName": policy.name,
        "PolicyId": policy.unique_id,
        "Arn": policy_arn(policy),
        "Path": policy.path,
        "DefaultVersionId": policy.default_version,
        "AttachmentCount": attached,
        "PermissionsBoundaryUsageCount": bounding,
        "IsAttachable": True,
        "Description": (policy.description or None) if tags else None,
        "CreateDate": iam_time(policy.created_ns),
        "UpdateDate": iam_time(policy.updated_ns),
        "Tags": tag_members(policy.tags) if tags and policy.tags else None,
    }


def version_shape(policy: ManagedPolicy, version: PolicyVersion, *, document: bool) -> Answer:
    """A version of a managed policy."""
    return {
        "Document": encoded(version.document) if document else None,
        "VersionId": version.version_id,
        "IsDefaultVersion": version.version_id == policy.default_version,
        "CreateDate": iam_time(version.created_ns),
    }


def key_shape(key: AccessKey) -> Answer:
    """An access key, without its secret."""
    return {
        "UserName": key.user or None,
        "AccessKeyId": key.access_key,
        "Status": "Active" if key.active else "Inactive",
        "CreateDate": iam_time(key.created_ns),
    }
