--TEST--
PDO follows, with everything that the program asked for, and begins at the first server each time
--EXTENSIONS--
mysqlnd
pdo
pdo_mysql
mysqli
--FILE--
<?php
require 'servers.inc';

echo land(fn () => pdo(DB1)), "\n";
redirect('127.0.0.1:' . DB2);
echo land(fn () => pdo(DB1)), "\n";

$options = [
    PDO::MYSQL_ATTR_INIT_COMMAND => 'SET @said = "once"',
    PDO::MYSQL_ATTR_COMPRESS => true,
    PDO::ATTR_EMULATE_PREPARES => false,
    PDO::ATTR_TIMEOUT => 5,
];
$pdo = pdo(DB1, $options);
$statement = $pdo->prepare('SELECT @@port = ?, @said, DATABASE(), CURRENT_USER(), @@character_set_client, CONNECTION_ID() > 0');
$statement->execute([DB2]);
echo implode(' ', $statement->fetch(PDO::FETCH_NUM)), "\n";
echo $pdo->query("SHOW SESSION STATUS LIKE 'Compression'")->fetchColumn(1), "\n";

echo land(fn () => pdo(DB1, password: 'wrong')), "\n";
echo land(fn () => pdo(DB2, password: 'wrong')), "\n";
stop_redirecting();
echo land(fn () => pdo(DB1)), "\n";
echo land(fn () => pdo(STANDIN)), "\n";
?>
--EXPECT--
db1
db2
1 once shop app@% utf8mb4 1
ON
error 1045: SQLSTATE[HY000] [1045] Access denied for user 'app'@'localhost' (using password: YES) (redirected: 127.0.0.1:db1 -> 127.0.0.1:db2)
error 1045: SQLSTATE[HY000] [1045] Access denied for user 'app'@'localhost' (using password: YES)
db1
db2
