"""The backend of Django."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import servers

if TYPE_CHECKING:
    from servers import Process

SETTINGS = """
import sys
import warnings

import django
from django.conf import settings

settings.configure(
    DATABASES={{"default": {{"ENGINE": "instant_failover.django", "NAME": "shop", "USER": "app", "PASSWORD": "s3cret",
               "HOST": "localhost", "PORT": "{port}", "CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True,
               "OPTIONS": {options}}}}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()
from django.db import connection, OperationalError
"""


def command(server: Process, script: str, options: dict[str, Any] | None = None) -> list[str]:
    """Return the command of a program that uses Django."""
    program = SETTINGS.format(port=server.port, options=options or {}) + textwrap.dedent(script)
    return [sys.executable, "-W", "error::ResourceWarning", "-c", program]


def run(server: Process, script: str, options: dict[str, Any] | None = None) -> list[str]:
    """Run such a program, and return what it prints."""
    ended = subprocess.run(command(server, script, options), capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "ResourceWarning" not in ended.stderr
    return ended.stdout.splitlines()


def test_migrations_and_models(db1: Process, db2: Process) -> None:
    db1.redirect(db2.target)
    script = """
        from django.core.management import call_command
        from django.contrib.auth.models import Group
        from django.db import transaction, IntegrityError
        call_command("migrate", verbosity=0)
        Group.objects.all().delete()
        with transaction.atomic():
            Group.objects.create(name="caf\u00e9")
        print(list(Group.objects.filter(name__startswith="caf").values_list("name", flat=True)))
        try:
            Group.objects.create(name="caf\u00e9")
        except IntegrityError as error:
            print(error.args[0])
        print(connection.vendor, connection.display_name)
        connection.close()
    """
    assert run(db1, script) == ["['caf\u00e9']", "1062", "mysql MariaDB"]
    assert db2.sql(f"SELECT COUNT(*) FROM {servers.DATABASE}.auth_group") == 1


def test_requests_through_a_switch(db1: Process, db2: Process) -> None:
    program = """
        from django.db import close_old_connections
        for line in sys.stdin:
            close_old_connections()
            with connection.cursor() as cursor:
                cursor.execute("SELECT @@port")
                print(cursor.fetchone()[0], flush=True)
            close_old_connections()
        connection.close()
    """
    with subprocess.Popen(command(db1, program), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as django:
        assert django.stdin
        assert django.stdout

        def request() -> int:
            assert django.stdin
            assert django.stdout
            print(file=django.stdin, flush=True)
            return int(django.stdout.readline())

        assert request() == db1.port
        db1.redirect(db2.target)
        assert request() == db1.port
        db1.drain()
        assert request() == db2.port
        db1.off()
        assert request() == db2.port
        db2.sql(f"KILL USER {servers.USER}")
        assert request() == db1.port
        django.stdin.close()
        assert django.wait(servers.PATIENCE) == 0


def test_who_may_redirect(db1: Process, db2: Process) -> None:
    db1.redirect(db2.target)
    script = """
        try:
            connection.ensure_connection()
        except OperationalError as error:
            print(error.args[0], error.args[1])
    """
    (line,) = run(db1, script, {"instant_failover_follow": "verified"})
    assert line.startswith("4196 |")
    assert line.endswith("set ssl_ca and ssl_verify_identity=True, or instant_failover_follow=always)")


def test_beside_mysqlclient() -> None:
    program = (
        "import sys, types; sys.modules['MySQLdb'] = types.ModuleType('MySQLdb'); import instant_failover.django.base"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert "ImproperlyConfigured: instant_failover.django uses PyMySQL, but mysqlclient (MySQLdb) is" in ended.stderr
