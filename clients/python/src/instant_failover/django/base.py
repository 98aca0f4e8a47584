"""Django's backend for MySQL and MariaDB, with PyMySQL, that follows.

Who may redirect the program: `"OPTIONS": {"instant_failover_follow": "verified"}`.
"""

from __future__ import annotations

import sys
from typing import Any

import pymysql
from django.core.exceptions import ImproperlyConfigured
from django.utils.asyncio import async_unsafe

import instant_failover.pymysql as following

if sys.modules.get("MySQLdb", pymysql) is not pymysql:
    _PROBLEM = (
        "instant_failover.django uses PyMySQL, but mysqlclient (MySQLdb) is already loaded by another database of this "
        "project: give all of them the ENGINE instant_failover.django"
    )
    raise ImproperlyConfigured(_PROBLEM)
pymysql.install_as_MySQLdb()

try:
    from django.db.backends.mysql import base
except ImproperlyConfigured as error:
    _PROBLEM = f"{error} (This is PyMySQL {pymysql.VERSION_STRING} in the place of mysqlclient: upgrade PyMySQL.)"
    raise ImproperlyConfigured(_PROBLEM) from error


class DatabaseWrapper(base.DatabaseWrapper):  # type: ignore[misc]
    """A database whose connections go where the server sends them."""

    @async_unsafe  # type: ignore[untyped-decorator]
    def get_new_connection(self, conn_params: dict[str, Any]) -> following.Connection:
        """Connect as Django does, and follow."""
        return following.connect(**conn_params)
