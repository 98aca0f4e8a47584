"""Where a redirected client is sent: `host`, `host:port` or `[IPv6]:port`."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass

DEFAULT_PORT = 3306

_MAX_NAME_LENGTH = 253
_MAX_LENGTH = _MAX_NAME_LENGTH + len(":65535")
_MAX_PORT = 65535
_NAME_CHARACTERS = re.compile(r"[0-9A-Za-z._-]*")
_LABEL = re.compile(r"(?!-)[0-9A-Za-z_-]{1,63}(?<!-)")
# A name whose last label is a number would be an IPv4 address for some resolvers (RFC 1123 section 2.1).
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_MAX_SHOWN = 60


class TargetError(ValueError):
    """A text that is not a target, and why."""


@dataclass(frozen=True)
class Target:
    """A server to go to. An address is in its one canonical form, an IPv6 address without brackets."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read a target; raise `TargetError` for anything that is not exactly one."""
        try:
            return cls(*_parse(text))
        except _Problem as problem:
            cure = "" if problem.is_complete else "; give host, host:port or [IPv6]:port"
            message = f"{shown(text)} is not a target: {problem}{cure}"
            raise TargetError(message) from None

    def is_same_server(self, other: Target) -> bool:
        """Whether both are the same host and port; names are compared without case."""
        return (self.host.lower(), self.port) == (other.host.lower(), other.port)

    def __str__(self) -> str:
        """Return the target with its port, as it is on the wire."""
        return f"{bracketed(self.host)}:{self.port}"


def bracketed(host: str) -> str:
    """Put an IPv6 address into brackets."""
    return f"[{host}]" if ":" in host else host


def shown(value: str) -> str:
    """Return a value in quotes, on one line and of bounded length."""
    text, left = "", _MAX_SHOWN
    for character in value:
        is_plain = unicodedata.category(character) != "Cc" and character <= "\uffff"
        piece = character if is_plain else character.encode("unicode_escape").decode("ascii")
        if len(piece) > left:
            return f"'{text}...'"
        text += piece
        left -= len(piece)
    return f"'{text}'"


class _Problem(Exception):  # noqa: N818 - it becomes a TargetError
    def __init__(self, text: str, *, is_complete: bool = False) -> None:
        super().__init__(text)
        self.is_complete = is_complete


def _parse(text: str) -> tuple[str, int]:
    length = len(text.encode("utf-8", "surrogatepass"))
    if length > _MAX_LENGTH:
        message = f"it has {length} bytes, but a target has at most {_MAX_LENGTH}"
        raise _Problem(message)
    scheme, is_url, _ = text.partition("://")
    if is_url:
        message = f"leave out {shown(scheme + is_url)}"
        raise _Problem(message)
    port: str | None
    if text.startswith("["):
        inside, is_closed, rest = text[1:].partition("]")
        if not is_closed:
            message = "the bracket is not closed"
            raise _Problem(message)
        v6 = _ipv6(inside)
        if v6 is None:
            message = f"{shown(inside)} is not an IPv6 address"
            raise _Problem(message)
        if rest and not rest.startswith(":"):
            message = "only ':' and a port can follow the bracket"
            raise _Problem(message)
        host, port = _host_of(v6.ipv4_mapped or v6), rest[1:] if rest else None
    elif _ipv6(text) is not None:
        message = f"write an IPv6 address in brackets, [{text}]"
        raise _Problem(message, is_complete=True)
    else:
        name, has_port, rest = text.partition(":")
        host, port = _host(name), rest if has_port else None
    return host, DEFAULT_PORT if port is None else _port(port)


def _ipv6(text: str) -> ipaddress.IPv6Address | None:
    try:
        return None if "%" in text else ipaddress.IPv6Address(text)
    except ValueError:
        return None


def _host_of(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Return an address that can be that of a single host; `0.0.0.0/8` is never a destination (RFC 1122)."""
    is_v4 = isinstance(address, ipaddress.IPv4Address)
    is_none = address.packed[0] == 0 or address.packed == b"\xff" * 4 if is_v4 else address.is_unspecified
    if is_none or address.is_multicast:
        message = f"{address} is not the address of a single host"
        raise _Problem(message)
    return str(address)


def _host(name: str) -> str:
    """Read a DNS name or an IPv4 address."""
    if not name:
        message = "the host is missing"
        raise _Problem(message)
    form = _NAME_CHARACTERS.match(name)
    good = form.end() if form else 0
    if good < len(name):
        message = f"a host name cannot contain {shown(name[good])}"
        raise _Problem(message)
    if len(name) > _MAX_NAME_LENGTH:
        message = f"a host name has at most {_MAX_NAME_LENGTH} characters, this one has {len(name)}"
        raise _Problem(message)
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            address = ipaddress.IPv4Address(name)
        except ValueError:
            message = f"{shown(name)} is not an IPv4 address"
            raise _Problem(message) from None
        return _host_of(address)
    for label in labels:
        if not _LABEL.fullmatch(label):
            allowed = "1 to 63 letters, digits, underscores and inner hyphens"
            message = f"{shown(label)} is not a valid host name label ({allowed})"
            raise _Problem(message)
    return name


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > _MAX_PORT:
        message = f"port {shown(text)} is not a number from 1 to {_MAX_PORT}"
        raise _Problem(message)
    return int(text)
