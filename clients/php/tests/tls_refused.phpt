--TEST--
With TLS, nothing is followed that came before it, and nothing is sent to a server without it
--EXTENSIONS--
mysqlnd
pdo
pdo_mysql
mysqli
--FILE--
<?php
require 'servers.inc';

$verify = [PDO::MYSQL_ATTR_SSL_CA => file_of('ca.pem')];
$require = $verify + [PDO::MYSQL_ATTR_SSL_VERIFY_SERVER_CERT => false];

foreach ([BEFORE_GREETING, INSTEAD_OF_TLS] as $port) {
    foreach ([[], $require, $verify] as $options) {
        foreach (['auto', 'always'] as $follow) {
            ini_set('instant_failover.follow', $follow);
            echo land(fn () => @pdo($port, $options)), "\n";
        }
    }
}

stop_redirecting();
foreach ([$require, $verify] as $options) {
    foreach (['auto', 'verified', 'always'] as $follow) {
        ini_set('instant_failover.follow', $follow);
        echo land(fn () => pdo(BEHIND_GREETING, $options)), "\n";
    }
}

foreach ([$require, $verify] as $options) {
    redirect('127.0.0.1:' . WITHOUT_TLS);
    echo land(fn () => pdo(DB1, $options + [PDO::MYSQL_ATTR_INIT_COMMAND => "SET @secret = 'x'"])), "\n";
}
usleep(200000);
var_dump(@file_get_contents(file_of('recorded')) ?: 'nothing was sent');
?>
--EXPECTF--
error 4196: SQLSTATE[HY000] [4196] |Go there.|127.0.0.1:db2
error 4196: SQLSTATE[HY000] [4196] |Go there.|127.0.0.1:db2
error 4196: SQLSTATE[HY000] [4196] |Go there.|127.0.0.1:db2
error 4196: SQLSTATE[HY000] [4196] |Go there.|127.0.0.1:db2
error 4196: SQLSTATE[HY000] [4196] |Go there.|127.0.0.1:db2
error 4196: SQLSTATE[HY000] [4196] |Go there.|127.0.0.1:db2
db2
db2
error 2002: SQLSTATE[HY000] [2002] Cannot connect to MySQL using SSL
error 2002: SQLSTATE[HY000] [2002] Cannot connect to MySQL using SSL
error 2002: SQLSTATE[HY000] [2002] Cannot connect to MySQL using SSL
error 2002: SQLSTATE[HY000] [2002] Cannot connect to MySQL using SSL
error 4196: SQLSTATE[HY000] [4196] |Go there.|127.0.0.1:db2
error 4196: SQLSTATE[HY000] [4196] |Go there.|127.0.0.1:db2
error 4196: SQLSTATE[HY000] [4196] |Go there.|127.0.0.1:db2
error 4196: SQLSTATE[HY000] [4196] |Go there.|127.0.0.1:db2
error 4196: SQLSTATE[HY000] [4196] |Go there.|127.0.0.1:db2
error 4196: SQLSTATE[HY000] [4196] |Go there.|127.0.0.1:db2
error 2026: SQLSTATE[HY000] [2026] SSL connection error: redirected from a server with TLS to one without; disable TLS to allow this (redirected: 127.0.0.1:db1 -> 127.0.0.1:base+14)
error 2026: SQLSTATE[HY000] [2026] SSL connection error: redirected from a server with TLS to one without; disable TLS to allow this (redirected: 127.0.0.1:db1 -> 127.0.0.1:base+14)
string(16) "nothing was sent"
