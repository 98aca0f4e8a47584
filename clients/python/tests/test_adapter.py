"""The conformance adapter, as the runner uses it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import servers

if TYPE_CHECKING:
    from conftest import Authority
    from servers import Process

ADAPTER = [sys.executable, str(Path(__file__).parent / "../conformance/adapter.py")]


def land(driver: str, requests: list[dict[str, Any]]) -> list[Any]:
    lines = "\n".join(map(json.dumps, requests))
    command = [*ADAPTER, "--driver", driver, "land"]
    ended = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=120, check=True)
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_land(driver: str, db1: Process, db2: Process, authority: Authority) -> None:
    db1.redirect(db2.target)
    to = {**db1.address, "user": servers.USER, "password": servers.PASSWORD, "database": None, "timeout": 10}
    verified = {"tls": "verify", "ca": authority.file}
    answers = land(
        driver,
        [
            {"op": "connect", "id": "a", **to, "tls": "off", "ca": None, "follow": None},
            {"op": "query", "id": "a", "sql": "SELECT @@port"},
            {"op": "query", "id": "a", "sql": "SELECT NULL"},
            {"op": "query", "id": "a", "sql": "DO 0"},
            {"op": "close", "id": "a"},
            {"op": "connect", "id": "b", **to, **verified, "follow": "verified"},
            {"op": "connect", "id": "c", **to, "tls": "require", "ca": None, "follow": "verified"},
            {"op": "pool", "id": "p", **to, **verified, "follow": None, "size": 4},
            {"op": "pool_query", "id": "p", "sql": "SELECT @@port"},
            {"op": "pool_query", "id": "p", "sql": "nonsense"},
            {"op": "close", "id": "p"},
            {"op": "close", "id": "b"},
        ],
    )
    none, port = {"ok": None}, {"ok": str(db2.port)}
    assert answers[:6] == [none, port, none, none, none, none]
    assert answers[6]["error"]["code"] == 4196
    assert answers[7:9] == [none, port]
    assert answers[9]["error"]["code"] == 1064
    assert answers[10:] == [none, none]


def test_load(driver: str, db1: Process, db2: Process, tmp_path: Path) -> None:
    for server in db1, db2:
        server.sql(*(f"TRUNCATE {servers.DATABASE}.`{table}`" for table in ("orders", "lines")))
    file = tmp_path / "ids"
    request = {**db1.address, "user": servers.USER, "password": servers.PASSWORD, "database": servers.DATABASE}
    request |= {"tls": "off", "ca": None, "follow": None, "seconds": 8, "workers": 4, "file": str(file)}
    with subprocess.Popen([*ADAPTER, "--driver", driver, "load", json.dumps(request)], stdout=subprocess.PIPE) as load:
        # In the middle of it, once it writes.
        while not (file.exists() and file.stat().st_size) and load.poll() is None:
            pass
        db1.redirect(db2.target)
        db1.sql("SET GLOBAL instant_failover_drain = ON")
        result = json.loads(load.communicate(timeout=120)[0])
    assert load.returncode == 0
    numbers = set(map(int, file.read_text().split()))
    assert len(numbers) == result["acknowledged"] > 0
    written = [server.sql(f"SELECT COUNT(*) FROM {servers.DATABASE}.orders") for server in (db1, db2)]
    assert min(written) > 0
    assert sum(written) == result["acknowledged"]
    assert result["errors_in_transaction"] == result["unknown"] == 0, result
    assert result["longest_pause_ms"] > 0
