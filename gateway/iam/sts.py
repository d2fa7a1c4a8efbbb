"""The STS API: temporary credentials."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...core.errors import InvalidArgumentError, NotFoundError
from ...core.identity.names import (
    TAGS_MAX,
    check_tags,
    new_secret,
    new_session_key,
    policy_size,
    provider_arn,
    role_arn,
    session_arn,
    split_arn,
)
from ...core.identity.records import (
    OidcProvider,
    Principal,
    Role,
    Session,
    SessionToken,
)
from ..times import iso_seconds
from .call import Call, Operation
from .query import STS, Answer, QueryError, invalid
from .tokens import Token, check_token, parse_token, provider_url

SESSION_SECONDS_LEAST = 900
ROLE_SECONDS_DEFAULT = 3600
CHAINED_SECONDS_MOST = 3600
"""Of a session that a session opens."""
TOKEN_SECONDS_DEFAULT = 43_200
TOKEN_SECONDS_MOST = 129_600
ACCOUNT_TOKEN_SECONDS_MOST = 3600
SESSION_POLICY_CHARACTERS_MAX = 2048
SESSION_POLICY_ARNS_MAX = 10

_SESSION_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")
_TAGS_CLAIM = "https://aws.amazon.com/tags"

Context = dict[str, tuple[str, ...]]


async def _caller(call: Call) -> Answer:
    identity = call.identity
    return {"Arn": identity.arn, "UserId": identity.user_id, "Account": identity.account_id}


async def _get_session_token(call: Call) -> Answer:
    identity = call.identity
    if identity.session is not None:
        raise _denied("Cannot call GetSessionToken with session credentials")
    most = TOKEN_SECONDS_MOST
    if identity.principal is Principal.ACCOUNT:
        most = ACCOUNT_TOKEN_SECONDS_MOST
    asked = call.parameters.number(
        "DurationSeconds", TOKEN_SECONDS_DEFAULT, SESSION_SECONDS_LEAST, TOKEN_SECONDS_MOST
    )
    issued = int(call.now_seconds)
    session = Session("", issued, issued + min(asked, most))
    token = SessionToken(
        new_session_key(),
        new_secret(),
        identity.account_id,
        identity.user_name,
        "",
        identity.user_id if identity.user_name else "",
        session,
    )
    return {"Credentials": _credentials(call, token)}


async def _assume_role(call: Call) -> Answer:
    identity = call.identity
    arn = call.parameters.need("RoleArn")
    name = _session_name(call)
    role = await _role(call, arn)
    chained = identity.session if identity.principal is Principal.ROLE else None
    tags, transitive = _session_tags(call, chained)
    source = _source_identity(call, chained)
    context = _context(call, name, source)
    external = call.parameters.optional("ExternalId")
    if external is not None:
        context["sts:ExternalId"] = (external,)
    actions = ["sts:AssumeRole"]
    if call.parameters.tags():
        actions.append("sts:TagSession")
    if call.parameters.get("SourceIdentity"):
        actions.append("sts:SetSourceIdentity")
    for action in actions:
        if role is None or not call.rights.trusts(
            role.trust, identity, action, role_arn(role), context
        ):
            raise _denied(
                f"User: {identity.arn} is not authorized to perform: {action} on resource: {arn}"
            )
    assert role is not None
    seconds = _role_seconds(call, role)
    if chained is not None:
        seconds = min(seconds, CHAINED_SECONDS_MOST)
    issued = int(call.now_seconds)
    policies, arns = _session_policies(call)
    session = Session(
        name,
        issued,
        issued + seconds,
        policies,
        arns,
        source,
        tags,
        transitive,
    )
    return _opened(call, role, session)


async def _assume_with_web_identity(call: Call) -> Answer:
    parameters = call.parameters
    arn = parameters.need("RoleArn")
    name = _session_name(call)
    token = parse_token(parameters.need("WebIdentityToken"))
    role = await _role(call, arn)
    check_token(token, await call.issuers.keys_for(token), call.now_seconds)
    if role is None:
        raise _denied("Not authorized to perform sts:AssumeRoleWithWebIdentity")
    provider, audience = await _provider(call, role, token)
    claims = _claims(provider.url, token, audience)
    tags, transitive = _claimed_tags(token)
    context: Context = {key: (value,) for key, value in claims.items()}
    context |= _tag_context(tags)
    context["sts:RoleSessionName"] = (name,)
    actions = ["sts:AssumeRoleWithWebIdentity"]
    if tags:
        actions.append("sts:TagSession")
    for action in actions:
        if not call.rights.trusts_provider(
            role.trust, provider_arn(provider), action, role_arn(role), context
        ):
            raise _denied(f"Not authorized to perform {action}")
    issued = int(call.now_seconds)
    policies, arns = _session_policies(call)
    session = Session(
        name,
        issued,
        issued + _role_seconds(call, role),
        policies,
        arns,
        "",
        tags,
        transitive,
        provider_arn(provider),
        claims,
    )
    return {
        **_opened(call, role, session),
        "SubjectFromWebIdentityToken": token.text("sub"),
        "Audience": audience,
        "Provider": token.issuer,
    }


def _opened(call: Call, role: Role, session: Session) -> Answer:
    token = SessionToken(
        new_session_key(),
        new_secret(),
        role.account_id,
        "",
        role.name,
        role.unique_id,
        session,
    )
    packed = sum(map(len, session.policies)) + sum(map(len, session.policy_arns))
    return {
        "Credentials": _credentials(call, token),
        "AssumedRoleUser": {
            "AssumedRoleId": f"{role.unique_id}:{session.name}",
            "Arn": session_arn(role, session.name),
        },
        "PackedPolicySize": packed * 100 // (2 * SESSION_POLICY_CHARACTERS_MAX) or None,
        "SourceIdentity": session.source_identity or None,
    }


def _credentials(call: Call, token: SessionToken) -> Answer:
    return {
        "AccessKeyId": token.access_key,
        "SecretAccessKey": token.secret_key,
        "SessionToken": call.store.directory.seal_token(token),
        "Expiration": iso_seconds(token.session.expires_seconds),
    }


async def _role(call: Call, arn: str) -> Role | None:
    """The role of *arn*; None if there is none: whether there is one is not told."""
    try:
        account_id, path = split_arn(arn, "role")
    except InvalidArgumentError as error:
        raise invalid(str(error)) from error
    try:
        role = await call.store.get_role(account_id, path.rpartition("/")[2])
    except NotFoundError:
        return None
    return role if role_arn(role) == arn else None


def _session_name(call: Call) -> str:
    name = call.parameters.need("RoleSessionName")
    if _SESSION_NAME.fullmatch(name) is None:
        raise invalid("RoleSessionName: 2 to 64 characters of A-Z, a-z, 0-9 and _+=,.@-")
    return name


def _role_seconds(call: Call, role: Role) -> int:
    seconds = call.parameters.number(
        "DurationSeconds", ROLE_SECONDS_DEFAULT, SESSION_SECONDS_LEAST, TOKEN_SECONDS_MOST
    )
    if seconds > role.session_seconds_max:
        raise invalid(
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        )
    return seconds


def _session_policies(call: Call) -> tuple[tuple[str, ...], tuple[str, ...]]:
    policies: tuple[str, ...] = ()
    if call.parameters.get("Policy"):
        document = call.document("Policy")
        call.rights.check_policy(document)
        if policy_size(document) > SESSION_POLICY_CHARACTERS_MAX:
            raise QueryError("PackedPolicyTooLarge", "The session policy is too large.")
        policies = (document,)
    arns: list[str] = []
    while arn := call.parameters.get(f"PolicyArns.member.{len(arns) + 1}.arn"):
        if len(arns) == SESSION_POLICY_ARNS_MAX:
            raise invalid(f"At most {SESSION_POLICY_ARNS_MAX} PolicyArns.")
        arns.append(arn)
    return policies, tuple(arns)


def _session_tags(call: Call, chained: Session | None) -> tuple[dict[str, str], tuple[str, ...]]:
    """Session tags and the names of transitive ones: those of a session that opens another go on,
    and cannot be changed."""
    tags = call.parameters.tags()
    transitive = set(call.parameters.members("TransitiveTagKeys"))
    if not transitive <= tags.keys():
        raise invalid("The specified transitive tag key must be included in the requested tags.")
    inherited: dict[str, str] = {}
    if chained is not None:
        inherited = {key: chained.tags[key] for key in chained.transitive_tags}
        if {key.lower() for key in inherited} & {key.lower() for key in tags}:
            raise invalid(
                "One of the specified transitive tag keys can't be set because it "
                "conflicts with a transitive tag key from the calling session."
            )
    tags |= inherited
    _check_session_tags(tags)
    return tags, tuple(sorted(transitive | inherited.keys()))


def _check_session_tags(tags: dict[str, str]) -> None:
    try:
        check_tags(tags)
    except InvalidArgumentError as error:
        raise invalid(str(error)) from error


def _source_identity(call: Call, chained: Session | None) -> str:
    text = call.parameters.get("SourceIdentity")
    if text and _SESSION_NAME.fullmatch(text) is None:
        raise invalid("SourceIdentity: 2 to 64 characters of A-Z, a-z, 0-9 and _+=,.@-")
    kept = "" if chained is None else chained.source_identity
    if kept and text and text != kept:
        raise _denied("The source identity of a session cannot be changed.")
    return kept or text


def _context(call: Call, session_name: str, source: str) -> Context:
    context = _tag_context(call.parameters.tags())
    context["sts:RoleSessionName"] = (session_name,)
    if source:
        context["sts:SourceIdentity"] = (source,)
    return context


def _tag_context(tags: Mapping[str, str]) -> Context:
    if not tags:
        return {}
    context: Context = {f"aws:RequestTag/{key}": (value,) for key, value in tags.items()}
    context["aws:TagKeys"] = tuple(tags)
    return context


async def _provider(call: Call, role: Role, token: Token) -> tuple[OidcProvider, str]:
    """The provider of the role's account that *token* comes from, and the audience that fits.

    Raises QueryError InvalidIdentityToken.
    """
    try:
        provider = await call.store.get_provider(role.account_id, provider_url(token.issuer))
    except NotFoundError as error:
        raise QueryError(
            "InvalidIdentityToken",
            "No OpenIDConnect provider found in your account for the token's issuer.",
        ) from error
    # The authorised party, if there is one, is whom the token was made for.
    for audience in (token.text("azp"), *token.audiences):
        if audience and audience in provider.client_ids:
            return provider, audience
    raise QueryError("InvalidIdentityToken", "Incorrect token audience")


def _claims(url: str, token: Token, audience: str) -> dict[str, str]:
    """The claims that conditions can name, by condition key."""
    found = {f"{url}:aud": audience, f"{url}:sub": token.text("sub")}
    for claim in ("azp", "email", "oaud"):
        if token.text(claim):
            found[f"{url}:{claim}"] = token.text(claim)
    return found


def _claimed_tags(token: Token) -> tuple[dict[str, str], tuple[str, ...]]:
    """Session tags that the issuer gives. Raises QueryError."""
    claim = token.claims.get(_TAGS_CLAIM)
    if claim is None:
        return {}, ()
    # One issuer nests the tags in a list; each tag's value may be a list of one.
    if isinstance(claim, list) and len(claim) == 1:
        claim = claim[0]
    principal = claim.get("principal_tags") if isinstance(claim, dict) else None
    if not isinstance(principal, dict) or len(principal) > TAGS_MAX:
        raise QueryError("InvalidIdentityToken", f"The claim {_TAGS_CLAIM} is not valid.")
    tags: dict[str, str] = {}
    for key, value in principal.items():
        one = value[0] if isinstance(value, list) and len(value) == 1 else value
        if not isinstance(one, str):
            raise QueryError("InvalidIdentityToken", f"The claim {_TAGS_CLAIM} is not valid.")
        tags[key] = one
    _check_session_tags(tags)
    named = claim.get("transitive_tag_keys", [])
    transitive = named if isinstance(named, list) else []
    return tags, tuple(sorted({key for key in transitive if key in tags}))


def _denied(message: str) -> QueryError:
    return QueryError("AccessDenied", message, status=403)


OPERATIONS = {
    "GetCallerIdentity": Operation(_caller, None, STS),
    "GetSessionToken": Operation(_get_session_token, None, STS),
    "AssumeRole": Operation(_assume_role, None, STS),
    "AssumeRoleWithWebIdentity": Operation(_assume_with_web_identity, None, STS, unsigned=True),
}
