"""PyMySQL, which does not follow."""

import pymysql

import talk

TLS = {"ssl_disabled": True}
if talk.AUTHORITY:
    TLS = {"ssl_ca": talk.AUTHORITY, "ssl_verify_cert": True, "ssl_verify_identity": True}


def connect():
    with pymysql.connect(**talk.OPTIONS, **TLS) as connection:
        return talk.use(connection)


talk.answer({"connect": connect})
