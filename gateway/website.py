"""Buckets as web sites: who comes by ``bucket.<website domain>`` gets pages, not documents.

Visitors are nobody: they see what everybody may read. Answers are the objects, redirects, the
site's own error document, or a small page in HTML.
"""

from __future__ import annotations

import html
import time
from http import HTTPStatus

from ..core.errors import CraqenError
from .auth.request import SignedRequest
from .bucket_guard import check_payer, tell_browsers
from .errors import S3Error, from_core
from .exchange import Exchange, Services
from .handlers import reads
from .headers import Headers
from .protocol import Incoming
from .reply import Reply, Sent
from .routing import Route, decode_key, split_target
from .settings import website
from .settings.website import Redirection, Website

_HTML = "text/html; charset=utf-8"
_REDIRECT_HEADER = "x-amz-website-redirect-location"
_ABOUT_THE_OBJECT = frozenset(
    {"range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"}
)


class Visit:
    """One request for a page."""

    def __init__(
        self, services: Services, incoming: Incoming, headers: Headers, bucket: str, request_id: str
    ) -> None:
        self._services = services
        self._incoming = incoming
        self._headers = dict(headers)
        self._bucket = bucket
        self._id = request_id
        self._head_only = incoming.message.method == "HEAD"
        secure = incoming.transport.get_extra_info("sslcontext") is not None
        self._scheme = "https" if secure else "http"
        self._host = headers.get("host", "")
        self.exchange: Exchange | None = None

    async def answer(self, raw_path: str) -> Reply | Sent:
        """The page at *raw_path*. Raises only what is a defect."""
        try:
            if self._incoming.message.method not in ("GET", "HEAD"):
                raise S3Error("MethodNotAllowed", headers={"Allow": "GET, HEAD"})
            key = decode_key(raw_path[1:]) if len(raw_path) > 1 else b""
            exchange = self.exchange = await self._open()
            site = website.STORED.of(exchange.settings)
            if site is None:
                raise S3Error("NoSuchWebsiteConfiguration", fields={"BucketName": self._bucket})
        except (S3Error, CraqenError) as error:
            return self._error_page(self._mapped(error, b""))
        sent_away = website.redirection(site, key, scheme=self._scheme, host=self._host)
        if sent_away is not None:
            return _redirect(sent_away)
        try:
            return await self._page(exchange, site, key)
        except (S3Error, CraqenError) as error:
            return await self._instead(exchange, site, key, self._mapped(error, key))

    async def _open(self) -> Exchange:
        """The exchange of somebody who signs nothing. Raises S3Error, CraqenError."""
        unsigned = SignedRequest("GET", "/", "", {"host": self._host})
        authentication = await self._services.authenticator.authenticate(unsigned, time.time())
        exchange = Exchange(
            self._services,
            self._incoming,
            self._headers,
            Route("GetObject", self._bucket, b"", {}),
            authentication,
            authentication.credentials.identity,
            self._id,
        )
        exchange.bucket_info = await self._services.buckets.get(self._bucket)
        tell_browsers(exchange)
        check_payer(exchange)
        return exchange

    async def _page(self, exchange: Exchange, site: Website, key: bytes) -> Reply | Sent:
        """The object that *key* stands for. Raises S3Error, CraqenError."""
        index = site.index.encode()
        if not key or key.endswith(b"/"):
            return await self._object(exchange, key + index)
        try:
            return await self._object(exchange, key)
        except (S3Error, CraqenError) as error:
            mapped = self._mapped(error, key)
            if mapped.status not in (403, 404) or not await self._exists(
                exchange, key + b"/" + index
            ):
                raise
        # Two slashes at the beginning would name another host.
        path = split_target(self._incoming.message.path)[0]
        origin = f"{self._scheme}://{self._host}" if path.startswith("//") else ""
        return _redirect(Redirection(302, f"{origin}{path}/"))

    async def _exists(self, exchange: Exchange, key: bytes) -> bool:
        """Whether everybody may know that there is an object *key*."""
        try:
            await self._may_read(exchange, key)
            await exchange.services.meta.get_object(self._bucket, key, with_data=False)
        except (S3Error, CraqenError):
            return False
        return True

    async def _may_read(self, exchange: Exchange, key: bytes) -> None:
        operation = "HeadObject" if self._head_only else "GetObject"
        exchange.key = key
        exchange.route = Route(operation, self._bucket, key, {})
        await exchange.services.authorizer.authorize(exchange)

    async def _object(self, exchange: Exchange, key: bytes, status: int = 200) -> Reply | Sent:
        await self._may_read(exchange, key)
        view = await exchange.services.meta.get_object(self._bucket, key, with_data=False)
        attributes = view.inode.object
        location = "" if attributes is None else attributes.headers.get(_REDIRECT_HEADER, "")
        if location and status == 200:
            return _redirect(Redirection(301, location))
        if self._head_only:
            reply: Reply | Sent = await reads.head_object(exchange, status)
        else:
            reply = await reads.get_object(exchange, status)
        return reply

    async def _instead(
        self, exchange: Exchange, site: Website, key: bytes, error: S3Error
    ) -> Reply | Sent:
        """What a visitor gets instead of a page that there is not: a redirect, the site's own error
        document or a plain one."""
        sent_away = website.redirection(
            site, key, scheme=self._scheme, host=self._host, error_status=error.status
        )
        if sent_away is not None:
            return _redirect(sent_away)
        if site.error and 400 <= error.status < 500 and error.status != 416:
            exchange.headers = {
                name: value
                for name, value in self._headers.items()
                if name not in _ABOUT_THE_OBJECT
            }
            try:
                return await self._object(exchange, site.error.encode(), error.status)
            except (S3Error, CraqenError):
                return self._error_page(error)
        return self._error_page(error)

    def _mapped(self, error: S3Error | CraqenError, key: bytes) -> S3Error:
        if isinstance(error, S3Error):
            return error
        return from_core(error, bucket=self._bucket, key=key)

    def _error_page(self, error: S3Error) -> Reply:
        if error.status == 304:
            return Reply(304, error.headers)
        title = f"{error.status} {HTTPStatus(error.status).phrase}"
        facts = {"Code": error.code, "Message": error.message, **error.fields}
        facts |= {"RequestId": self._id, "HostId": self._services.head.host_id}
        items = "\n".join(
            f"<li>{html.escape(name)}: {html.escape(value)}</li>" for name, value in facts.items()
        )
        page = (
            f"<!DOCTYPE html>\n<html>\n<head><title>{title}</title></head>\n<body>\n"
            f"<h1>{title}</h1>\n<ul>\n{items}\n</ul>\n</body>\n</html>\n"
        ).encode("utf-8", "replace")
        headers = {
            **error.headers,
            "Content-Type": _HTML,
            "x-amz-error-code": error.code,
            "x-amz-error-message": error.message,
        }
        return Reply(error.status, headers, b"" if self._head_only else page, length=len(page))


def _redirect(to: Redirection) -> Reply:
    return Reply(to.status, {"Location": to.location})
