--TEST--
"localhost" as a target is reached over TCP, and a program that connects by the socket is not redirected
--EXTENSIONS--
mysqlnd
pdo
pdo_mysql
mysqli
--FILE--
<?php
require 'servers.inc';

// What "localhost" means to the program itself: the socket of db1.
ini_set('mysqli.default_socket', file_of('db1.sock'));
redirect('localhost:' . DB2);
echo land(fn () => mysqli_to(DB1, 'localhost')), "\n";
echo land(fn () => mysqli_to(DB1)), "\n";
echo land(fn () => pdo(DB1)), "\n";
echo land(fn () => new PDO('mysql:unix_socket=' . file_of('db1.sock'), 'app', 'secret')), "\n";

// Mode ALL redirects those, too.
administer('SET GLOBAL instant_failover_exempt_users = "root", instant_failover_mode = ALL');
echo land(fn () => mysqli_to(DB1, 'localhost')), "\n";
echo land(fn () => mysqli_to(DB1, 'localhost', password: 'wrong')), "\n";
administer('SET GLOBAL instant_failover_exempt_users = DEFAULT');
?>
--EXPECTF--
db1
db2
db2
db1
db2
error 1045: Access denied for user 'app'@'localhost' (using password: YES) (redirected: %sdb1.sock -> localhost:db2)
