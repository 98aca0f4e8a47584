"""How the Python clients talk with `cargo xtask clients`: a command a line in, an answer a line out."""

import os
import sys

# What every client but ODBC's calls by these names.
LOGIN = {"user": os.environ["DB_USER"], "password": os.environ["DB_PASSWORD"], "database": os.environ["DB_NAME"]}
OPTIONS = {"host": os.environ["DB_HOST"], "port": int(os.environ["DB_PORT"]), **LOGIN}
QUERY = "SELECT name FROM this_server"


def use(connection, placeholder="%s", **prepared):
    """Runs three statements, and returns the server's name as each saw it. The one in the middle has a parameter; the
    options in `prepared` make a cursor that prepares it."""
    names = []
    for options, condition in [({}, []), (prepared, [f" WHERE 1 = {placeholder}", (1,)]), ({}, [])]:
        cursor = connection.cursor(**options)
        cursor.execute(QUERY + "".join(condition[:1]), *condition[1:])
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
