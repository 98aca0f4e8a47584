"""asyncmy that follows: `import instant_failover.asyncmy as asyncmy`.

Everything of asyncmy is here, under its own name. `connect()`, `create_pool()`, `Connection` and `Pool` take one more
option, `instant_failover_follow`: who may redirect the program.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import asyncmy as _asyncmy
import asyncmy.connection as _connection
import asyncmy.pool as _pool
from asyncmy import converters, cursors, errors
from asyncmy.constants import CLIENT
from asyncmy.contexts import _ConnectionContextManager, _PoolContextManager
from asyncmy.errors import (
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
)

from ._attempt import Attempt, Driver
from ._pool import follow_in
from ._trust import OPTION, Peer

__all__ = [
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
    "Pool",
    "ProgrammingError",
    "Warning",
    "connect",
    "converters",
    "create_pool",
    "cursors",
    "errors",
]

_DRIVER = Driver(
    name=f"asyncmy {version('asyncmy')}",
    host="_host",
    port="_port",
    unix_socket="_unix_socket",
    connect_timeout="_connect_timeout",
    operational_error=OperationalError,
    cure="set ssl={'ca': ...}",
)
_DRIVER.require(_connection.Connection, "connect", "_get_server_information", "_request_authentication")


class Connection(_connection.Connection):  # type: ignore[misc]
    """A connection that goes where the server sends it; a reconnect begins at the host that the program named."""

    _attempt: Attempt
    _client_flag: int

    def __init__(self, *args: Any, instant_failover_follow: object = None, **options: Any) -> None:
        """Take the options of asyncmy; `connect()` connects."""
        super().__init__(*args, **options)
        self._follow_option = instant_failover_follow
        self._flags_asked: int = self._client_flag

    async def connect(self) -> object:
        """Connect to the host that the program named, and on to where it sends us."""
        if self._connected:
            return await super().connect()
        own_socket = getattr(self, "_sock", None) is not None
        with Attempt(_DRIVER, self, self._follow_option, own_socket=own_socket) as self._attempt:
            while True:
                # What is left of an earlier server: by it, asyncmy would send a password in clear.
                self._secure = False
                self._auth_plugin_name = ""
                self._client_flag = self._flags_asked
                try:
                    streams = await super().connect()
                except MySQLError as error:
                    if not self._attempt.redirect(error):
                        raise
                else:
                    break
            try:
                self._attempt.accepted()
            except BaseException:
                self.close()
                raise
            return streams

    async def _get_server_information(self) -> None:
        self._attempt.reached()
        await super()._get_server_information()

    async def _request_authentication(self) -> object:
        self._attempt.greeted(offers_tls=bool(self.server_capabilities & CLIENT.SSL))
        try:
            return await super()._request_authentication()
        except BaseException as error:
            # Before 0.2.12, it had streams.
            transport = getattr(self, "_transport", None) or getattr(getattr(self, "_writer", None), "transport", None)
            if transport is not None:
                tls = transport.get_extra_info("ssl_object") is not None
                self._attempt.refused(error, Peer.of(self._ssl_context, tls=tls, tls_asked=bool(self._ssl_context)))
                # Closing it would wait for the server to say goodbye, too.
                transport.abort()
            raise


async def _connect(**options: Any) -> Connection:
    connection = Connection(**options)
    await connection.connect()
    return connection


def connect(**options: Any) -> _ConnectionContextManager:
    """Connect, with the options of `asyncmy.connect()` and `instant_failover_follow`."""
    return _ConnectionContextManager(_connect(**options))


class Pool(_pool.Pool):  # type: ignore[misc]
    """A pool whose connections go where the server sends them."""

    def __init__(self, *args: Any, instant_failover_follow: object = None, **options: Any) -> None:
        """Take the options of asyncmy; `create_pool()` also connects."""
        super().__init__(*args, **options, **{OPTION: instant_failover_follow})


follow_in(_pool, connect, _DRIVER.name)


async def _create_pool(minsize: int, maxsize: int, **options: Any) -> Pool:
    pool = Pool(minsize, maxsize, **options)
    if minsize > 0:
        async with pool.cond:
            await pool.fill_free_pool(False)  # noqa: FBT003 - asyncmy's own
    return pool


def create_pool(minsize: int = 1, maxsize: int = 10, **options: Any) -> _PoolContextManager:
    """Make a pool, with the options of `asyncmy.create_pool()` and `instant_failover_follow`."""
    return _PoolContextManager(_create_pool(minsize, maxsize, **options))


def __getattr__(name: str) -> Any:
    """Return what else asyncmy has."""
    return getattr(_asyncmy, name)
