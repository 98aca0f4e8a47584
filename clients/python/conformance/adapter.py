"""The conformance adapter: `adapter.py [--driver pymysql|asyncmy|aiomysql] parse | land | load JSON`.

The driver can also be given by the environment variable INSTANT_FAILOVER_DRIVER.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sessions import DRIVERS, Pool, Session, options_of
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util.concurrency import await_only, greenlet_spawn

from instant_failover._follow import BadTargetError, Follow, LoopError, TooManyError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

MAX_FIRST_ERRORS = 5
# Errors of the client: the server's answer is not known.
LOST = (0, 2006, 2013)


def parse() -> None:
    """Answer each line of refusals with what comes of them."""
    for line in sys.stdin:
        print(outcome(*line.rstrip("\n").split("\t")), flush=True)


def outcome(origin: str, *errors: str) -> str:
    """Return where an attempt leads that begins at `origin` and gets these errors."""
    follow, target = Follow(origin), None
    try:
        for error in errors:
            code, _, message = error.partition(":")
            # The drivers decode messages so.
            target = follow.refused(int(code), bytes.fromhex(message).decode("utf-8", "replace"))
            if target is None:
                return "ordinary"
    except BadTargetError:
        return "malformed"
    except LoopError:
        return "circle"
    except TooManyError:
        return "too many"
    return str(target)


def error_of(error: BaseException) -> dict[str, Any]:
    """Return an error as JSON has it; code 0 if the driver has none."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    code, message = (*error.args, None, None)[:2]
    if isinstance(code, int):
        return {"code": code, "message": str(message)}
    return {"code": 0, "message": str(error) or type(error).__name__}


def land(driver: str) -> None:
    """Answer requests, one line each."""
    open_ones: dict[str, Session | Pool] = {}
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"ok": perform(driver, json.loads(line), open_ones)}
        except Exception as error:  # noqa: BLE001 - it is the answer
            answer = {"error": error_of(error)}
        print(json.dumps(answer), flush=True)


def perform(driver: str, request: dict[str, Any], open_ones: dict[str, Session | Pool]) -> str | None:
    """Perform a request."""
    name = request["id"]
    match request["op"]:
        case "connect":
            open_ones[name] = Session.of(driver, request)
        case "pool":
            open_ones[name] = Pool.of(driver, request)
        case "query" | "pool_query":
            return open_ones[name].query(request["sql"])
        case "close":
            open_ones.pop(name).close()
        case unknown:
            message = f"'{unknown}' is not an operation"
            raise ValueError(message)
    return None


class Load:
    """Workers that write by a pool, and what became of it."""

    def __init__(self, driver: str, request: dict[str, Any], file: TextIO) -> None:
        """Make the pool."""
        self._workers = int(request["workers"])
        self._pool = Pool(driver, self._workers, **options_of(driver, request))
        self._file = file
        self._lock = threading.Lock()
        self._counts = Counter(acknowledged=0, errors_in_transaction=0, errors_outside=0, unknown=0)
        self._first_errors: list[str] = []
        self._began = self._last = time.monotonic()
        self._end = self._began + request["seconds"]
        self._longest_pause = 0.0

    def run(self) -> dict[str, Any]:
        """Let all workers work."""
        if self._pool.loop is None:
            threads = [threading.Thread(target=self._work, args=(n, time.sleep)) for n in range(self._workers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        else:
            self._pool.loop.run(self._run_tasks())
        self._pool.close()
        self._pause_ends()
        return {
            **self._counts,
            "longest_pause_ms": round(self._longest_pause * 1000, 1),
            "first_errors": self._first_errors,
        }

    async def _run_tasks(self) -> None:
        def sleep(seconds: float) -> None:
            await_only(asyncio.sleep(seconds))

        await asyncio.gather(*(greenlet_spawn(self._work, n, sleep) for n in range(self._workers)))

    def _work(self, worker: int, sleep: Callable[[float], None]) -> None:
        number = worker * 10**9
        while time.monotonic() < self._end:
            number += 1
            where = "errors_outside"
            connection = None
            try:
                connection = self._pool.engine.raw_connection()
                cursor = connection.cursor()
                cursor.execute("SELECT COUNT(*) FROM orders WHERE id = %s", (number,))
                cursor.fetchall()
                cursor.execute("BEGIN")
                where = "errors_in_transaction"
                cursor.execute("INSERT INTO orders(id) VALUES(%s)", (number,))
                cursor.execute("INSERT INTO `lines`(id) VALUES(%s)", (number,))
                where = "unknown"
                cursor.execute("COMMIT")
                self._acknowledge(number)
                cursor.close()
                connection.close()
            except Exception as error:  # noqa: BLE001 - it is counted
                self._count(where, error)
                if connection is not None:
                    connection.invalidate()
                sleep(0.01)

    def _acknowledge(self, number: int) -> None:
        with self._lock:
            self._counts["acknowledged"] += 1
            self._file.write(f"{number}\n")
            self._file.flush()
            self._pause_ends()

    def _pause_ends(self) -> None:
        now = time.monotonic()
        self._longest_pause = max(self._longest_pause, now - self._last)
        self._last = now

    def _count(self, where: str, error: Exception) -> None:
        """Count an error. A COMMIT that is not answered is also an error in a transaction."""
        shown = error_of(error)
        with self._lock:
            if where == "unknown":
                self._counts["unknown"] += shown["code"] in LOST
                where = "errors_in_transaction"
            self._counts[where] += 1
            if len(self._first_errors) < MAX_FIRST_ERRORS:
                self._first_errors.append(f"{where}: {shown['code']}: {shown['message']}")


def main() -> None:
    """Read the command line."""
    arguments = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("INSTANT_FAILOVER_DRIVER", DRIVERS[0])
    arguments.add_argument("--driver", choices=DRIVERS, default=default)
    arguments.add_argument("command", choices=("parse", "land", "load"))
    arguments.add_argument("request", nargs="?", type=json.loads, metavar="JSON")
    given = arguments.parse_args()
    if given.driver not in DRIVERS:
        arguments.error(f"INSTANT_FAILOVER_DRIVER is '{given.driver}'; give {', '.join(DRIVERS)}")
    if given.command == "parse":
        parse()
    elif given.command == "land":
        land(given.driver)
    elif given.request is None:
        arguments.error("load needs its JSON")
    else:
        with Path(given.request["file"]).open("a", encoding="ascii") as file:
            print(json.dumps(Load(given.driver, given.request, file).run()), flush=True)


if __name__ == "__main__":
    main()
