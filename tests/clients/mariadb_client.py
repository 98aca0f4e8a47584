"""MariaDB Connector/Python, which follows: Connector/C takes the URL in `host`. This client always sets a plugin directory
itself, so MARIADB_PLUGIN_DIR alone has no effect: `plugin_dir` must be given."""

import os

import mariadb

import talk

TLS = {"ssl_ca": talk.AUTHORITY, "ssl_verify_cert": True} if talk.AUTHORITY else {}


def connect():
    connection = mariadb.connect(**talk.OPTIONS, **TLS, plugin_dir=os.environ["MARIADB_PLUGIN_DIR"])
    try:
        return talk.use(connection, prepared=True)
    finally:
        connection.close()


talk.answer({"connect": connect})
