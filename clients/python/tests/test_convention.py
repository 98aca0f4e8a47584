"""The parser and the state of an attempt, by the vectors that are published with the protocol."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from adapter import outcome

from instant_failover._follow import BadTargetError, Follow
from instant_failover._target import Target, TargetError, shown

HERE = Path(__file__).parent
VECTORS: dict[str, Any] = json.loads((HERE / "../../../docs/protocol-vectors.json").read_text(encoding="utf-8"))


def of_message(vector: dict[str, Any]) -> tuple[str, str]:
    message = vector.get("hex") or vector["message"].encode().hex()
    target = vector["target"]
    if isinstance(target, dict):
        host = f"[{target['host']}]" if ":" in target["host"] else target["host"]
        return message, f"{host}:{target['port']}"
    return message, target or "ordinary"


@pytest.mark.parametrize("vector", VECTORS["messages"], ids=lambda vector: vector["name"])
def test_messages(vector: dict[str, Any]) -> None:
    message, wanted = of_message(vector)
    for code in 4196, 4200:
        assert outcome("nowhere:1", f"{code}:{message}") == wanted
    assert outcome("nowhere:1", f"1045:{message}") == "ordinary"


@pytest.mark.parametrize("vector", VECTORS["attempts"], ids=lambda vector: vector["outcome"])
def test_attempts(vector: dict[str, Any]) -> None:
    errors = [f"{code}:{message.encode().hex()}" for code, message in vector["errors"]]
    assert outcome(vector["origin"], *errors) == vector["outcome"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the host is missing"),
        ("mysql://db2", "leave out 'mysql://'"),
        ("db 2", "a host name cannot contain ' '"),
        ("d\u00e9b", "a host name cannot contain '\u00e9'"),
        ("a" * 254, "a host name has at most 253 characters, this one has 254"),
        ("a" * 300, "it has 300 bytes, but a target has at most 259"),
        ("db..2a", "'' is not a valid host name label (1 to 63 letters, digits, underscores and inner hyphens)"),
        ("1.2.3", "'1.2.3' is not an IPv4 address"),
        ("[x]", "'x' is not an IPv6 address"),
        ("[::]", ":: is not the address of a single host"),
        ("[::ffff:0.0.0.0]", "0.0.0.0 is not the address of a single host"),
        ("[::1", "the bracket is not closed"),
        ("[::1]x", "only ':' and a port can follow the bracket"),
        ("db2:0", "port '0' is not a number from 1 to 65535"),
        ("db2:\n", "port '\\n' is not a number from 1 to 65535"),
    ],
)
def test_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(TargetError) as raised:
        Target.parse(text)
    assert str(raised.value) == f"{shown(text)} is not a target: {problem}; give host, host:port or [IPv6]:port"


def test_an_address_without_brackets() -> None:
    with pytest.raises(TargetError) as raised:
        Target.parse("2001:db8::1")
    assert str(raised.value) == "'2001:db8::1' is not a target: write an IPv6 address in brackets, [2001:db8::1]"


def test_long_values_are_cut() -> None:
    assert shown("x" * 60) == "'" + "x" * 60 + "'"
    assert shown("x" * 61) == "'" + "x" * 60 + "...'"


def test_the_server_that_sent_nonsense_is_named() -> None:
    follow = Follow("db1:3306")
    follow.refused(4196, "|Go there.|db2")
    with pytest.raises(BadTargetError, match=r"^Server 'db2:3306' sent an invalid redirect target: '' is not a target"):
        follow.refused(4196, "||")


def test_the_adapter() -> None:
    lines = ["nowhere:1\t4196:" + b"||db2".hex(), "/run/s\t1045:" + b"no".hex(), "db2:3306\t4196:" + b"||DB2".hex()]
    command = [sys.executable, str(HERE / "../conformance/adapter.py"), "parse"]
    ended = subprocess.run(command, input="\n".join(lines), text=True, capture_output=True, check=True, timeout=60)
    assert ended.stdout.splitlines() == ["db2:3306", "ordinary", "circle"]
