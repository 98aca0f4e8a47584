"""mysqlclient (MySQLdb), which follows: Connector/C takes the URL in `host`."""

import MySQLdb

import talk

TLS = {"ssl": {"ca": talk.AUTHORITY}, "ssl_mode": "VERIFY_IDENTITY"} if talk.AUTHORITY else {}


def connect():
    connection = MySQLdb.connect(**talk.OPTIONS, **TLS)
    try:
        return prepared(connection)
    finally:
        connection.close()


def prepared(connection):
    """MySQLdb has no prepared statements; SQL has."""
    plain = [talk.QUERY]
    middle = [f"PREPARE statement FROM '{talk.QUERY} {talk.CONDITION}'", "SET @one = 1", "EXECUTE statement USING @one"]
    names = []
    for statements in [plain, middle if talk.CONDITION else plain, plain]:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        names += [row[0] for row in cursor.fetchall()]
        cursor.close()
    return " ".join(names)


talk.answer({"connect": connect})
