"""mysqlclient (MySQLdb), which follows: Connector/C takes the URL in `host`."""

import MySQLdb

import talk


def connect():
    connection = MySQLdb.connect(**talk.OPTIONS)
    try:
        return prepared(connection)
    finally:
        connection.close()


def prepared(connection):
    """MySQLdb prepares nothing by itself; SQL does."""
    names = []
    for statements in [
        [talk.QUERY],
        [f"PREPARE statement FROM '{talk.QUERY} WHERE 1 = ?'", "SET @one = 1", "EXECUTE statement USING @one"],
        [talk.QUERY],
    ]:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        names += [row[0] for row in cursor.fetchall()]
        cursor.close()
    return " ".join(names)


talk.answer({"connect": connect})
