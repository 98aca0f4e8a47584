"""Real servers for the tests: mariadbd with the plugin, the stand-in, and a server that misbehaves."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pymysql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

USER, PASSWORD, DATABASE = "app", "s3cret", "shop"
PATIENCE = 60


def built(variable: str) -> str:
    """Return the path of something that is built elsewhere; to have none is an error, not a reason to skip tests."""
    path = os.environ.get(variable, "")
    if not Path(path).is_file():
        message = f"{variable} is '{path}', which is not a file; see README.md"
        raise RuntimeError(message)
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Process:
    """A server with a directory of its own, until `stop()`."""

    host = "localhost"

    def __init__(self, command: Sequence[str], home: Path, port: int) -> None:
        self.home, self.port = home, port
        self.socket = str(home / "s")
        self._log = (home / "log").open("wb")
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                # Not by PyMySQL: it leaves a socket open that cannot be connected.
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.connect(self.socket)
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    print((home / "log").read_text()[-5000:])  # noqa: T201 - pytest shows it
                    raise
                time.sleep(0.05)
            else:
                break

    @property
    def address(self) -> dict[str, Any]:
        return {"host": self.host, "port": self.port}

    @property
    def target(self) -> str:
        return f"{self.host}:{self.port}"

    def sql(self, *statements: str) -> Any:
        """Execute statements as root, and return the first column of the last one's first row."""
        row = None
        with pymysql.connect(unix_socket=self.socket, user="root", ssl_disabled=True, autocommit=True) as connection:
            for statement in statements:
                with connection.cursor() as cursor:
                    cursor.execute(statement)
                    row = cursor.fetchone()
        return row and row[0]

    def redirect(self, target: str, mode: str = "ON") -> None:
        self.sql(f"SET GLOBAL instant_failover_target = '{target}', instant_failover_mode = {mode}")

    def drain(self) -> None:
        """End all sessions of clients, and wait until they are gone."""
        self.sql("SET GLOBAL instant_failover_drain = ON")
        deadline = time.monotonic() + PATIENCE
        left = "SELECT variable_value FROM information_schema.global_status WHERE variable_name = '{}'"
        while int(self.sql(left.format("Instant_failover_sessions"))):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def off(self) -> None:
        self.sql("SET GLOBAL instant_failover_mode = OFF, instant_failover_target = ''")

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        shutil.rmtree(self.home, ignore_errors=True)


def _home() -> Path:
    # Short: the path of a socket has at most 107 bytes. Others may read it: mariadbd may run as another user.
    return Path(tempfile.mkdtemp(prefix="ifp-"))


def mariadb(certificate: dict[str, str]) -> Process:
    """Start mariadbd with the plugin, an account and a database."""
    home, port = _home(), free_port()
    plugins = home / "plugins"
    plugins.mkdir()
    # Of its own: the names of temporary tables there are not unique among servers.
    temporary = home / "tmp"
    temporary.mkdir()
    shutil.copy(built("INSTANT_FAILOVER_SO"), plugins / "instant_failover.so")
    user = ["--user=root"] if os.geteuid() == 0 else []
    data = [f"--datadir={home / 'data'}", f"--tmpdir={temporary}"]
    install = ["mariadb-install-db", "--no-defaults", *data, "--auth-root-authentication-method=normal"]
    subprocess.run([*install, "--skip-test-db", *user], check=True, stdout=subprocess.DEVNULL)
    options = [
        *data,
        f"--socket={home / 's'}",
        f"--pid-file={home / 'pid'}",
        f"--plugin-dir={plugins}",
        f"--port={port}",
    ]
    options += ["--bind-address=127.0.0.1,::1", "--innodb-buffer-pool-size=16M", "--plugin-load-add=instant_failover"]
    options += [f"--{name}={value}" for name, value in certificate.items()]
    process = Process(["mariadbd", "--no-defaults", *user, *options], home, port)
    process.sql(
        "SET GLOBAL instant_failover_exempt_users = 'root'",
        f"CREATE USER {USER} IDENTIFIED BY '{PASSWORD}'",
        f"CREATE DATABASE {DATABASE}",
        f"GRANT ALL ON *.* TO {USER}",
        f"CREATE TABLE {DATABASE}.orders (id BIGINT PRIMARY KEY)",
        f"CREATE TABLE {DATABASE}.`lines` (id BIGINT PRIMARY KEY)",
    )
    return process


def stand_in(*options: str, target: str | None = None) -> Process:
    """Start the stand-in, which redirects to `target`; a user that it does not redirect may do as little as root."""
    home, port = _home(), free_port()
    command = [built("INSTANT_FAILOVER_STANDIN"), f"--port={port}", f"--socket={home / 's'}"]
    command += ["--bind-address=127.0.0.1", *options]
    process = Process(command, home, port)
    if target:
        process.redirect(target)
    return process


# What a server of MariaDB can do: the old password, protocol 4.1, transactions, secure passwords, plugins.
_CAPABILITIES = 0x1 | 0x2 | 0x4 | 0x8 | 0x200 | 0x2000 | 0x8000 | 0x80000
_SSL = 0x800


def packet(number: int, body: bytes) -> bytes:
    return struct.pack("<I", len(body))[:3] + bytes([number]) + body


def refusal(message: str, code: int = 4196) -> bytes:
    return b"\xff" + struct.pack("<H", code) + b"#HY000" + message.encode()


def greeting(*, tls: bool = False, method: bytes = b"mysql_native_password") -> bytes:
    capabilities = _CAPABILITIES | (_SSL if tls else 0)
    low, high = capabilities & 0xFFFF, capabilities >> 16
    return (
        b"\x0a5.5.5-10.11.19-MariaDB-fake\0"
        + struct.pack("<I", 7)
        + b"abcdefgh\0"
        + struct.pack("<HBHHB", low, 45, 2, high, 21)
        + bytes(10)
        + b"ijklmnopqrst\0"
        + method
        + b"\0"
    )


class Fake:
    """A server that does what `behave` says with each connection, and keeps what it got."""

    host = "127.0.0.1"

    def __init__(self, behave: Callable[[Fake, socket.socket], None]) -> None:
        self._behave = behave
        self._listener = socket.create_server((self.host, 0))
        self.port: int = self._listener.getsockname()[1]
        self.received = b""
        self.connections = 0
        self.ended = threading.Event()
        self.left = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def address(self) -> dict[str, Any]:
        return {"host": self.host, "port": self.port}

    @property
    def target(self) -> str:
        return f"{self.host}:{self.port}"

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                if self.ended.is_set():
                    return
                self.connections += 1
                connection.settimeout(PATIENCE)
                with contextlib.suppress(OSError):
                    self._behave(self, connection)

    def read(self, connection: socket.socket) -> int:
        """Read a packet, and return the number of the next one."""
        header = self._exactly(connection, 4)
        self._exactly(connection, int.from_bytes(header[:3], "little"))
        return header[3] + 1

    def _exactly(self, connection: socket.socket, length: int) -> bytes:
        data = b""
        while len(data) < length:
            more = connection.recv(length - len(data))
            if not more:
                raise OSError
            data += more
            self.received += more
        return data

    def read_all(self, connection: socket.socket) -> None:
        """Read until the client closes the connection."""
        # A client that has not read everything resets the connection.
        with contextlib.suppress(ConnectionResetError):
            while data := connection.recv(4096):
                self.received += data
        self.left.set()

    def stop(self) -> None:
        self.ended.set()
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port)):
            pass
        self._thread.join()
        self._listener.close()


@contextlib.contextmanager
def fake(behave: Callable[[Fake, socket.socket], None]) -> Iterator[Fake]:
    server = Fake(behave)
    try:
        yield server
    finally:
        server.stop()


def instead_of_greeting(message: str) -> Callable[[Fake, socket.socket], None]:
    def behave(server: Fake, connection: socket.socket) -> None:
        connection.sendall(packet(0, refusal(message)))
        server.read_all(connection)

    return behave


def after_login(message: str, **of_greeting: Any) -> Callable[[Fake, socket.socket], None]:
    """Refuse the login; with `tls=True`, the request for TLS."""

    def behave(server: Fake, connection: socket.socket) -> None:
        connection.sendall(packet(0, greeting(**of_greeting)))
        number = server.read(connection)
        connection.sendall(packet(number, refusal(message)))
        server.read_all(connection)

    return behave
