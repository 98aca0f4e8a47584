"""PyMySQL that follows: `import instant_failover.pymysql as pymysql`.

Everything of PyMySQL is here, under its own name. `connect()` and `Connection` take one more option,
`instant_failover_follow`: who may redirect the program.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pymysql as _pymysql
from pymysql import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    MySQLError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    Warning,  # noqa: A004 - the name of DB-API 2.0
    constants,
    converters,
    cursors,
    err,
)
from pymysql.constants import CLIENT

from ._attempt import Attempt, Driver
from ._trust import Peer

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

__all__ = [
    "Connect",
    "Connection",
    "DataError",
    "DatabaseError",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "MySQLError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "Warning",
    "connect",
    "constants",
    "converters",
    "cursors",
    "err",
]

_DRIVER = Driver(
    name=f"PyMySQL {_pymysql.VERSION_STRING}",
    host="host",
    port="port",
    unix_socket="unix_socket",
    connect_timeout="connect_timeout",
    operational_error=OperationalError,
    cure="set ssl_ca and ssl_verify_identity=True",
)
# Generic only for type checkers.
_Connection = _pymysql.connections.Connection
_DRIVER.require(_pymysql.connections.Connection, "connect", "_get_server_information", "_request_authentication")


class Connection(_Connection):
    """A connection that goes where the server sends it; a reconnect begins at the host that the program named."""

    ctx: ssl.SSLContext
    server_capabilities: int
    _attempt: Attempt
    _force_close: Callable[[], None]
    _sock: socket.socket | None

    def __init__(self, *args: Any, instant_failover_follow: object = None, **options: Any) -> None:
        """Connect, with the options of PyMySQL."""
        self._follow_option = instant_failover_follow
        super().__init__(*args, **options)

    def connect(self, sock: socket.socket | None = None) -> None:
        """Connect to the host that the program named, and on to where it sends us."""
        with Attempt(_DRIVER, self, self._follow_option, own_socket=sock is not None) as self._attempt:
            while True:
                # What is left of an earlier server: by it, PyMySQL would send a password in clear.
                self._secure = False
                self._auth_plugin_name = ""
                try:
                    super().connect(sock)
                except MySQLError as error:
                    if not self._attempt.redirect(error):
                        raise
                else:
                    break
            try:
                self._attempt.accepted()
            except BaseException:
                self._force_close()
                raise

    def _get_server_information(self) -> None:
        self._attempt.reached()
        driver: Any = super()
        driver._get_server_information()  # noqa: SLF001 - what we extend

    def _request_authentication(self) -> None:
        self._attempt.greeted(offers_tls=bool(self.server_capabilities & CLIENT.SSL))
        driver: Any = super()
        try:
            driver._request_authentication()  # noqa: SLF001 - what we extend
        except MySQLError as error:
            # Since 1.2, `ssl` is also set if the program did not ask for TLS.
            asked = bool(getattr(self, "_ssl_required", self.ssl))
            context = self.ctx if self.ssl else None
            self._attempt.refused(error, Peer.of(context, tls=isinstance(self._sock, ssl.SSLSocket), tls_asked=asked))
            raise


def connect(*args: Any, **options: Any) -> Connection:
    """Connect, with the options of `pymysql.connect()` and `instant_failover_follow`."""
    return Connection(*args, **options)


Connect = connect


def __getattr__(name: str) -> Any:
    """Return what else PyMySQL has."""
    return getattr(_pymysql, name)
