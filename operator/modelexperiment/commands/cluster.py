"""Experiments in a cluster, as the commands see them: by kubeconfig, as kubectl does."""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from modelexperiment.commands.files import InputError
from modelexperiment.core.crd import GROUP, PLURAL, VERSION
from modelexperiment.ports import ConflictError, UnavailableError

Object = Mapping[str, Any]
Patch = Sequence[dict[str, Any]]


class Refusal(Exception):
    """The answer is no: one line that says why. Exit code 1."""


class Objects(Protocol):
    """What is needed of the API server; `adapters.kubernetes.Api` has it."""

    async def get(
        self, group: str, version: str, namespace: str, plural: str, name: str
    ) -> dict[str, Any]:
        """One object."""

    async def list(
        self, group: str, version: str, namespace: str | None, plural: str
    ) -> list[dict[str, Any]]:
        """All objects of a namespace, or of all namespaces."""

    async def json_patch(
        self,
        group: str,
        version: str,
        namespace: str,
        plural: str,
        name: str,
        patch: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:
        """Apply a JSON patch."""


@dataclass(frozen=True)
class Experiments:
    """The experiments of a namespace."""

    api: Objects
    namespace: str

    async def get(self, name: str) -> Object:
        """One experiment; Refusal where there is none."""
        from modelexperiment.adapters.kubernetes import NotFoundError

        try:
            return await self.api.get(GROUP, VERSION, self.namespace, PLURAL, name)
        except NotFoundError:
            raise Refusal(f"{self.namespace}/{name}: there is no such ModelExperiment") from None

    async def list(self, everywhere: bool = False) -> Sequence[Object]:
        """All of them, or those of all namespaces."""
        from modelexperiment.adapters.kubernetes import NotFoundError

        try:
            return await self.api.list(
                GROUP, VERSION, None if everywhere else self.namespace, PLURAL
            )
        except NotFoundError:
            raise Refusal("this cluster does not know ModelExperiments: install the CRD") from None

    async def patch(self, seen: Object, patch: Patch) -> Object | None:
        """Change the spec of an experiment, if it is still as `seen`.

        None where somebody has changed it since; InputError where the API server refuses it.
        """
        from modelexperiment.adapters.kubernetes import NotFoundError

        metadata = seen["metadata"]
        # The status is written at every poll, and may be: only the spec counts here.
        same = {"op": "test", "path": "/metadata/generation", "value": metadata["generation"]}
        name = str(metadata["name"])
        try:
            return await self.api.json_patch(
                GROUP, VERSION, self.namespace, PLURAL, name, [same, *patch]
            )
        except NotFoundError:
            raise Refusal(f"{self.namespace}/{name}: there is no such ModelExperiment") from None
        except ConflictError as error:
            now = await self.get(name)
            if now["metadata"]["generation"] != metadata["generation"]:
                return None
            raise InputError(f"{self.namespace}/{name}: {error}") from None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which cluster and namespace."""
    parser.add_argument("-n", "--namespace", help="default: the context's namespace")
    parser.add_argument("--kubeconfig", help="default: KUBECONFIG, or ~/.kube/config")
    parser.add_argument("--context", help="of the kubeconfig; default: the current one")


def on_cluster(arguments: argparse.Namespace, work: Callable[[Experiments], Awaitable[int]]) -> int:
    """Connect and work; Refusal where the API server does not answer as it should."""
    return asyncio.run(_on_cluster(arguments, work))


async def _on_cluster(
    arguments: argparse.Namespace, work: Callable[[Experiments], Awaitable[int]]
) -> int:
    # Imported here: the commands that read files need no client of Kubernetes.
    from modelexperiment.adapters.kubernetes import Api, connect, context_namespace

    # What the client warns of is said again, in one line, by the error that follows.
    logging.getLogger("kubernetes").setLevel(logging.ERROR)
    where = arguments.context, arguments.kubeconfig
    client = await connect(*where)
    try:
        namespace = arguments.namespace or context_namespace(*where)
        return await work(Experiments(Api(client), namespace))
    except UnavailableError as error:
        raise Refusal(str(error)) from None
    finally:
        await client.close()  # type: ignore[no-untyped-call]
