"""MariaDB Connector/ODBC under unixODBC, which follows: Connector/C takes the URL in SERVER."""

import glob

import pyodbc

import talk

TLS = f";SSLCA={talk.AUTHORITY};SSLVERIFY=1" if talk.AUTHORITY else ""
(DRIVER,) = glob.glob("/usr/lib/*/odbc/libmaodbc.so")


def connect():
    connection = pyodbc.connect(
        f"DRIVER={DRIVER};"
        + "SERVER={host};PORT={port};UID={user};PWD={password};DATABASE={database}".format(**talk.OPTIONS)
        + TLS
    )
    try:
        # pyodbc prepares each statement that has parameters.
        return talk.use(connection, placeholder="?")
    finally:
        connection.close()


talk.answer({"connect": connect})
