"""PyMySQL, which does not follow."""

import pymysql

import talk


def connect():
    with pymysql.connect(**talk.OPTIONS) as connection:
        return talk.use(connection)


talk.answer({"connect": connect})
