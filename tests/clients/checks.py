"""What health checks and monitoring see: mariadb-admin, monitoring-plugins, HAProxy and mysqld_exporter.

Each daemon is started for one command, so that its result comes from a new check.
"""

import csv
import os
import socket
import subprocess
import time
import urllib.request

import talk

HOST, PORT = talk.OPTIONS["host"], talk.OPTIONS["port"]
USER, PASSWORD = talk.LOGIN["user"], talk.LOGIN["password"]
SOCKET = os.environ["DB_SOCKET"]
PLUGINS = "/usr/lib/nagios/plugins"
SECONDS = 30
OURS = "instant_failover"


def run(*command):
    """The exit status, and the output of the program."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS)
    return f"exit {done.returncode}: {done.stdout}"


def admin(way, command):
    place = {"tcp": [f"--host={HOST}", f"--port={PORT}"], "socket": [f"--socket={SOCKET}"]}[way]
    login = [f"--user={USER}", f"--password={PASSWORD}"]
    return run("mariadb-admin", "--no-defaults", "--skip-ssl", *login, *place, command)


def nagios(name, *arguments):
    return run(f"{PLUGINS}/{name}", "-H", HOST, "-P", str(PORT), "-u", USER, "-p", PASSWORD, *arguments)


def until(result, process, what):
    """Asks until there is a result."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"{what} exited")
        try:
            found = result()
        except OSError:
            found = None
        if found:
            return found
        time.sleep(0.05)
    raise RuntimeError(f"{what} has no result")


def with_daemon(result, *command):
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            return until(result, process, command[0])
        finally:
            process.terminate()


HAPROXY = """
global
    stats socket unix@haproxy.socket
defaults
    mode tcp
    timeout connect 5s
    timeout client 5s
    timeout server 5s
    timeout check 5s
backend tcp
    server db {server} check
backend without-user
    option mysql-check
    server db {server} check
backend with-user
    option mysql-check user haproxy
    server db {server} check
"""


def haproxy_status():
    """HAProxy's result of the first check of each server."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect("haproxy.socket")
        connection.sendall(b"show stat\n")
        lines = connection.makefile().read().lstrip("# ").splitlines()
    rows = [row for row in csv.DictReader(lines) if row["svname"] == "db"]
    # It is INI before the first check, and starts with a star during a check.
    if any(row["check_status"] in ("", "INI") or row["check_status"].startswith("*") for row in rows):
        return None
    wanted = ("pxname", "status", "check_status", "check_code")
    return ", ".join(" ".join(row[name] for name in wanted).strip() for row in rows)


def haproxy():
    with open("haproxy.cfg", "w") as file:
        file.write(HAPROXY.format(server=f"{HOST}:{PORT}"))
    return with_daemon(haproxy_status, "/usr/sbin/haproxy", "-db", "-f", "haproxy.cfg")


def exporter(user):
    with open("exporter.cnf", "w") as file:
        file.write(f"[client]\nhost={HOST}\nport={PORT}\nuser={user}\npassword={PASSWORD}\n")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*listener.getsockname())

    def metrics():
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=SECONDS) as answer:
            lines = answer.read().decode().splitlines()
        return ", ".join(line for line in lines if line.startswith("mysql_up ") or line[0] != "#" and OURS in line)

    arguments = ["--config.my-cnf=exporter.cnf", f"--web.listen-address={address}"]
    return with_daemon(metrics, "prometheus-mysqld-exporter", *arguments)


talk.answer({"admin": admin, "nagios": nagios, "haproxy": haproxy, "exporter": exporter})
