"""PyMySQL, which does not follow."""

import pymysql

import talk


def connect():
    with pymysql.connect(
        host=talk.HOST, port=talk.PORT, user=talk.USER, password=talk.PASSWORD, database=talk.DATABASE
    ) as connection:
        return talk.use(connection)


talk.answer({"connect": connect})
