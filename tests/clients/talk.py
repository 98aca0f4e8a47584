"""The protocol between the Python clients and `cargo xtask clients`: one command per line in, one answer per line out."""

import os
import sys

# What every client but ODBC's calls by these names.
LOGIN = {"user": os.environ["DB_USER"], "password": os.environ["DB_PASSWORD"], "database": os.environ["DB_NAME"]}
OPTIONS = {"host": os.environ["DB_HOST"], "port": int(os.environ["DB_PORT"]), **LOGIN}
# The file of the authority, for TLS.
AUTHORITY = os.environ.get("DB_AUTHORITY")
QUERY = os.environ["DB_QUERY"]
# What follows the query when it is prepared; nothing for a server that prepares nothing.
CONDITION = os.environ.get("DB_CONDITION")


def use(connection, placeholder="%s", **prepared):
    """Runs three statements, and returns the server's name as each saw it. The one in the middle has a parameter, if the
    server prepares statements; the options in `prepared` make a cursor that prepares it."""
    plain = ({}, QUERY, [])
    middle = (prepared, f"{QUERY} {CONDITION}".replace("?", placeholder), [(1,)]) if CONDITION else plain
    names = []
    for options, statement, parameters in [plain, middle, plain]:
        cursor = connection.cursor(**options)
        cursor.execute(statement, *parameters)
        names += [row[0] for row in cursor.fetchall()]
        cursor.close()
    return " ".join(names)


def answer(commands):
    """Carries out commands, given by name as functions of the line's other words, until there are no more."""
    for line in sys.stdin:
        name, *words = line.rstrip("\n").split("\t")
        try:
            text = "ok " + commands[name](*words)
        except Exception as error:  # every error is an answer
            number, message = (*error.args, "")[:2] if len(error.args) > 1 else (getattr(error, "errno", 0), str(error))
            text = f"error {number} {message}"
        print(" ".join(text.split()), flush=True)
