"""What all drivers must do alike."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import re
import socket
import ssl
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import servers
from servers import Fake, after_login, fake, greeting, instead_of_greeting, packet, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Authority
    from servers import Process
    from sessions import Session

    Connect = Callable[..., Session]
    StandIn = Callable[..., Process]


def refused(connect: Connect, server: Any, **options: Any) -> tuple[int, str]:
    """Return code and text of the error of a login."""
    with pytest.raises(Exception) as raised:
        connect(server, **options)
    # The driver's own type of errors.
    assert type(raised.value).__name__ == "OperationalError", repr(raised.value)
    code, text = raised.value.args[:2]
    return code, text


def test_without_a_redirect(connect: Connect, db1: Process) -> None:
    assert connect(db1).query("SELECT @@port") == str(db1.port)


def test_a_redirect(connect: Connect, db1: Process, db2: Process) -> None:
    db1.redirect(db2.target)
    session = connect(db1)
    assert session.query("SELECT @@port") == str(db2.port)
    assert session.query("SELECT 1") == "1"


def test_the_options_of_the_program(connect: Connect, db1: Process, db2: Process, driver: str) -> None:
    db1.redirect(db2.target)
    name = "db" if driver == "aiomysql" else "database"
    options = {name: servers.DATABASE, "charset": "latin1", "init_command": "SET @seen = @@port"}
    session = connect(db1, **options)
    assert session.query("SELECT DATABASE()") == servers.DATABASE
    assert session.query("SELECT @@character_set_client") == "latin1"
    assert session.query("SELECT @seen") == str(db2.port)


def test_from_a_socket_over_tcp(connect: Connect, db1: Process, db2: Process) -> None:
    db1.redirect(db2.target, mode="ALL")
    session = connect(unix_socket=db1.socket)
    assert session.query("SELECT @@port") == str(db2.port)
    assert session.query("SELECT SUBSTRING_INDEX(USER(), '@', -1)") == "localhost"
    assert ":" in (session.query("SELECT host FROM information_schema.processlist WHERE id = CONNECTION_ID()") or "")


def test_a_hold_that_ends_in_a_redirect(connect: Connect, db1: Process, db2: Process) -> None:
    # The redirect comes after the password was checked, and after the time in which to reach the server.
    db1.sql("SET GLOBAL instant_failover_hold_timeout = 60, instant_failover_mode = HOLD")
    db1.sql(
        f"CREATE OR REPLACE EVENT {servers.DATABASE}.decide ON SCHEDULE AT NOW() + INTERVAL 2 SECOND DO "
        f"SET GLOBAL instant_failover_target = '{db2.target}', instant_failover_mode = ON",
        "SET GLOBAL event_scheduler = ON",
    )
    began = time.monotonic()
    session = connect(db1, connect_timeout=1)
    assert session.query("SELECT @@port") == str(db2.port)
    assert time.monotonic() - began > 1


def test_a_host_in_bytes(connect: Connect, db1: Process, db2: Process) -> None:
    """The drivers take it as well."""
    db1.redirect(db2.target)
    assert connect(db1, host=b"localhost").query("SELECT @@port") == str(db2.port)


def test_a_reconnect_begins_at_the_origin(connect: Connect, db1: Process, db2: Process) -> None:
    db1.redirect(db2.target)
    session = connect(db1)
    db1.off()
    db2.sql(f"KILL {session.query('SELECT CONNECTION_ID()')}")
    ping(session)
    assert session.query("SELECT @@port") == str(db1.port)
    db1.redirect(db2.target)
    db1.sql(f"KILL {session.query('SELECT CONNECTION_ID()')}")
    ping(session)
    assert session.query("SELECT @@port") == str(db2.port)


def ping(session: Session) -> None:
    # PyMySQL 1.2 would rather have programs reconnect themselves.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        session.ping()


def test_an_ordinary_error_is_unchanged(connect: Connect, db1: Process) -> None:
    code, text = refused(connect, db1, password="wrong")
    assert code == 1045
    assert text == "Access denied for user 'app'@'localhost' (using password: YES)"


def test_an_error_on_the_way_names_the_servers(connect: Connect, db1: Process, db2: Process) -> None:
    db1.redirect(db2.target)
    code, text = refused(connect, db1, password="wrong")
    assert code == 1045
    assert text.endswith(f"(using password: YES) (redirected: {db1.target} -> {db2.target})")


def test_an_error_of_the_first_statement_is_no_redirect(connect: Connect, db1: Process, db2: Process) -> None:
    statement = f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 4196, MESSAGE_TEXT = '|Go there.|{db2.target}'"
    code, text = refused(connect, db1, init_command=statement)
    assert (code, text) == (4196, f"|Go there.|{db2.target}")


def test_a_target_that_is_down(connect: Connect, db1: Process) -> None:
    port = servers.free_port()
    db1.redirect(f"localhost:{port}")
    code, text = refused(connect, db1)
    assert code == 2003
    assert text.endswith(f"(redirected: {db1.target} -> localhost:{port})")


def test_8_redirects(connect: Connect, db2: Process, stand_in: StandIn) -> None:
    target = db2.target
    for _ in range(8):
        first = stand_in("--skip-ssl", target=target)
        target = first.target
    assert connect(first).query("SELECT @@port") == str(db2.port)
    code, text = refused(connect, stand_in("--skip-ssl", target=target))
    assert code == 4196
    assert text.startswith("Too many instant failovers (>= 8): localhost:")
    assert text.count(" -> ") == 8


def test_a_loop(connect: Connect, db1: Process, db2: Process) -> None:
    db1.redirect(db2.target)
    db2.redirect(db1.target.upper())
    code, text = refused(connect, db1)
    assert code == 4196
    assert text == f"Redirect loop: {db1.target} -> {db2.target} -> {db1.target.upper()}"


@pytest.mark.parametrize("message", ["|Go there.|", "|Go there.|db 2", "|Go there.|db2\n", "|Go there.|[::1", "||x:0"])
def test_a_malformed_target(connect: Connect, message: str) -> None:
    with fake(after_login(message)) as server:
        code, text = refused(connect, server)
        assert code == 4196
        assert text.startswith(f"Server '{server.target}' sent an invalid redirect target: '")
        assert server.connections == 1


@pytest.mark.parametrize("message", ["", "Go there.", "|db2", "text|db2", "\ufffd"])
def test_no_redirect(connect: Connect, message: str) -> None:
    with fake(after_login(message)) as server:
        assert refused(connect, server) == (4196, message)


def test_in_the_place_of_the_greeting(connect: Connect, db2: Process) -> None:
    message = f"|Go there.|{db2.target}"
    with fake(instead_of_greeting(message)) as server:
        for follow in "always", "auto":
            assert refused(connect, server, instant_failover_follow=follow) == (4196, message)


def garbage(server: Fake, connection: socket.socket) -> None:
    connection.sendall(b"\0" * 3 + b"\7" + b"HTTP/1.1 400 Bad Request\r\n\r\n")
    server.read_all(connection)


def test_garbage(connect: Connect) -> None:
    with fake(garbage) as server, pytest.raises(Exception):
        connect(server)


def test_plaintext_after_the_request_for_tls(connect: Connect, db2: Process, authority: Authority) -> None:
    for context in authority.context(), authority.context(verify=False):
        with fake(after_login(f"|Go there.|{db2.target}", tls=True)) as server:
            code, _ = refused(connect, server, ssl=context, instant_failover_follow="always")
            assert code == 2003
            assert servers.USER.encode() not in server.received


def early(message: str) -> Callable[[Fake, socket.socket], None]:
    """Send the redirect together with a greeting."""

    def behave(server: Fake, connection: socket.socket) -> None:
        connection.sendall(packet(0, greeting(tls=True)) + packet(1, refusal(message)) + packet(2, refusal(message)))
        server.read(connection)

    return behave


def test_plaintext_before_the_request_for_tls(connect: Connect, db2: Process, authority: Authority) -> None:
    with fake(early(f"|Go there.|{db2.target}")) as server:
        code, _ = refused(connect, server, ssl=authority.context(verify=False), instant_failover_follow="always")
        assert code == 2003
        assert servers.USER.encode() not in server.received


def test_a_server_without_tls_where_tls_is_asked_for(connect: Connect, db2: Process, authority: Authority) -> None:
    with fake(after_login(f"|Go there.|{db2.target}")) as server:
        with pytest.raises(Exception) as raised:
            connect(server, ssl=authority.context(verify=False), instant_failover_follow="always")
        assert raised.value.args[0] in (4196, 2026, 2003), raised.value
        if raised.value.args[0] == 4196:
            assert "(not followed: the program asks for TLS, but" in raised.value.args[1]


def test_tls_is_kept_and_verified(connect: Connect, db1: Process, db2: Process, authority: Authority) -> None:
    db1.redirect(db2.target)
    for follow in None, "verified", "auto", "always":
        session = connect(db1, ssl=authority.context(), instant_failover_follow=follow)
        assert session.query("SELECT @@port") == str(db2.port)
        cipher = "SELECT variable_value FROM information_schema.session_status WHERE variable_name = 'Ssl_cipher'"
        assert session.query(cipher)


def test_a_wrong_certificate_at_the_target(
    connect: Connect, db1: Process, stand_in: StandIn, authority: Authority
) -> None:
    other = stand_in(*authority.options("other.example"), "--accept-any-login")
    db1.redirect(other.target)
    code, text = refused(connect, db1, ssl=authority.context())
    assert code == 2003
    assert text.endswith(f"(redirected: {db1.target} -> {other.target})")
    # By the name of the target, not of the origin.
    db1.redirect(f"127.0.0.1:{other.port}")
    assert refused(connect, db1, ssl=authority.context())[0] == 2003
    # Without verification it is reached.
    assert connect(db1, ssl=authority.context(verify=False)).query("SELECT 1") == "1"


def test_who_may_redirect(
    connect: Connect, db1: Process, db2: Process, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    db1.redirect(db2.target)
    verified, unverified, chain_only = authority.context(), authority.context(verify=False), authority.context()
    chain_only.check_hostname = False
    no_tls: dict[str, Any] = {}
    for rule, followed, not_followed in (
        ("never", [], [verified, unverified, chain_only, no_tls]),
        ("0", [], [verified, unverified, no_tls]),
        ("Verified", [verified], [unverified, chain_only, no_tls]),
        ("auto", [verified, unverified, no_tls], [chain_only]),
        ("1", [verified, unverified, no_tls], [chain_only]),
        ("", [verified, unverified, no_tls], [chain_only]),
        ("ALWAYS", [verified, unverified, chain_only, no_tls], []),
        ("sometimes", [], [verified, unverified, chain_only, no_tls]),
    ):
        for by_option in True, False:
            given = {}
            if by_option:
                given["instant_failover_follow"] = rule
                monkeypatch.setenv("INSTANT_FAILOVER_FOLLOW", "always" if not followed else "never" if rule else "auto")
            else:
                monkeypatch.setenv("INSTANT_FAILOVER_FOLLOW", rule)
            for tls in followed:
                options = {**given, "ssl": tls} if isinstance(tls, ssl.SSLContext) else given
                assert connect(db1, **options).query("SELECT @@port") == str(db2.port), (rule, tls)
            for tls in not_followed:
                options = {**given, "ssl": tls} if isinstance(tls, ssl.SSLContext) else given
                code, text = refused(connect, db1, **options)
                assert code == 4196
                if rule in ("never", "0"):
                    assert text.endswith(f"|{db2.target}")
                    continue
                assert f"|{db2.target} (not followed: " in text
                # The cure is where the rule is, or it would have no effect. An empty option is none.
                name = "instant_failover_follow" if by_option and rule else "INSTANT_FAILOVER_FOLLOW"
                if rule == "sometimes":
                    assert f"{name} is 'sometimes'; give never, verified, auto or always" in text
                else:
                    assert f" ({name}={'verified' if rule == 'Verified' else 'auto'}); set ssl" in text
                    assert text.endswith(f", or {name}=always)")


def test_the_option_need_not_be_text(
    connect: Connect, db1: Process, db2: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    db1.redirect(db2.target)
    for rule, environment, is_followed in (
        (0, "always", False),
        (False, "always", False),
        (0.0, "always", False),
        (1, "never", True),
        (True, "never", True),
        (None, "always", True),
        (None, "never", False),
        ("", "never", False),
    ):
        monkeypatch.setenv("INSTANT_FAILOVER_FOLLOW", environment)
        if is_followed:
            session = connect(db1, instant_failover_follow=rule)
            assert session.query("SELECT @@port") == str(db2.port), (rule, environment)
        else:
            assert refused(connect, db1, instant_failover_follow=rule)[0] == 4196


def test_no_secret_to_a_server_without_tls_behind_one_with_tls(
    connect: Connect, db1: Process, authority: Authority
) -> None:
    with fake(after_login("|Go there.|nowhere")) as server:
        db1.redirect(server.target)
        for context in authority.context(), authority.context(verify=False):
            code, text = refused(connect, db1, ssl=context, init_command="SET @secret = 1")
            assert code == 2026
            assert "redirected from a server with TLS to one without; disable TLS to allow this" in text
            assert text.endswith(f"(redirected: {db1.target} -> {server.target})")
        assert server.received == b""
        assert server.connections == 2


def full_authentication(server: Fake, connection: socket.socket) -> None:
    """Ask for the password as it is, which a client may only send by TLS or a socket."""
    connection.sendall(packet(0, greeting(method=b"caching_sha2_password")))
    number = server.read(connection)
    connection.sendall(packet(number, b"\x01\x04"))
    server.read(connection)


def test_no_password_in_clear_behind_a_socket(connect: Connect, db1: Process) -> None:
    with fake(full_authentication) as server:
        db1.redirect(server.target, mode="ALL")
        with pytest.raises(Exception):
            connect(unix_socket=db1.socket)
        assert server.connections == 1
        assert servers.USER.encode() in server.received
        assert servers.PASSWORD.encode() not in server.received


def never(server: Fake, connection: socket.socket) -> None:
    server.read_all(connection)


def never_after_the_greeting(server: Fake, connection: socket.socket) -> None:
    connection.sendall(packet(0, greeting(tls=True)))
    server.read_all(connection)


@pytest.mark.parametrize("behave", [never, never_after_the_greeting])
@pytest.mark.parametrize("tls", [False, True])
def test_a_target_that_never_answers(
    connect: Connect,
    db1: Process,
    driver: str,
    authority: Authority,
    behave: Callable[[Fake, socket.socket], None],
    tls: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    with fake(behave) as server:
        db1.redirect(server.target)
        options: dict[str, Any] = {} if driver == "aiomysql" else {"read_timeout": 1}
        if driver == "pymysql":
            # PyMySQL has this timeout during the handshake of TLS.
            options["write_timeout"] = 1
        if tls:
            options["ssl"] = authority.context()
        began = time.monotonic()
        with pytest.raises(Exception):
            connect(db1, wait=1, **options)
        assert 0.9 < time.monotonic() - began < 30
        assert server.connections == 1


def count_sockets() -> int:
    links = []
    for link in Path("/proc/self/fd").iterdir():
        # The one by which they are listed is gone.
        with contextlib.suppress(FileNotFoundError):
            links.append(str(link.readlink()))
    return sum(link.startswith("socket:") for link in links)


def test_no_socket_is_left(connect: Connect, db1: Process, db2: Process, authority: Authority) -> None:
    """Not even until the garbage is collected."""
    outcomes: list[tuple[str, dict[str, Any]]] = [
        (db2.target, {}),
        (db2.target, {"ssl": authority.context()}),
        (db2.target, {"password": "wrong"}),
        (db2.target, {"instant_failover_follow": "never", "ssl": authority.context()}),
        (f"127.0.0.1:{db2.port}", {"ssl": authority.context()}),
        (db1.target, {}),
        (f"localhost:{servers.free_port()}", {}),
    ]
    gc.collect()
    gc.disable()
    try:
        before = None
        for _ in range(5):
            for target, options in outcomes:
                db1.redirect(target)
                with contextlib.suppress(Exception):
                    connect(db1, **options).close()
            sockets = count_sockets()
            before = sockets if before is None else before
            assert sockets == before
    finally:
        gc.enable()


async def by_socket(following: Any, account: dict[str, Any], own: socket.socket) -> None:
    await following.connect(**account, sock=own)


@pytest.mark.parametrize("driver", ["pymysql", "asyncmy"], indirect=True)
def test_a_socket_of_the_program(driver: str, db1: Process, db2: Process) -> None:
    """It leads to one server only, such as through a proxy."""
    db1.redirect(db2.target)
    account: dict[str, Any] = {"user": servers.USER, "password": servers.PASSWORD, "host": "localhost"}
    following = importlib.import_module(f"instant_failover.{driver}")
    with socket.create_connection((db1.host, db1.port)) as own, pytest.raises(following.OperationalError) as raised:
        if driver == "pymysql":
            following.Connection(**account, ssl_disabled=True, defer_connect=True).connect(own)
        own.setblocking(False)  # noqa: FBT003
        asyncio.run(by_socket(following, account, own))
    wanted = f"|{db2.target} (not followed: the program connected the socket itself; let the driver connect)"
    assert raised.value.args[1].endswith(wanted)


@contextlib.contextmanager
def full() -> Iterator[int]:
    """A port on which the kernel no longer answers, as nothing accepts connections: the port of a host that is gone."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)  # noqa: FBT003
            waiting.connect_ex(listener.getsockname())
        time.sleep(0.1)
        yield listener.getsockname()[1]


def test_the_time_to_connect_counts_for_all_servers(
    connect: Connect, db1: Process, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with full() as port:
        db1.redirect(f"127.0.0.1:{port}")
        began = time.monotonic()
        with pytest.raises(Exception) as raised:
            connect(db1, connect_timeout=2)
        assert 1 < time.monotonic() - began < 30
        # Before Python 3.11, asyncmy lets a TimeoutError of asyncio through.
        if not isinstance(raised.value, asyncio.TimeoutError):
            assert raised.value.args[0] == 2003
            assert f" -> 127.0.0.1:{port})" in raised.value.args[1]
        # As if it had taken most of the time to reach the first server.
        following = importlib.import_module(f"instant_failover.{driver}")
        reached = following.Attempt.reached

        def late(attempt: Any) -> None:
            attempt._began -= 59.5  # noqa: SLF001
            reached(attempt)

        monkeypatch.setattr(following.Attempt, "reached", late)
        began = time.monotonic()
        with pytest.raises(Exception):
            connect(db1, connect_timeout=60, wait=None)
        assert time.monotonic() - began < 30


def holds_on(context: ssl.SSLContext, message: str) -> Callable[[Fake, socket.socket], None]:
    """Redirect under TLS, and then neither close the connection nor take part in the end of TLS."""

    def behave(server: Fake, connection: socket.socket) -> None:
        connection.sendall(packet(0, greeting(tls=True)))
        server.read(connection)
        with context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=False) as secure:
            server.read(secure)
            secure.sendall(packet(3, refusal(message)))
            with socket.socket(fileno=secure.detach()) as below:
                below.settimeout(servers.PATIENCE)
                server.read_all(below)

    return behave


def test_a_server_that_holds_on(connect: Connect, db2: Process, authority: Authority) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = authority.certificate("localhost")
    context.load_cert_chain(certificate["ssl-cert"], certificate["ssl-key"])
    with fake(holds_on(context, f"|Go there.|{db2.target}")) as server:
        session = connect(host="localhost", port=server.port, ssl=authority.context())
        assert session.query("SELECT @@port") == str(db2.port)
        # asyncio would wait for half a minute.
        assert server.left.wait(10)


def test_a_driver_that_logs_in_in_another_way(
    connect: Connect, db1: Process, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    following = importlib.import_module(f"instant_failover.{driver}")
    monkeypatch.delattr(following.Connection, "_request_authentication")
    with pytest.raises(Exception) as raised:
        connect(db1)
    assert type(raised.value).__name__ == "OperationalError"
    wanted = rf"instant_failover cannot follow redirects with {driver} [0-9.]+: it logs in in another way"
    assert re.fullmatch(wanted, str(raised.value), re.IGNORECASE)
