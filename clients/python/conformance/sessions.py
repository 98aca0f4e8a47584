"""Connections and pools of each driver, used alike: also by the tests."""

from __future__ import annotations

import asyncio
import importlib
import ssl
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy
import sqlalchemy.ext.asyncio
from sqlalchemy.util.concurrency import greenlet_spawn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

DRIVERS = ("pymysql", "asyncmy", "aiomysql")

_T = TypeVar("_T")


def options_of(driver: str, request: dict[str, Any]) -> dict[str, Any]:
    """Return the driver's options for a request of `land`."""
    options = {name: request[name] for name in ("host", "port", "user", "password")}
    if request.get("hosts"):
        # No driver takes a list; it gets them all.
        options["host"] = ",".join(request["hosts"])
    options["db" if driver == "aiomysql" else "database"] = request.get("database")
    options["autocommit"] = True
    if request.get("follow") is not None:
        options["instant_failover_follow"] = request["follow"]
    if request.get("timeout") is not None:
        options["connect_timeout"] = request["timeout"]
        if driver != "aiomysql":
            options["read_timeout"] = request["timeout"]
        if driver == "pymysql":
            options["write_timeout"] = request["timeout"]
    tls = request.get("tls", "off")
    if tls == "verify":
        options["ssl"] = ssl.create_default_context(cafile=request.get("ca"))
    elif tls == "require":
        options["ssl"] = ssl.create_default_context()
        options["ssl"].check_hostname = False
        options["ssl"].verify_mode = ssl.CERT_NONE
    elif driver == "pymysql":
        options["ssl_disabled"] = True
    return options


def as_text(row: tuple[Any, ...] | None) -> str | None:
    """Return the first column of the first row."""
    if row is None or row[0] is None:
        return None
    return row[0].decode() if isinstance(row[0], bytes) else str(row[0])


class _Loop:
    """An event loop of its own, driven from outside."""

    def __init__(self, timeout: float | None) -> None:
        self._loop = asyncio.new_event_loop()
        self._timeout = timeout

    def run(self, awaitable: Awaitable[_T]) -> _T:
        return self._loop.run_until_complete(asyncio.wait_for(awaitable, self._timeout))

    def close(self) -> None:
        # The end of TLS takes a while, and aiomysql does not wait for it. The loop itself keeps one descriptor.
        selector = getattr(self._loop, "_selector", None)
        for _ in range(500):
            self._loop.run_until_complete(asyncio.sleep(0.01))
            if selector is None or len(selector.get_map()) <= 1:
                break
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


class Session:
    """A connection of a driver, sync or async."""

    def __init__(self, driver: str, *, wait: float | None = None, **options: Any) -> None:
        """Connect within `wait` seconds, if the driver is async."""
        module = importlib.import_module(f"instant_failover.{driver}")
        self._loop = None if driver == "pymysql" else _Loop(wait)
        self._is_closed = False
        if self._loop is None:
            self.connection = module.connect(**options)
            return
        try:
            self.connection = self._loop.run(module.connect(**options))
        except BaseException:
            self._loop.close()
            raise

    @classmethod
    def of(cls, driver: str, request: dict[str, Any]) -> Session:
        """Connect as a request says."""
        return cls(driver, wait=request.get("timeout"), **options_of(driver, request))

    def query(self, sql: str) -> str | None:
        """Execute a statement."""
        if self._loop is not None:
            return self._loop.run(self._query(sql))
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return as_text(cursor.fetchone())

    async def _query(self, sql: str) -> str | None:
        async with self.connection.cursor() as cursor:
            await cursor.execute(sql)
            return as_text(await cursor.fetchone())

    def ping(self) -> None:
        """Reconnect if the connection is lost."""
        if self._loop is not None:
            self._loop.run(self.connection.ping(reconnect=True))
        else:
            self.connection.ping(reconnect=True)

    def close(self) -> None:
        """Close it once; the connection may be lost already."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._loop is None:
            self.connection.close()
            return
        try:
            self._loop.run(self.connection.ensure_closed())
        except Exception:  # noqa: BLE001 - the server may be gone
            self.connection.close()
        finally:
            self._loop.close()


class Pool:
    """An engine of SQLAlchemy."""

    def __init__(self, driver: str, size: int, *, wait: float | None = None, **options: Any) -> None:
        """Make the engine; it connects when it is used."""
        url = sqlalchemy.URL.create(f"mysql+{driver}", query={"plugin": "instant_failover"})
        engine_options: dict[str, Any] = {
            "connect_args": options,
            "pool_size": size,
            "max_overflow": 0,
            "pool_pre_ping": True,
        }
        self.loop = None if driver == "pymysql" else _Loop(wait)
        if self.loop is None:
            self.engine = sqlalchemy.create_engine(url, **engine_options)
        else:
            self._async_engine = sqlalchemy.ext.asyncio.create_async_engine(url, **engine_options)
            self.engine = self._async_engine.sync_engine

    @classmethod
    def of(cls, driver: str, request: dict[str, Any]) -> Pool:
        """Make the engine that a request describes."""
        return cls(driver, request["size"], wait=request.get("timeout"), **options_of(driver, request))

    def run(self, work: Callable[..., _T], *args: Any) -> _T:
        """Call a function that uses the engine."""
        return work(*args) if self.loop is None else self.loop.run(greenlet_spawn(work, *args))

    def query(self, sql: str) -> str | None:
        """Execute a statement by a connection that is taken and given back."""
        return self.run(self._query, sql)

    def _query(self, sql: str) -> str | None:
        with self.engine.connect() as connection:
            result = connection.exec_driver_sql(sql)
            row = result.first() if result.returns_rows else None
            connection.commit()
            return as_text(None if row is None else tuple(row))

    def close(self) -> None:
        """Close all connections."""
        if self.loop is None:
            self.engine.dispose()
            return
        self.loop.run(self._async_engine.dispose())
        self.loop.close()
