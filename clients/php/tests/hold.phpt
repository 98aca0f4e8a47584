--TEST--
A login that is held waits, and goes where the server then sends it
--EXTENSIONS--
mysqlnd
pdo
pdo_mysql
mysqli
--FILE--
<?php
require 'servers.inc';

administer("SET GLOBAL instant_failover_target = '127.0.0.1:" . DB2 . "', instant_failover_hold_timeout = 60, instant_failover_mode = HOLD");
administer('CREATE EVENT shop.switch ON SCHEDULE AT NOW() + INTERVAL 2 SECOND DO SET GLOBAL instant_failover_mode = ON');
$begin = microtime(true);
echo land(fn () => pdo(DB1, [PDO::MYSQL_ATTR_SSL_CA => file_of('ca.pem')])), "\n";
var_dump(microtime(true) - $begin > 0.9);
administer('DROP EVENT IF EXISTS shop.switch');
?>
--EXPECT--
db2
bool(true)
