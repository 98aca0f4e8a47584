--TEST--
A target that never answers: mysqlnd's own timeout, and the servers on the way
--EXTENSIONS--
mysqlnd
pdo
pdo_mysql
mysqli
--INI--
mysqlnd.net_read_timeout=2
--FILE--
<?php
require 'servers.inc';

redirect('127.0.0.1:' . SILENT);
echo land(fn () => @pdo(DB1)), "\n";
echo land(fn () => @mysqli_to(DB1)), "\n";
?>
--EXPECT--
error 2006: SQLSTATE[HY000] [2006] MySQL server has gone away (redirected: 127.0.0.1:db1 -> 127.0.0.1:base+13)
error 2006: MySQL server has gone away (redirected: 127.0.0.1:db1 -> 127.0.0.1:base+13)
