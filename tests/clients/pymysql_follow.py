"""The helper for PyMySQL in `clients/`."""

import os
import sys

import talk

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../clients/python"))
import pymysql_follow  # noqa: E402


def connect(host, port, authority, init):
    """The file of the authority is `-` for no TLS, the initial statement `-` for none."""
    tls = {"ssl_disabled": True}
    if authority != "-":
        tls = {"ssl_ca": authority, "ssl_verify_cert": True, "ssl_verify_identity": True}
    if init != "-":
        tls["init_command"] = init
    with pymysql_follow.connect(host=host, port=int(port), **talk.LOGIN, **tls) as connection:
        names = talk.use(connection)
        with connection.cursor() as cursor:
            cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
            return names + (" tls" if cursor.fetchone()[1] else " plain")


def target(message):
    """Where the helper would go, for the bytes of a message in hexadecimal."""
    error = pymysql_follow.pymysql.OperationalError(4196, bytes.fromhex(message).decode("utf-8", "replace"))
    found = pymysql_follow.target_of(error)
    return "{} {}".format(*found) if found else "none"


talk.answer({"connect": connect, "target": target})
