--TEST--
Who may redirect: instant_failover.follow and INSTANT_FAILOVER_FOLLOW
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
$asks_without_tls = [PDO::MYSQL_ATTR_SSL_VERIFY_SERVER_CERT => true];

redirect('127.0.0.1:' . DB2);
administer("SET GLOBAL instant_failover_message = 'Gone.'");
foreach (['never', '0', 'Verified', 'AUTO', '1', 'always', 'sometimes', ''] as $follow) {
    ini_set('instant_failover.follow', $follow);
    echo "-- '$follow'\n";
    foreach ([[], $asks_without_tls, $require, $verify] as $options) {
        echo land(fn () => pdo(DB1, $options)), "\n";
    }
}
ini_restore('instant_failover.follow');

echo "-- environment\n";
foreach (['never', 'verified', 'sometimes', ''] as $follow) {
    putenv("INSTANT_FAILOVER_FOLLOW=$follow");
    echo land(fn () => pdo(DB1)), "\n";
}
putenv('INSTANT_FAILOVER_FOLLOW=never');
ini_set('instant_failover.follow', 'auto');
echo land(fn () => pdo(DB1)), "\n";
ini_restore('instant_failover.follow');
putenv('INSTANT_FAILOVER_FOLLOW');

echo "-- a long message keeps its target\n";
administer("SET GLOBAL instant_failover_message = '" . str_repeat('x', 470) . "'");
ini_set('instant_failover.follow', 'verified');
echo land(fn () => pdo(DB1)), "\n";
administer("SET GLOBAL instant_failover_message = 'Gone.'");

echo "-- a handle that was connected with TLS before, and is not now\n";
stop_redirecting();
$mysqli = mysqli_init();
$connect = function () use ($mysqli): mysqli {
    $mysqli->real_connect(HOST, 'app', 'secret', 'shop', DB1);
    return $mysqli;
};
$mysqli->ssl_set(null, null, file_of('ca.pem'), null, null);
echo land($connect), "\n";
redirect('127.0.0.1:' . DB2);
echo land($connect), "\n";
administer('SET GLOBAL instant_failover_message = DEFAULT');
?>
--EXPECTF--
-- 'never'
error 4196: SQLSTATE[HY000] [4196] |Gone.|127.0.0.1:db2
error 4196: SQLSTATE[HY000] [4196] |Gone.|127.0.0.1:db2
error 4196: SQLSTATE[HY000] [4196] |Gone.|127.0.0.1:db2
error 4196: SQLSTATE[HY000] [4196] |Gone.|127.0.0.1:db2
-- '0'
error 4196: SQLSTATE[HY000] [4196] |Gone.|127.0.0.1:db2
error 4196: SQLSTATE[HY000] [4196] |Gone.|127.0.0.1:db2
error 4196: SQLSTATE[HY000] [4196] |Gone.|127.0.0.1:db2
error 4196: SQLSTATE[HY000] [4196] |Gone.|127.0.0.1:db2
-- 'Verified'
error 4196: SQLSTATE[HY000] [4196] |Gone.|127.0.0.1:db2 (not followed: the connection has no TLS (instant_failover.follow=verified); set the CA (PDO::MYSQL_ATTR_SSL_CA, mysqli::ssl_set), or instant_failover.follow=always)
error 4196: SQLSTATE[HY000] [4196] |Gone.|127.0.0.1:db2 (not followed: the connection has no TLS (instant_failover.follow=verified); set the CA (PDO::MYSQL_ATTR_SSL_CA, mysqli::ssl_set), or instant_failover.follow=always)
error 4196: SQLSTATE[HY000] [4196] |Gone.|127.0.0.1:db2 (not followed: the server's certificate is not verified (instant_failover.follow=verified); set the CA (PDO::MYSQL_ATTR_SSL_CA, mysqli::ssl_set), or instant_failover.follow=always)
db2
-- 'AUTO'
db2
error 4196: SQLSTATE[HY000] [4196] |Gone.|127.0.0.1:db2 (not followed: the connection has no TLS (instant_failover.follow=auto); set the CA (PDO::MYSQL_ATTR_SSL_CA, mysqli::ssl_set), or instant_failover.follow=always)
db2
db2
-- '1'
db2
error 4196: SQLSTATE[HY000] [4196] |Gone.|127.0.0.1:db2 (not followed: the connection has no TLS (instant_failover.follow=auto); set the CA (PDO::MYSQL_ATTR_SSL_CA, mysqli::ssl_set), or instant_failover.follow=always)
db2
db2
-- 'always'
db2
db2
db2
db2
-- 'sometimes'
error 4196: SQLSTATE[HY000] [4196] |Gone.|127.0.0.1:db2 (not followed: instant_failover.follow is 'sometimes'; give never, verified, auto or always)
error 4196: SQLSTATE[HY000] [4196] |Gone.|127.0.0.1:db2 (not followed: instant_failover.follow is 'sometimes'; give never, verified, auto or always)
error 4196: SQLSTATE[HY000] [4196] |Gone.|127.0.0.1:db2 (not followed: instant_failover.follow is 'sometimes'; give never, verified, auto or always)
error 4196: SQLSTATE[HY000] [4196] |Gone.|127.0.0.1:db2 (not followed: instant_failover.follow is 'sometimes'; give never, verified, auto or always)
-- ''
error 4196: SQLSTATE[HY000] [4196] |Gone.|127.0.0.1:db2 (not followed: instant_failover.follow is ''; give never, verified, auto or always)
error 4196: SQLSTATE[HY000] [4196] |Gone.|127.0.0.1:db2 (not followed: instant_failover.follow is ''; give never, verified, auto or always)
error 4196: SQLSTATE[HY000] [4196] |Gone.|127.0.0.1:db2 (not followed: instant_failover.follow is ''; give never, verified, auto or always)
error 4196: SQLSTATE[HY000] [4196] |Gone.|127.0.0.1:db2 (not followed: instant_failover.follow is ''; give never, verified, auto or always)
-- environment
error 4196: SQLSTATE[HY000] [4196] |Gone.|127.0.0.1:db2
error 4196: SQLSTATE[HY000] [4196] |Gone.|127.0.0.1:db2 (not followed: the connection has no TLS (INSTANT_FAILOVER_FOLLOW=verified); set the CA (PDO::MYSQL_ATTR_SSL_CA, mysqli::ssl_set), or INSTANT_FAILOVER_FOLLOW=always)
error 4196: SQLSTATE[HY000] [4196] |Gone.|127.0.0.1:db2 (not followed: INSTANT_FAILOVER_FOLLOW is 'sometimes'; give never, verified, auto or always)
db2
db2
-- a long message keeps its target
error 4196: SQLSTATE[HY000] [4196] |%rx+%r...|127.0.0.1:db2 (not followed: the connection has no TLS (instant_failover.follow=verified); set the CA (PDO::MYSQL_ATTR_SSL_CA, mysqli::ssl_set), or instant_failover.follow=always)
-- a handle that was connected with TLS before, and is not now
db1
error 4196: |Gone.|127.0.0.1:db2 (not followed: the connection has no TLS (instant_failover.follow=verified); set the CA (PDO::MYSQL_ATTR_SSL_CA, mysqli::ssl_set), or instant_failover.follow=always)
