"""One attempt of a driver's connection to connect, over all servers on the way."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._follow import ER_INSTANT_FAILOVER, Follow, FollowError, is_redirect
from ._target import DEFAULT_PORT, bracketed
from ._trust import Peer, Rule

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

CR_SSL_CONNECTION_ERROR = 2026

# For the driver's own timeout to end the attempt when nothing is left of it: 0 would mean no timeout.
_MOMENT = 0.001


@dataclass(frozen=True)
class Driver:
    """How a driver names what we need of it."""

    #: The driver and its version.
    name: str
    #: Attributes of a connection that `Attempt` changes for each server.
    host: str
    port: str
    unix_socket: str
    connect_timeout: str
    #: The driver's class of errors.
    operational_error: type[Exception]
    #: What a program can set to have the certificates of servers verified.
    cure: str

    def require(self, connection: type[object], *hooks: str) -> None:
        """Refuse a version of the driver that lacks a method that we extend."""
        missing = [hook for hook in hooks if not hasattr(connection, hook)]
        if missing:
            message = f"instant_failover cannot follow redirects with {self.name}: it has no {', '.join(missing)}"
            raise ImportError(message)


class Attempt:
    """From the server that the program named to the one that accepts the login.

    While it lasts, the connection's attributes say which server is tried. Afterwards they are as the program set them:
    the next attempt, such as that of `ping(reconnect=True)`, begins at the origin.
    """

    def __init__(self, driver: Driver, connection: Any, option: object, *, own_socket: bool = False) -> None:
        """Begin; `own_socket` says that the program made the socket, so we cannot make another."""
        self._driver = driver
        self._connection = connection
        self._own_socket = own_socket
        names = (driver.host, driver.port, driver.unix_socket, driver.connect_timeout)
        self._asked = {name: getattr(connection, name) for name in names}
        host, port, unix_socket, self._time_left = self._asked.values()
        host = host.decode(errors="replace") if isinstance(host, bytes) else str(host or "localhost")
        self._follow = Follow(str(unix_socket) if unix_socket else f"{bracketed(host)}:{port or DEFAULT_PORT}")
        self._rule = Rule(option)
        # Whether a server so far was reached by TLS: then the next ones must be, too.
        self._under_tls = False
        self._has_greeted = False
        self._refusal: tuple[BaseException, Peer] | None = None
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        """Return the attempt."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Restore what the program asked for, and leave no cycle of references."""
        for name, value in self._asked.items():
            setattr(self._connection, name, value)
        del self._connection
        self._refusal = None

    def reached(self) -> None:
        """Take note that a server is connected: connecting to all of them may take as long as to one."""
        if self._time_left is not None:
            self._time_left = max(self._time_left - (time.monotonic() - self._began), _MOMENT)

    def greeted(self, *, offers_tls: bool) -> None:
        """Take note of a greeting. Refuse a server without TLS behind one with TLS before anything is sent to it."""
        self._has_greeted = True
        if self._under_tls and not offers_tls:
            text = "redirected from a server with TLS to one without; disable TLS to allow this"
            raise self._driver.operational_error(CR_SSL_CONNECTION_ERROR, f"SSL connection error: {text}")

    def refused(self, error: BaseException, peer: Peer) -> None:
        """Take note that the login was refused: only this error can be a redirect."""
        self._refusal = error, peer

    def accepted(self) -> None:
        """Check that the driver still calls our methods: a driver that does not must not go unnoticed."""
        if not self._has_greeted:
            message = f"instant_failover cannot follow redirects with {self._driver.name}: it logs in in another way"
            raise self._driver.operational_error(message)

    def redirect(self, error: Exception) -> bool:
        """Prepare the connection for the server that `error` sends it to; False if the caller must raise the error.

        It is not raised here: its traceback would refer to this frame, which refers to it.
        """
        code, text = (*error.args, None, None)[:2]
        if not self._refusal or self._refusal[0] is not error or self._rule.is_never or not is_redirect(code, text):
            return self._explain(error)
        peer = self._refusal[1]
        objection = self._rule.objection(peer, self._driver.cure)
        if not objection and self._own_socket:
            objection = "the program connected the socket itself; let the driver connect"
        if objection:
            return self._explain(error, f" (not followed: {objection})")
        self._under_tls |= peer.tls
        try:
            target = self._follow.refused(code, text)
        except FollowError as stop:
            raise self._driver.operational_error(ER_INSTANT_FAILOVER, str(stop)) from error
        if target is None:
            return self._explain(error)
        # Over TCP, with everything else as the program asked for.
        values = (target.host, target.port, None, self._time_left)
        for name, value in zip(self._asked, values, strict=True):
            setattr(self._connection, name, value)
        self._refusal = None
        self._has_greeted = False
        self._began = time.monotonic()
        return True

    def _explain(self, error: Exception, note: str = "") -> bool:
        """Add to an error why the redirect in it is not followed, and the servers on the way."""
        if self._follow.was_redirected:
            note += f" (redirected: {self._follow})"
        if note:
            code, text = (*error.args, "", "")[:2]
            error.args = (code, f"{text}{note}", *error.args[2:])
        return False
