--TEST--
mysqli follows; a handle that connects again begins at the first server
--EXTENSIONS--
mysqlnd
pdo
pdo_mysql
mysqli
--FILE--
<?php
require 'servers.inc';

redirect('127.0.0.1:' . DB2);
echo land(fn () => mysqli_to(DB1)), "\n";

$mysqli = mysqli_init();
$mysqli->options(MYSQLI_INIT_COMMAND, 'SET @said = "once"');
$mysqli->options(MYSQLI_OPT_CONNECT_TIMEOUT, 5);
$mysqli->options(MYSQLI_SET_CHARSET_NAME, 'latin1');
$connect = function () use ($mysqli): mysqli {
    $mysqli->real_connect(HOST, 'app', 'secret', 'shop', DB1, null, MYSQLI_CLIENT_FOUND_ROWS);
    return $mysqli;
};
echo land($connect), "\n";
echo implode(' ', $mysqli->query('SELECT @said, DATABASE(), @@character_set_client')->fetch_row()), "\n";
stop_redirecting();
echo land($connect), "\n";
redirect('localhost:' . DB2);
echo land($connect), "\n";
$mysqli->close();

mysqli_report(MYSQLI_REPORT_OFF);
var_dump(@mysqli_connect(HOST, 'app', 'wrong', 'shop', DB1), mysqli_connect_errno());
echo show(mysqli_connect_error()), "\n";
?>
--EXPECT--
db2
db2
once shop latin1
db1
db2
bool(false)
int(1045)
Access denied for user 'app'@'localhost' (using password: YES) (redirected: 127.0.0.1:db1 -> localhost:db2)
