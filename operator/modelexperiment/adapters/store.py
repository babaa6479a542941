"""The ModelExperiments in the API server, their status and their Events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelexperiment.adapters.events import EventRecorder
from modelexperiment.adapters.kubernetes import Api, NotFoundError
from modelexperiment.core.crd import GROUP, PLURAL, VERSION
from modelexperiment.core.events import Event
from modelexperiment.ports import ConflictError, Object

FINALIZER = f"{GROUP}/restore-route"


class KubernetesStore:
    """An ExperimentStore in the API server."""

    def __init__(self, api: Api, lately: Api) -> None:
        self._api = api
        self._lately = lately
        self._events = EventRecorder(api)

    async def get(self, namespace: str, name: str) -> Object | None:
        """The object as it is now, or None."""
        return await _get(self._api, namespace, name)

    async def known(self, namespace: str, name: str) -> Object | None:
        """The object as the watch has told it, or None."""
        return await _get(self._lately, namespace, name)

    async def list(self, namespace: str) -> Sequence[Object]:
        """All experiments of a namespace."""
        return await self._api.list(GROUP, VERSION, namespace, PLURAL)

    async def write_status(self, seen: Object, status: Mapping[str, Any]) -> None:
        """Replace the status, if nobody has written since `seen`; else ConflictError."""
        body = {**seen, "status": status}
        try:
            await self._api.replace_status(
                GROUP, VERSION, seen["metadata"]["namespace"], PLURAL, body
            )
        except NotFoundError:
            raise ConflictError("the experiment is gone") from None

    async def add_finalizer(self, seen: Object) -> Object:
        """Add the operator's finalizer; gives the object after that."""
        finalizers = list(seen["metadata"].get("finalizers", []))
        if FINALIZER in finalizers:
            return seen
        try:
            return await self._set_finalizers(seen, [*finalizers, FINALIZER])
        except NotFoundError:
            raise ConflictError("the experiment is gone") from None

    async def remove_finalizer(self, seen: Object) -> None:
        """Remove the operator's finalizer."""
        finalizers = list(seen["metadata"].get("finalizers", []))
        if FINALIZER in finalizers:
            finalizers.remove(FINALIZER)
            try:
                await self._set_finalizers(seen, finalizers)
            except NotFoundError:
                return

    async def _set_finalizers(self, seen: Object, finalizers: Sequence[str]) -> Object:
        metadata = seen["metadata"]
        patch = [
            {
                "op": "test",
                "path": "/metadata/resourceVersion",
                "value": metadata["resourceVersion"],
            },
            {"op": "add", "path": "/metadata/finalizers", "value": list(finalizers)},
        ]
        return await self._api.json_patch(
            GROUP, VERSION, metadata["namespace"], PLURAL, metadata["name"], patch
        )

    async def tell(self, seen: Object, events: Sequence[Event]) -> None:
        """Post Kubernetes Events about the object; never fails."""
        for event in events:
            await self._events.post(seen, event)


async def _get(api: Api, namespace: str, name: str) -> Object | None:
    try:
        return await api.get(GROUP, VERSION, namespace, PLURAL, name)
    except NotFoundError:
        return None
