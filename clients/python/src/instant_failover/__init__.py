"""MySQL drivers that follow the instant failover of MariaDB.

A server that is switched over answers a login with error 4196 and the address of another server. The modules of this
package connect there, with everything that the program asked for:

- `instant_failover.pymysql`, `instant_failover.asyncmy` and `instant_failover.aiomysql` take the place of the driver;
- `instant_failover.sqlalchemy` is the plugin behind `?plugin=instant_failover` in the URL of an engine;
- `instant_failover.django` is a value of `ENGINE`.
"""
