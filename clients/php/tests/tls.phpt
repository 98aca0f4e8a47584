--TEST--
TLS: CA, certificate and key are those of the program on every hop, and each server is checked by its own name
--EXTENSIONS--
mysqlnd
pdo
pdo_mysql
mysqli
--FILE--
<?php
require 'servers.inc';

const TLS = "SELECT IF(VARIABLE_VALUE = '', 'no TLS', 'TLS') FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'Ssl_cipher'";
$verify = [PDO::MYSQL_ATTR_SSL_CA => file_of('ca.pem')];
$require = $verify + [PDO::MYSQL_ATTR_SSL_VERIFY_SERVER_CERT => false];
$certificate = $verify + [PDO::MYSQL_ATTR_SSL_CERT => file_of('client.pem'), PDO::MYSQL_ATTR_SSL_KEY => file_of('client.key')];

redirect('localhost:' . DB2);
echo land(fn () => pdo(DB1, $require)), "\n";
echo land(fn () => pdo(DB1, $verify)), "\n";
echo pdo(DB1, $verify)->query(TLS)->fetchColumn(), "\n";
echo pdo(DB1)->query(TLS)->fetchColumn(), "\n";

// An account that requires the client's certificate.
echo land(fn () => pdo(DB1, $certificate, user: 'careful')), "\n";
echo land(fn () => pdo(DB1, $certificate + [PDO::ATTR_PERSISTENT => true], user: 'careful')), "\n";
$mysqli = mysqli_init();
$mysqli->ssl_set(file_of('client.key'), file_of('client.pem'), file_of('ca.pem'), null, null);
$mysqli->real_connect(HOST, 'careful', 'secret', 'shop', DB1);
echo implode(' ', $mysqli->query('SELECT @@port = ' . DB2)->fetch_row()), "\n";

// Two hops.
redirect('127.0.0.1:' . STANDIN);
echo land(fn () => pdo(DB1, $certificate, user: 'careful')), "\n";

// The target has a certificate for another name.
redirect('127.0.0.1:' . STRANGER);
echo land(fn () => @pdo(DB1, $verify)), "\n";
echo land(fn () => pdo(DB1, $require)), "\n";
?>
--EXPECTF--
db2
db2
TLS
no TLS
db2
db2
1
db2
error 2002: SQLSTATE[HY000] [2002] Cannot connect to MySQL using SSL (redirected: 127.0.0.1:db1 -> 127.0.0.1:base+3)
db2
