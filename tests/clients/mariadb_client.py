"""MariaDB Connector/Python, which follows: Connector/C takes the URL in `host`. This client always names a directory of
plugins itself, so that MARIADB_PLUGIN_DIR alone is of no use: `plugin_dir` must be given."""

import os

import mariadb

import talk

OPTIONS = {
    "host": talk.HOST,
    "port": talk.PORT,
    "user": talk.USER,
    "password": talk.PASSWORD,
    "database": talk.DATABASE,
    "plugin_dir": os.environ["MARIADB_PLUGIN_DIR"],
}


def connect():
    connection = mariadb.connect(**OPTIONS)
    try:
        return talk.use(connection, prepared=True)
    finally:
        connection.close()


talk.answer({"connect": connect})
