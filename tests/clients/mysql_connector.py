"""MySQL's Connector/Python, in C or in pure Python, which does not follow."""

import sys

import mysql.connector
from mysql.connector.pooling import MySQLConnectionPool

import talk

TLS = {"ssl_disabled": True}
if talk.AUTHORITY:
    TLS = {"ssl_ca": talk.AUTHORITY, "ssl_verify_cert": True, "ssl_verify_identity": True}
OPTIONS = {
    **talk.OPTIONS,
    **TLS,
    "use_pure": sys.argv[1] == "pure",
    # MariaDB 10.11 lacks the collation this client would ask for.
    "charset": "utf8mb4",
    "collation": "utf8mb4_general_ci",
}
pools = []


def connect():
    with mysql.connector.connect(**OPTIONS) as connection:
        return talk.use(connection, prepared=True)


def pool():
    """The pool connects when it is created; if that fails, there is no pool yet."""
    if not pools:
        pools.append(MySQLConnectionPool(pool_name="pool", pool_size=2, **OPTIONS))
    with pools[0].get_connection() as connection:
        return talk.use(connection, prepared=True)


def host_list(*addresses):
    """Without priorities it would take the servers in random order."""
    servers = []
    for address in addresses:
        host, port = address.split(":")
        servers.append({"host": host, "port": int(port), "priority": 100 - len(servers)})
    options = {name: value for name, value in OPTIONS.items() if name not in ("host", "port")}
    with mysql.connector.connect(**options, failover=servers) as connection:
        return talk.use(connection, prepared=True)


talk.answer({"connect": connect, "pool": pool, "list": host_list})
