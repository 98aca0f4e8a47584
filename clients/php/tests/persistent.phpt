--TEST--
Persistent connections: each new one begins at the first server
--EXTENSIONS--
mysqlnd
pdo
pdo_mysql
mysqli
--INI--
mysqli.allow_persistent=1
--FILE--
<?php
require 'servers.inc';

function pool(): PDO
{
    return pdo(DB1, [PDO::ATTR_PERSISTENT => true]);
}
function number(PDO $pdo): int
{
    return (int) $pdo->query('SELECT CONNECTION_ID()')->fetchColumn();
}

redirect('127.0.0.1:' . DB2);
echo land(pool(...)), "\n";
$first = number(pool());
var_dump(number(pool()) === $first);
stop_redirecting();
// It is open, so it stays.
echo land(pool(...)), "\n";
administer("KILL $first", 'db2');
echo land(pool(...)), "\n";

$on_db1 = number(pool());
redirect('127.0.0.1:' . DB2);
administer("KILL $on_db1");
echo land(pool(...)), "\n";

// mysqli logs in again on the connection that it takes from the pool. db1 redirects that, so it opens another.
stop_redirecting();
$pool = fn () => mysqli_to(DB1, 'p:' . HOST);
echo land($pool), "\n";
redirect('127.0.0.1:' . DB2);
echo land($pool), "\n";
echo land($pool), "\n";
?>
--EXPECT--
db2
bool(true)
db2
db1
db2
db1
db2
db2
