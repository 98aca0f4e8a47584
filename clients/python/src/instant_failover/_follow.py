"""What a client does after a refusal: the convention, without any input or output."""

from __future__ import annotations

from ._target import Target, TargetError

ER_INSTANT_FAILOVER = 4196
MAX_HOPS = 8

# A server sends the first; a client patch that was published for the same proposal used the second.
_CODES = (ER_INSTANT_FAILOVER, 4200)


class FollowError(Exception):
    """A redirect that cannot be followed; the caller should see this instead of the server's error."""


class BadTargetError(FollowError):
    """The message has the form of a redirect, but its target is malformed."""


class LoopError(FollowError):
    """The target has been tried before."""


class TooManyError(FollowError):
    """`MAX_HOPS` redirects have been followed."""


def is_redirect(code: object, message: object) -> bool:
    """Whether an error of the connection phase has the form `|text|target`, with a valid target or not."""
    return code in _CODES and isinstance(message, str) and message.startswith("|") and message.count("|") > 1


class Follow:
    """One attempt to connect: from the server that the caller named to the one that accepts the login."""

    def __init__(self, origin: str) -> None:
        """Begin at `origin`: `host:port` as a target is written, or the path of a Unix socket."""
        self._origin = origin
        self._hops: list[Target] = []

    def refused(self, code: object, message: object) -> Target | None:
        """Return the server to try next, or None for an ordinary error; raise `FollowError` to give up."""
        if not is_redirect(code, message):
            return None
        # The last bar counts: in Shift-JIS, GBK and Big5 that byte occurs inside characters, but never in a target.
        target = self._parsed(str(message).rpartition("|")[2])
        if any(target.is_same_server(seen) for seen in self._seen()):
            text = f"Redirect loop: {self} -> {target}"
            raise LoopError(text)
        if len(self._hops) >= MAX_HOPS:
            text = f"Too many instant failovers (>= {MAX_HOPS}): {self}"
            raise TooManyError(text)
        self._hops.append(target)
        return target

    @property
    def was_redirected(self) -> bool:
        """Whether any redirect was followed."""
        return bool(self._hops)

    def _parsed(self, text: str) -> Target:
        try:
            return Target.parse(text)
        except TargetError as error:
            here = self._hops[-1] if self._hops else self._origin
            message = f"Server '{here}' sent an invalid redirect target: {error}"
            raise BadTargetError(message) from None

    def _seen(self) -> list[Target]:
        """Return the servers so far. An origin that is not a valid target cannot be one of a redirect."""
        try:
            return [Target.parse(self._origin), *self._hops]
        except TargetError:
            return self._hops

    def __str__(self) -> str:
        """Return the servers in order: `db1:3306 -> db2:3307`."""
        return " -> ".join([self._origin, *map(str, self._hops)])
