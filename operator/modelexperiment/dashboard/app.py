"""The dashboard's web server: GET and HEAD, nothing loaded from elsewhere, nothing remembered."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import logging
from collections.abc import Sequence
from importlib.resources import files
from ipaddress import ip_address

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from modelexperiment.dashboard.board import Board, Body, packed
from modelexperiment.dashboard.listing import Filter
from modelexperiment.dashboard.pages import experiment_page, message_page
from modelexperiment.dashboard.reports import Reports
from modelexperiment.ports import UnavailableError

_log = logging.getLogger(__name__)

_BASE = "default-src 'none'; base-uri 'none'; form-action 'self'; style-src 'self'"
_POLICY = (
    f"{_BASE}; script-src 'self'; connect-src 'self'; img-src 'self'; frame-src 'self'; "
    "frame-ancestors 'none'"
)
# The report has its style in it, and no script.
_REPORT_POLICY = f"{_BASE} 'unsafe-inline'; img-src 'self'; frame-ancestors 'self'"
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    # A page must know whether the list was before it, and nobody else where a reader was.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
_STATIC = {
    "style.css": "text/css",
    "script.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
# How long a first page waits for the first list.
_PATIENCE = 2.0


class Site:
    """The pages, as handlers."""

    def __init__(self, board: Board, reports: Reports) -> None:
        self._board, self._reports = board, reports
        folder = files("modelexperiment.dashboard") / "static"
        self._static = {name: (folder / name).read_bytes() for name in _STATIC}

    async def index(self, request: web.Request) -> web.StreamResponse:
        """The list."""
        # A page without them says so, and fills itself.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._board.read_once.wait(), _PATIENCE)
        return _html(request, await self._board.page(Filter.read(request.query)))

    async def experiment(self, request: web.Request) -> web.StreamResponse:
        """The frame around an experiment's report."""
        key = _key(request)
        if self._board.version(key) is None:
            return self._unknown(request, key, "../../")
        return _html(request, packed(experiment_page(*key, self._board.freshness)))

    async def report(self, request: web.Request) -> web.StreamResponse:
        """The report itself."""
        key = _key(request)
        version = self._board.version(key)
        try:
            body = await self._reports.page(key, version) if version is not None else None
        except UnavailableError as error:
            page = message_page("No report now", str(error), "../../../")
            return _html(request, packed(page), 503)
        if body is None:
            return self._unknown(request, key, "../../../")
        return _html(request, body, policy=_REPORT_POLICY)

    async def static(self, request: web.Request) -> web.StreamResponse:
        """A file that all pages share."""
        name = request.match_info["name"]
        if name not in _STATIC:
            raise web.HTTPNotFound
        body = self._static[name]
        digest = hashlib.blake2b(body, digest_size=12).hexdigest()
        headers = {"Cache-Control": "no-cache", "ETag": f'"{digest}"'}
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type=_STATIC[name], charset="utf-8", headers=headers)

    def _unknown(self, request: web.Request, key: tuple[str, str], root: str) -> web.StreamResponse:
        said = f"There is no ModelExperiment {key[0]}/{key[1]}, or none that is shown here."
        return _html(request, packed(message_page("Not there", said, root)), 404)


def _key(request: web.Request) -> tuple[str, str]:
    return request.match_info["namespace"], request.match_info["name"]


def _html(
    request: web.Request, body: Body, status: int = 200, policy: str = _POLICY
) -> web.Response:
    headers = {"Content-Security-Policy": policy, "ETag": body.etag, "Vary": "Accept-Encoding"}
    if status == 200 and request.headers.get("If-None-Match") == body.etag:
        return web.Response(status=304, headers=headers)
    raw = body.compressed
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
    else:
        raw = gzip.decompress(raw)
    return web.Response(
        status=status, body=raw, content_type="text/html", charset="utf-8", headers=headers
    )


def host_of(header: str) -> str:
    """The host in a Host header, without its port and an IPv6 address' brackets."""
    host = header.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def _is_local(host: str) -> bool:
    """Whether a host's name can only mean this machine, whoever answers for names."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _guard(hosts: Sequence[str]) -> Middleware:
    allowed = {host.lower() for host in hosts}

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what is no reader's request, and say to browsers what a page may do."""
        if request.method not in ("GET", "HEAD"):
            response = _plain(405, "Only GET and HEAD.")
            response.headers["Allow"] = "GET, HEAD"
            return response
        # Else a page elsewhere could let its own name mean this address, and read along.
        host = host_of(request.headers.get("Host", ""))
        if not (_is_local(host) or host in allowed):
            return _plain(421, f"Host {host} is not one that the dashboard answers to.")
        try:
            response = await handler(request)
        except web.HTTPException as error:
            response = _plain(error.status, error.reason)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return guard


def _plain(status: int, text: str) -> web.StreamResponse:
    return web.Response(status=status, text=f"{text}\n", headers=_HEADERS)


def build(board: Board, reports: Reports, hosts: Sequence[str] = ()) -> web.Application:
    """The application; `hosts` are further names that it may be asked by."""
    site = Site(board, reports)
    app = web.Application(middlewares=[_guard(hosts)])
    app.add_routes(
        [
            web.get("/", site.index),
            web.get("/experiments/{namespace}/{name}", site.experiment),
            web.get("/experiments/{namespace}/{name}/report", site.report),
            web.get("/static/{name}", site.static),
        ]
    )
    return app
