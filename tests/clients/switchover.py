"""An application with a pool of connections, for `cargo xtask switchover`.

Its writers and readers do not know about the switchover. On an error they close the connection and try again. It prints a
line for each event: time, client, event, server, write and text; it ends at the end of its input.
"""

import os
import sys
import threading
import time

import MySQLdb

LOGIN = {
    "host": os.environ["DB_HOST"],
    "user": os.environ["DB_USER"],
    "password": os.environ["DB_PASSWORD"],
    "database": os.environ["DB_NAME"],
    "connect_timeout": 5,
    "read_timeout": 10,
    "write_timeout": 10,
}
# The pause between two pieces of work, and before a retry, in seconds.
PAUSE = 0.02
# How long a slow writer keeps its transaction open.
HOLD = 0.5
# No connection is used for longer.
LIFETIME = 0.5
# The connection was lost: it is unknown whether a COMMIT succeeded.
LOST = {2006, 2013}
DUPLICATE = 1062

stopping = threading.Event()
idle = []
printing = threading.Lock()


def say(what, server=0, number=0, words=""):
    words = " ".join(str(words).split())
    with printing:
        print(f"{time.time():.6f}", threading.current_thread().name, what, server, number, words, sep="\t", flush=True)


def connection_of_pool():
    """One that is idle and still open, the last used first, or a new one."""
    while idle:
        try:
            connection = idle.pop()
        except IndexError:
            # Another thread was faster.
            break
        try:
            connection.ping()
            return connection
        except MySQLdb.Error:
            connection.close()
    connection = MySQLdb.connect(**LOGIN)
    cursor = connection.cursor()
    cursor.execute("SELECT @@server_id")
    connection.server = cursor.fetchone()[0]
    connection.opened = time.monotonic()
    connection.commit()
    return connection


def attempt(work):
    """Runs `work` on a connection, and returns the error it ended with, or nothing."""
    connection, phase = None, ["connect"]
    try:
        connection = connection_of_pool()
        phase[0] = "statement"
        work(connection, phase)
        if time.monotonic() < connection.opened + LIFETIME:
            idle.append(connection)
        else:
            connection.close()
        return None
    except MySQLdb.Error as error:
        if connection is not None:
            connection.close()
        code = error.args[0]
        if code != DUPLICATE:
            what = "unknown" if phase[0] == "commit" and code in LOST else "error"
            server = connection.server if connection is not None else 0
            say(what, server, 0, f"{phase[0]} {code} {error.args[1] if len(error.args) > 1 else ''}")
        return code


def order(client, number, hold):
    """One order, which also counts in a total: both or none."""

    def work(connection, phase):
        cursor = connection.cursor()
        cursor.execute("INSERT INTO orders (client, number, server) VALUES (%s, %s, @@server_id)", (client, number))
        time.sleep(hold)
        cursor.execute("INSERT INTO totals VALUES (%s, 1) ON DUPLICATE KEY UPDATE orders = orders + 1", (client,))
        phase[0] = "commit"
        connection.commit()
        say("wrote", connection.server, number)

    return work


def write(client, number, work):
    """Takes effect once, however often it is tried."""
    while (code := attempt(work)) is not None:
        if code == DUPLICATE:
            # An attempt whose end was not known did take place.
            return say("found", 0, number)
        if stopping.is_set():
            return say("left", 0, number)
        time.sleep(PAUSE)


def call(client, number):
    """One order by a procedure whose definer may write to a server that is read only."""

    def work(connection, phase):
        connection.autocommit(True)
        phase[0] = "commit"
        connection.cursor().execute("CALL place_order(%s, %s)", (client, number))
        say("wrote", connection.server, number)
        connection.autocommit(False)

    return work


def writer(client, hold):
    number = 0
    while not stopping.is_set():
        number += 1
        write(client, number, order(client, number, hold))
        time.sleep(PAUSE)


def caller(client):
    number = 0
    while not stopping.is_set():
        number += 1
        write(client, number, call(client, number))
        time.sleep(PAUSE)


def reader(client):
    def work(connection, _):
        cursor = connection.cursor()
        cursor.execute("SELECT SUM(orders) FROM totals")
        cursor.fetchall()
        connection.commit()
        say("read", connection.server)

    while not stopping.is_set():
        attempt(work)
        time.sleep(PAUSE)


def main():
    """The arguments: the number of the first client, how many writers, slow ones, callers of the procedure, readers."""
    first, writers, slow, callers, readers = map(int, sys.argv[1:])
    work = [(writer, (0.0,))] * writers + [(writer, (HOLD,))] * slow + [(caller, ())] * callers + [(reader, ())] * readers
    threads = [
        threading.Thread(target=function, args=(client, *more), name=str(client))
        for client, (function, more) in enumerate(work, first)
    ]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stopping.set()
    for thread in threads:
        thread.join()


main()
