from __future__ import annotations

import ssl
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import servers
import trustme
from sessions import DRIVERS, Pool, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Connect = "Callable[..., Session]"


class Authority:
    """An authority, and certificates of servers."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ca = trustme.CA()
        self.file = str(directory / "ca.pem")
        self._ca.cert_pem.write_to_path(self.file)

    def certificate(self, *names: str) -> dict[str, str]:
        """Return the options of a server that has a certificate for these names."""
        issued = self._ca.issue_cert(*names)
        files = {name: str(self._directory / f"{names[0]}-{name}.pem") for name in ("cert", "key")}
        issued.private_key_pem.write_to_path(files["key"])
        issued.cert_chain_pems[0].write_to_path(files["cert"])
        return {"ssl-cert": files["cert"], "ssl-key": files["key"]}

    def options(self, *names: str) -> list[str]:
        return [f"--{name}={value}" for name, value in self.certificate(*names).items()]

    def context(self, *, verify: bool = True) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.file)
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def _pair(authority: Authority) -> Iterator[tuple[servers.Process, servers.Process]]:
    certificate = authority.certificate("localhost")
    with ExitStack() as stack:
        pair = []
        for _ in range(2):
            pair.append(servers.mariadb(certificate))
            stack.callback(pair[-1].stop)
        yield pair[0], pair[1]


@pytest.fixture
def db1(_pair: tuple[servers.Process, servers.Process]) -> Iterator[servers.Process]:
    """Return a server that a test may have redirect; afterwards, it no longer does."""
    yield _pair[0]
    _pair[0].off()


@pytest.fixture
def db2(_pair: tuple[servers.Process, servers.Process]) -> Iterator[servers.Process]:
    yield _pair[1]
    _pair[1].off()


@pytest.fixture
def stand_in() -> Iterator[Callable[..., servers.Process]]:
    """Return a function that starts a stand-in."""
    with ExitStack() as stack:

        def start(*options: str, target: str | None = None) -> servers.Process:
            process = servers.stand_in(*options, target=target)
            stack.callback(process.stop)
            return process

        yield start


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("INSTANT_FAILOVER_FOLLOW", raising=False)
    return str(request.param)


def _options(driver: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a driver: no TLS, and our account, unless others are given."""
    options = {"user": servers.USER, "password": servers.PASSWORD, "autocommit": True, **given}
    if driver == "pymysql" and "ssl" not in options:
        options["ssl_disabled"] = True
    return options


@pytest.fixture
def connect(driver: str) -> Iterator[Callable[..., Session]]:
    """Return a function that connects; what it returns is closed."""
    with ExitStack() as stack:

        def call(server: Any = None, *, wait: float | None = servers.PATIENCE, **given: Any) -> Session:
            address = server.address if server is not None else {}
            session = Session(driver, wait=wait, **_options(driver, {**address, **given}))
            stack.callback(session.close)
            return session

        yield call


@pytest.fixture
def engine(driver: str) -> Iterator[Callable[..., Pool]]:
    """Return a function that makes an engine of SQLAlchemy."""
    with ExitStack() as stack:

        def call(server: Any, *, size: int = 2, **given: Any) -> Pool:
            pool = Pool(driver, size, wait=servers.PATIENCE, **_options(driver, {**server.address, **given}))
            stack.callback(pool.close)
            return pool

        yield call
