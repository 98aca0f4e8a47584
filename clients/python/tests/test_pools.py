"""The pools of asyncmy, aiomysql and SQLAlchemy."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING, Any

import pytest
import servers
import sqlalchemy
from servers import after_login, fake
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.ext.asyncio import create_async_engine

from instant_failover.sqlalchemy import do_connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Authority
    from servers import Process
    from sessions import Pool

    Engine = Callable[..., Pool]

PORT = "SELECT @@port"


async def ask(pool: Any) -> int:
    async with pool.acquire() as connection, connection.cursor() as cursor:
        await cursor.execute(PORT)
        (port,) = await cursor.fetchone()
        return int(port)


def account(driver: str) -> dict[str, Any]:
    database = {"db" if driver == "aiomysql" else "database": servers.DATABASE}
    return {"user": servers.USER, "password": servers.PASSWORD, "autocommit": True, **database}


@pytest.mark.parametrize("driver", ["asyncmy", "aiomysql"], indirect=True)
@pytest.mark.parametrize("minsize", [0, 2])
def test_a_pool_of_the_driver(driver: str, minsize: int, db1: Process, db2: Process) -> None:
    following = importlib.import_module(f"instant_failover.{driver}")
    db1.redirect(db2.target)

    async def check() -> None:
        async with following.create_pool(minsize=minsize, maxsize=3, **db1.address, **account(driver)) as pool:
            assert isinstance(pool, following.Pool)
            assert await asyncio.gather(*(ask(pool) for _ in range(9))) == [db2.port] * 9
            assert 0 < pool.size <= 3
            # New connections begin at the origin.
            db1.off()
            await pool.clear()
            assert await ask(pool) == db1.port

    asyncio.run(check())


@pytest.mark.parametrize("driver", ["asyncmy", "aiomysql"], indirect=True)
def test_a_pool_that_does_not_follow(driver: str, db1: Process, db2: Process) -> None:
    following = importlib.import_module(f"instant_failover.{driver}")
    plain = importlib.import_module(driver)
    db1.redirect(db2.target)

    async def check(create_pool: Callable[..., Any], **options: Any) -> None:
        async with create_pool(minsize=0, **db1.address, **account(driver), **options) as pool:
            await ask(pool)

    for create_pool, options in (
        (following.create_pool, {"instant_failover_follow": "never"}),
        # The driver's own pools are as before.
        (plain.create_pool, {}),
    ):
        with pytest.raises(following.OperationalError) as raised:
            asyncio.run(check(create_pool, **options))
        assert raised.value.args[1].endswith(f"|{db2.target}")


def url(driver: str, server: Any, **query: str) -> sqlalchemy.URL:
    given: dict[str, Any] = {"username": servers.USER, "password": servers.PASSWORD, "database": servers.DATABASE}
    query = {"plugin": "instant_failover", **query}
    return sqlalchemy.URL.create(f"mariadb+{driver}", **given, **server.address, query=query)


def ask_engine(driver: str, url: sqlalchemy.URL, *, listen: bool = False, **options: Any) -> int:
    """Return the port of the server to which an engine connects."""
    if driver == "pymysql":
        engine = sqlalchemy.create_engine(url, **options)
        if listen:
            event.listen(engine, "do_connect", do_connect)
        try:
            with engine.connect() as connection:
                return int(connection.execute(sqlalchemy.text(PORT)).scalar_one())
        finally:
            engine.dispose()

    async def check() -> int:
        engine = create_async_engine(url, **options)
        if listen:
            event.listen(engine.sync_engine, "do_connect", do_connect)
        try:
            async with engine.connect() as connection:
                return int((await connection.execute(sqlalchemy.text(PORT))).scalar_one())
        finally:
            await engine.dispose()

    return asyncio.run(check())


def test_the_url(driver: str, db1: Process, db2: Process) -> None:
    assert ask_engine(driver, url(driver, db1)) == db1.port
    db1.redirect(db2.target)
    assert ask_engine(driver, url(driver, db1)) == db2.port
    assert ask_engine(driver, url(driver, db1, charset="latin1", instant_failover_follow="always")) == db2.port
    unchanged, explained = rf"\|{db2.target}[\"']", r"\(not followed: "
    for rule, end in ("never", unchanged), ("verified", explained), ("no", explained):
        with pytest.raises(OperationalError, match=rf"\(4196, .*{end}"):
            ask_engine(driver, url(driver, db1, instant_failover_follow=rule))


def test_plugins_and_listeners(driver: str, db1: Process, db2: Process) -> None:
    db1.redirect(db2.target)
    plain = url(driver, db1).set(query={})
    with pytest.raises(OperationalError, match=r"\(4196, ['\"]\|Server is directing"):
        ask_engine(driver, plain)
    assert ask_engine(driver, plain, plugins=["instant_failover"]) == db2.port
    assert ask_engine(driver, plain, listen=True) == db2.port


def test_another_listener_is_heard(db1: Process, db2: Process) -> None:
    """As one that asks for a token in the place of a password."""
    db1.redirect(db2.target)
    engine = sqlalchemy.create_engine(url("pymysql", db1).set(password="old"), connect_args={"ssl_disabled": True})

    @event.listens_for(engine, "do_connect")
    def token(_dialect: Any, _record: Any, _args: Any, options: dict[str, Any]) -> None:
        options["password"] = servers.PASSWORD

    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text(PORT)).scalar_one() == db2.port
    engine.dispose()


def test_tls(driver: str, engine: Engine, db1: Process, db2: Process, authority: Authority) -> None:
    assert driver
    db1.redirect(db2.target)
    pool = engine(db1, ssl=authority.context(), instant_failover_follow="verified")
    assert pool.query(PORT) == str(db2.port)


def test_a_switch_there_and_back(driver: str, engine: Engine, db1: Process, db2: Process) -> None:
    assert driver
    pool = engine(db1)
    assert pool.query(PORT) == str(db1.port)
    for origin_redirects in True, False, True:
        if origin_redirects:
            db1.redirect(db2.target)
        else:
            db1.off()
        for server in db1, db2:
            kill_all(server)
        # The pool looks whether a connection is alive before it lends it.
        assert pool.query(PORT) == str(db2.port if origin_redirects else db1.port)


def test_a_drain(driver: str, engine: Engine, db1: Process, db2: Process) -> None:
    assert driver
    pool = engine(db1)
    assert pool.query(PORT) == str(db1.port)
    db1.redirect(db2.target)
    db1.drain()
    for _ in range(3):
        assert pool.query(PORT) == str(db2.port)


def kill_all(server: Process) -> None:
    server.sql(f"KILL USER {servers.USER}")


def test_what_cannot_follow() -> None:
    for driver in "mysqldb", "mysqlconnector", "mariadbconnector":
        with pytest.raises(
            ArgumentError, match=f"cannot follow with the driver {driver}: use pymysql, asyncmy, aiomysql"
        ):
            sqlalchemy.create_engine(f"mysql+{driver}://localhost/?plugin=instant_failover")
    with pytest.raises(ArgumentError, match="cannot follow with an engine that has creator: leave creator out"):
        sqlalchemy.create_engine("mysql+pymysql://localhost/?plugin=instant_failover", creator=lambda: None)


@pytest.mark.parametrize("driver", ["asyncmy", "aiomysql"], indirect=True)
def test_a_creator_of_the_program(driver: str, db1: Process) -> None:
    plain = importlib.import_module(driver)
    with pytest.raises(ArgumentError, match="cannot follow with an engine that has async_creator_fn"):
        ask_engine(driver, url(driver, db1), connect_args={"async_creator_fn": plain.connect})


def test_an_engine_tells_the_driver_s_error(driver: str) -> None:
    with fake(after_login("|Go there.|db 2")) as server:
        options: dict[str, Any] = {"connect_args": {"ssl_disabled": True}} if driver == "pymysql" else {}
        with pytest.raises(
            OperationalError, match=r"\(4196, \"Server '127.0.0.1:[0-9]+' sent an invalid redirect target"
        ):
            ask_engine(driver, url(driver, server), **options)
