"""SQLAlchemy that follows: `create_engine("mysql+pymysql://...?plugin=instant_failover")`.

The same with `create_async_engine()` and `mysql+asyncmy` or `mysql+aiomysql`. Who may redirect the program:
`?plugin=instant_failover&instant_failover_follow=verified`.

An engine whose URL cannot be changed follows by `event.listen(engine, "do_connect", do_connect)`.
"""

from __future__ import annotations

import importlib
import re
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy.engine import CreateEnginePlugin
from sqlalchemy.exc import ArgumentError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Dialect, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

_ASYNC = ("asyncmy", "aiomysql")
_DRIVERS = ("pymysql", *_ASYNC)
_OWN_WAYS = ("creator", "module", "pool")
_OLDEST = (2, 0, 16)


class Plugin(CreateEnginePlugin):
    """Has all connections of an engine follow redirects."""

    def __init__(self, url: URL, kwargs: dict[str, Any]) -> None:
        """Refuse engines that connect in a way that cannot follow."""
        super().__init__(url, kwargs)
        _check_driver(url.get_driver_name())
        if tuple(map(int, re.findall(r"[0-9]+", sqlalchemy.__version__)[:3])) < _OLDEST:
            message = f"plugin=instant_failover needs SQLAlchemy 2.0.16 or later, not {sqlalchemy.__version__}"
            raise ArgumentError(message)
        for name in _OWN_WAYS:
            if kwargs.get(name) is not None:
                _refuse_own_way(name)

    def update_url(self, url: URL) -> URL:
        """Leave the URL as it is: `instant_failover_follow` is an option of our `connect()`."""
        return url

    def engine_created(self, engine: Engine) -> None:
        """Have the engine connect by us, after its listeners for `do_connect` have set what they want to set."""
        engine.dialect.connect = partial(_connect, engine.dialect)  # type: ignore[method-assign]


def do_connect(
    dialect: Dialect, _record: ConnectionPoolEntry | None, args: tuple[Any, ...], options: dict[str, Any]
) -> DBAPIConnection:
    """Listen to `do_connect`; of several listeners of an engine, this one must be the last."""
    return _connect(dialect, *args, **options)


def _connect(dialect: Dialect, *args: Any, **options: Any) -> DBAPIConnection:
    _check_driver(dialect.driver)
    connect = importlib.import_module(f"instant_failover.{dialect.driver}").connect
    if dialect.driver in _ASYNC:
        if "async_creator_fn" in options:
            _refuse_own_way("async_creator_fn")
        connect = partial(dialect.loaded_dbapi.connect, async_creator_fn=connect)
    connection: DBAPIConnection = connect(*args, **options)
    return connection


def _check_driver(name: str) -> None:
    if name not in _DRIVERS:
        message = (
            f"plugin=instant_failover cannot follow with the driver {name}: use {', '.join(_DRIVERS)}; drivers on "
            "MariaDB Connector/C (mysqldb, mariadbconnector) follow by its own plugin"
        )
        raise ArgumentError(message)


def _refuse_own_way(name: str) -> None:
    message = (
        f"plugin=instant_failover cannot follow with an engine that has {name}: leave {name} out, or leave the plugin "
        f"out and connect with instant_failover.pymysql, .asyncmy or .aiomysql in it"
    )
    raise ArgumentError(message)
