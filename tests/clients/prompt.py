"""`mariadb` at a terminal, with its prompt. The answer to a command is the output until the next prompt."""

import os
import pty
import re
import select

import talk

PROMPT = re.compile(r"\S+@\S+ \[[^\]]*\]> $")
TLS = ["--skip-ssl"]
if talk.AUTHORITY:
    TLS = [f"--ssl-ca={talk.AUTHORITY}", "--ssl-verify-server-cert"]
ARGUMENTS = ["--host={host}", "--port={port}", "--user={user}", "--password={password}"]


def start():
    global process, terminal
    process, terminal = pty.fork()
    if process == 0:
        os.environ.update(TERM="dumb", MYSQL_HISTFILE="/dev/null")
        options = [argument.format(**talk.OPTIONS) for argument in ARGUMENTS]
        os.execvp("mariadb", ["mariadb", "--no-defaults", *TLS, *options, r"--prompt=\u@\h [\d]> "])
    return shown()


def enter(line):
    os.write(terminal, line.encode() + b"\r")
    return shown()


def shown():
    text = ""
    while not PROMPT.search(text):
        if not select.select([terminal], [], [], 10)[0]:
            raise TimeoutError(f"no prompt after '{text}'")
        try:
            text += os.read(terminal, 65536).decode()
        except OSError:  # it has ended
            os.waitpid(process, 0)
            break
    return text


talk.answer({"start": start, "enter": enter})
