"""Experiments for whoever only reads: a list by pages, a watch, a single one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import aiohttp
from kubernetes.aio import client

from modelexperiment.adapters.kubernetes import TIMEOUT, Api, NotFoundError, answer, said
from modelexperiment.core.crd import GROUP, PLURAL, VERSION
from modelexperiment.ports import Change, ExpiredError, Listed, Object, UnavailableError

# A status may have a hundred kilobytes, and a page is read in one go.
_PAGE = 25
# A watch is opened anew so often, which tells that the API server still answers.
_WATCH = 30
_GONE = 410


class ExperimentFeed:
    """An ExperimentSource in the API server."""

    def __init__(self, api_client: client.ApiClient) -> None:
        self._api = Api(api_client)
        self._custom = client.CustomObjectsApi(api_client)

    async def get(self, namespace: str, name: str) -> Object | None:
        """One experiment as it is now, or None."""
        try:
            return await self._api.get(GROUP, VERSION, namespace, PLURAL, name)
        except NotFoundError:
            return None

    async def page(self, namespace: str | None, more: str) -> Listed:
        """A page of a namespace's experiments, or of all of them."""
        response = await self._open(namespace, TIMEOUT, limit=_PAGE, _continue=more or None)
        found = json.loads(await answer(response.read()))
        metadata = found["metadata"]
        return Listed(found["items"], metadata.get("continue") or "", metadata["resourceVersion"])

    async def watch(self, namespace: str | None, version: str) -> AsyncIterator[Change]:
        """What changes from then on, until the API server ends the watch."""
        response = await self._open(
            namespace,
            # A connection that is dead ends a little later than the API server would end it.
            _WATCH + TIMEOUT,
            watch=True,
            resource_version=version,
            timeout_seconds=_WATCH,
            allow_watch_bookmarks=True,
        )
        try:
            while line := await answer(response.content.readline()):
                told = json.loads(line)
                if told["type"] == "ERROR":
                    status = told["object"]
                    raise _failure(status.get("code", 0), status.get("message", ""))
                yield Change(told["type"], told["object"])
        finally:
            response.close()

    async def _open(
        self, namespace: str | None, timeout: float, **query: Any
    ) -> aiohttp.ClientResponse:
        """The answer to a list or watch, its body not read yet."""
        query["_request_timeout"] = timeout
        call: Awaitable[Any]
        if namespace is None:
            call = self._custom.list_cluster_custom_object_without_preload_content(
                GROUP, VERSION, PLURAL, **query
            )
        else:
            call = self._custom.list_namespaced_custom_object_without_preload_content(
                GROUP, VERSION, namespace, PLURAL, **query
            )
        response: aiohttp.ClientResponse = await answer(call)
        if response.status < 400:
            return response
        body = await answer(response.text())
        if response.status == 404:
            raise UnavailableError("this cluster does not know ModelExperiments: install the CRD")
        raise _failure(response.status, said(body))


def _failure(code: int, message: str) -> Exception:
    return ExpiredError() if code == _GONE else UnavailableError(f"API server: {code} {message}")
