"""Which addresses the operator may call: what the platform has allowed, and nothing else.

An address out of a manifest or a Secret is compared with the platform's list in parts, never as
text: scheme, host and port must be the same, and the path must lie below the allowed one. What two
readers of a URL could take for two different places (user names, backslashes, dots in the path,
numbers in place of a host) is refused before that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import unquote, urlsplit

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
# Where clouds answer with credentials to whoever is on the machine, beside what is link-local.
_METADATA = frozenset(
    map(ip_address, ("168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"))
)
_NAT64 = ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class Address:
    """A URL in its parts."""

    scheme: str
    host: str
    port: int
    path: str
    """Without a slash at its end."""
    query: str = ""


def parse_address(text: str) -> Address:
    """Read an http(s) URL; without a scheme it is https. ValueError where it is not a plain one."""
    if re.search(r"[\s\\@#]|[^\x21-\x7e]", text):
        raise ValueError("must be a URL without user, fragment, backslashes or spaces")
    parts = urlsplit(text if "://" in text else f"https://{text}")
    if parts.scheme not in _PORTS:
        raise ValueError("must begin with https:// or http://")
    if parts.port == 0:
        raise ValueError("must name a port from 1 up")
    host = (parts.hostname or "").rstrip(".")
    if not (_HOST.fullmatch(host) or _is_literal(host)):
        raise ValueError("must name a host")
    if not _is_literal(host) and re.fullmatch(r"[0-9.]+|.*\.[0-9]+", host):
        raise ValueError("must name a host, or an IP address in full")
    segments = unquote(unquote(parts.path)).split("/")
    if {".", ".."} & set(segments):
        raise ValueError("must have no . or .. in its path")
    return Address(
        parts.scheme, host, parts.port or _PORTS[parts.scheme], parts.path.rstrip("/"), parts.query
    )


def same_address(one: str, other: str) -> bool:
    """Whether two URLs are one address; what is no URL is the same as nothing."""
    try:
        return parse_address(one) == parse_address(other)
    except ValueError:
        return False


def is_allowed(url: str, allowed: Iterable[str]) -> bool:
    """Whether a URL is one of the allowed ones, or lies below one of them."""
    try:
        wanted = parse_address(url)
    except ValueError:
        return False
    return any(_covers(parse_address(entry), wanted) for entry in allowed)


def _covers(entry: Address, wanted: Address) -> bool:
    same = (entry.scheme, entry.host, entry.port) == (wanted.scheme, wanted.host, wanted.port)
    return same and f"{wanted.path}/".startswith(f"{entry.path}/")


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def forbidden(host: str, found: str) -> str | None:
    """Why an IP address must not be called, if it must not, though its host is an allowed one.

    `host` is as the URL names it, `found` what it was resolved to. A loopback address is called
    only where the URL itself says so.
    """
    try:
        address = _unwrapped(ip_address(found.split("%", 1)[0]))
    except ValueError:
        return "is no IP address"
    if address.is_link_local or address in _METADATA:
        return "is link-local, or a cloud's metadata service"
    if address.is_unspecified or address.is_multicast:
        return "is no host's address"
    if address.is_loopback and host != "localhost" and not _is_literal(host):
        return "is the operator's own machine"
    return None


def _unwrapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one leads to, where it leads to one."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
