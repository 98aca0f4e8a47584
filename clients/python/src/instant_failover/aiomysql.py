"""aiomysql that follows: `import instant_failover.aiomysql as aiomysql`.

Everything of aiomysql is here, under its own name. `connect()`, `create_pool()`, `Connection` and `Pool` take one more
option, `instant_failover_follow`: who may redirect the program.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiomysql as _aiomysql
import aiomysql.connection as _connection
import aiomysql.pool as _pool
from aiomysql import (
    Cursor,
    DatabaseError,
    DataError,
    DictCursor,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    MySQLError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    SSCursor,
    SSDictCursor,
    Warning,  # noqa: A004 - the name of DB-API 2.0
    cursors,
)
from aiomysql.utils import _ConnectionContextManager, _PoolContextManager
from pymysql.constants import CLIENT

from ._attempt import Attempt, Driver
from ._pool import follow_in
from ._trust import OPTION, Peer

__all__ = [
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "DictCursor",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "MySQLError",
    "NotSupportedError",
    "OperationalError",
    "Pool",
    "ProgrammingError",
    "SSCursor",
    "SSDictCursor",
    "Warning",
    "connect",
    "create_pool",
    "cursors",
]

_DRIVER = Driver(
    name=f"aiomysql {_aiomysql.__version__}",
    host="_host",
    port="_port",
    unix_socket="_unix_socket",
    connect_timeout="connect_timeout",
    operational_error=OperationalError,
    cure="set ssl to ssl.create_default_context(cafile=...)",
)
_DRIVER.require(_connection.Connection, "_connect", "_get_server_information", "_request_authentication")


class Connection(_connection.Connection):  # type: ignore[misc]
    """A connection that goes where the server sends it; a reconnect begins at the host that the program named."""

    _attempt: Attempt

    def __init__(self, *args: Any, instant_failover_follow: object = None, **options: Any) -> None:
        """Take the options of aiomysql; `connect()` also connects."""
        super().__init__(*args, **options)
        self._follow_option = instant_failover_follow

    async def _connect(self) -> None:
        """Connect to the host that the program named, and on to where it sends us."""
        with Attempt(_DRIVER, self, self._follow_option) as self._attempt:
            while True:
                # What is left of an earlier server: by it, aiomysql would send a password in clear.
                self._secure = False
                self._server_auth_plugin = ""
                try:
                    await super()._connect()
                except MySQLError as error:
                    if not self._attempt.redirect(error):
                        raise
                except asyncio.CancelledError:
                    # aiomysql leaves the socket open if it is cancelled during TLS.
                    self.close()
                    raise
                else:
                    break
            try:
                self._attempt.accepted()
            except BaseException:
                self.close()
                raise

    async def _get_server_information(self) -> None:
        self._attempt.reached()
        await super()._get_server_information()

    async def _request_authentication(self) -> None:
        self._attempt.greeted(offers_tls=bool(self.server_capabilities & CLIENT.SSL))
        try:
            await super()._request_authentication()
        except BaseException as error:
            if self._writer is not None:
                transport = self._writer.transport
                tls = transport.get_extra_info("ssl_object") is not None
                self._attempt.refused(error, Peer.of(self._ssl_context, tls=tls, tls_asked=bool(self._ssl_context)))
                # Closing it would wait for the server to say goodbye, too.
                transport.abort()
            raise


async def _connect(*args: Any, **options: Any) -> Connection:
    connection = Connection(*args, **options)
    await connection._connect()  # noqa: SLF001 - our own
    return connection


def connect(*args: Any, **options: Any) -> _ConnectionContextManager:
    """Connect, with the options of `aiomysql.connect()` and `instant_failover_follow`."""
    return _ConnectionContextManager(_connect(*args, **options))


class Pool(_pool.Pool):  # type: ignore[misc]
    """A pool whose connections go where the server sends them."""

    def __init__(self, *args: Any, instant_failover_follow: object = None, **options: Any) -> None:
        """Take the options of aiomysql; `create_pool()` also connects."""
        super().__init__(*args, **options, **{OPTION: instant_failover_follow})


follow_in(_pool, connect, _DRIVER.name)


async def _create_pool(minsize: int, maxsize: int, **options: Any) -> Pool:
    options = {"echo": False, "pool_recycle": -1, "loop": asyncio.get_running_loop(), **options}
    pool = Pool(minsize, maxsize, **options)
    if minsize > 0:
        async with pool._cond:  # noqa: SLF001 - as aiomysql.create_pool() does
            await pool._fill_free_pool(False)  # noqa: FBT003, SLF001
    return pool


def create_pool(minsize: int = 1, maxsize: int = 10, **options: Any) -> _PoolContextManager:
    """Make a pool, with the options of `aiomysql.create_pool()` and `instant_failover_follow`."""
    return _PoolContextManager(_create_pool(minsize, maxsize, **options))


def __getattr__(name: str) -> Any:
    """Return what else aiomysql has."""
    return getattr(_aiomysql, name)
