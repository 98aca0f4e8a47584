--TEST--
Messages that are no redirect, or not a valid one
--EXTENSIONS--
mysqlnd
pdo
pdo_mysql
mysqli
--FILE--
<?php
require 'servers.inc';

$db2 = HOST . ':' . DB2;
foreach ([
    "say:||$db2", "say:|a|b|$db2", 'say:text', "say:|$db2", 'say:|a|', 'say:|a|db 2', 'say:|a|0.0.0.0', 'say:|a|[::ffff:224.0.0.1]',
    "say:|a|$db2\n", 'say:|a|db2:99999', 'say:|a|::1', 'say:|a|mysql://db2', 'say:|a|' . str_repeat('x', 200),
    'say:|%s%n|%n%s%d', "say:|a|\xff\xfe", 'huge:400', 'huge:600', 'huge:3000', 'huge:300000',
    'raw:ff', 'raw:ff6410', 'raw:ff641023', 'raw:ff641023485930303', 'raw:ff6410234859303030', 'raw:ff6410' . bin2hex('|a|db 2'), 'raw:',
    // |a|db2 and a NUL; 4200 instead of 4196; 4196 with the state of another error
    'raw:ff64102348593030307c617c64623200', 'raw:ff6810234859303030' . bin2hex("|a|$db2"), 'raw:ff6410233432303030' . bin2hex("|a|$db2"),
    // a request for another authentication method that does not exist
    'raw:fe' . bin2hex("nonesuch\0abc"),
] as $user) {
    printf("%-32.32s %s\n", show(addcslashes($user, "\0..\37\177..\377")), land(fn () => @mysqli_to(SAYS, user: $user)));
}

echo "-- not while connecting\n";
$mysqli = mysqli_to(DB1);
redirect($db2);
try {
    $mysqli->change_user('app', 'secret', 'shop');
} catch (mysqli_sql_exception $error) {
    echo $error->getCode(), "\n";
}
stop_redirecting();
$signal = "BEGIN NOT ATOMIC SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 4196, MESSAGE_TEXT = '|a|$db2'; END";
foreach ([fn () => mysqli_to(DB1)->query($signal), fn () => pdo(DB1, [PDO::MYSQL_ATTR_INIT_COMMAND => $signal])] as $statement) {
    try {
        $statement();
    } catch (PDOException | mysqli_sql_exception $error) {
        echo $error->getCode(), ': ', show($error->getMessage()), "\n";
    }
}
?>
--EXPECT--
say:||127.0.0.1:db2              error 1045: Access denied for user 'say:||127.0.0.1:db2'@'localhost' (using password: YES) (redirected: 127.0.0.1:base+12 -> 127.0.0.1:db2)
say:|a|b|127.0.0.1:db2           error 1045: Access denied for user 'say:|a|b|127.0.0.1:db2'@'localhost' (using password: YES) (redirected: 127.0.0.1:base+12 -> 127.0.0.1:db2)
say:text                         error 4196: text
say:|127.0.0.1:db2               error 4196: |127.0.0.1:db2
say:|a|                          error 4196: Server '127.0.0.1:base+12' sent an invalid redirect target: '' is not a target: the host is missing; give host, host:port or [IPv6]:port
say:|a|db 2                      error 4196: Server '127.0.0.1:base+12' sent an invalid redirect target: 'db 2' is not a target: a host name has only letters, digits, hyphens, underscores and dots; give host, host:port or [IPv6]:port
say:|a|0.0.0.0                   error 4196: Server '127.0.0.1:base+12' sent an invalid redirect target: '0.0.0.0' is not a target: it is not the address of a single host; give host, host:port or [IPv6]:port
say:|a|[::ffff:224.0.0.1]        error 4196: Server '127.0.0.1:base+12' sent an invalid redirect target: '[::ffff:224.0.0.1]' is not a target: it is not the address of a single host; give host, host:port or [IPv6]:port
say:|a|127.0.0.1:db2\n           error 4196: Server '127.0.0.1:base+12' sent an invalid redirect target: '127.0.0.1:db2\x0a' is not a target: the port is not a number from 1 to 65535; give host, host:port or [IPv6]:port
say:|a|db2:99999                 error 4196: Server '127.0.0.1:base+12' sent an invalid redirect target: 'db2:99999' is not a target: the port is not a number from 1 to 65535; give host, host:port or [IPv6]:port
say:|a|::1                       error 4196: Server '127.0.0.1:base+12' sent an invalid redirect target: '::1' is not a target: it has more than one ':', and an IPv6 address is written in brackets; give host, host:port or [IPv6]:port
say:|a|mysql://db2               error 4196: Server '127.0.0.1:base+12' sent an invalid redirect target: 'mysql://db2' is not a target: the port is not a number from 1 to 65535; give host, host:port or [IPv6]:port
say:|a|xxxxxxxxxxxxxxxxxxxxxxxxx error 4196: Server '127.0.0.1:base+12' sent an invalid redirect target: 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...' is not a target: a part of the host name is not 1 to 63 letters, digits, underscores and inner hyphens; give host, host:port or [IPv6]:port
say:|%s%n|%n%s%d                 error 4196: Server '127.0.0.1:base+12' sent an invalid redirect target: '%n%s%d' is not a target: a host name has only letters, digits, hyphens, underscores and dots; give host, host:port or [IPv6]:port
say:|a|\377\376                  error 4196: Server '127.0.0.1:base+12' sent an invalid redirect target: '\xff\xfe' is not a target: a host name has only letters, digits, hyphens, underscores and dots; give host, host:port or [IPv6]:port
huge:400                         error 1045: Access denied for user 'huge:400'@'localhost' (using password: YES) (redirected: 127.0.0.1:base+12 -> 127.0.0.1:db2)
huge:600                         error 4196: The server sent an invalid redirect: its message has 619 bytes, and may have 511
huge:3000                        error 4196: The server sent an invalid redirect: its message has 3019 bytes, and may have 511
huge:300000                      error 2035: Packet buffer wasn't big enough; as a workaround consider increasing value of net_cmd_buffer_size
raw:ff                           error 2002: Unknown error while trying to connect via tcp://127.0.0.1:base+12
raw:ff6410                       error 2000: 
raw:ff641023                     error 4196: 
raw:ff641023485930303            error 2002: Unknown error while trying to connect via tcp://127.0.0.1:base+12
raw:ff6410234859303030           error 4196: 
raw:ff64107c617c64622032         error 4196: Server '127.0.0.1:base+12' sent an invalid redirect target: 'db 2' is not a target: a host name has only letters, digits, hyphens, underscores and dots; give host, host:port or [IPv6]:port
raw:                             error 2002: Unknown error while trying to connect via tcp://127.0.0.1:base+12
raw:ff64102348593030307c617c6462 error 4196: Server '127.0.0.1:base+12' sent an invalid redirect target: 'db2\x00' is not a target: a host name has only letters, digits, hyphens, underscores and dots; give host, host:port or [IPv6]:port
raw:ff68102348593030307c617c[db2 error 1045: Access denied for user 'raw:ff68102348593030307c617c[db2 in hex]'@'localhost' (using password: YES) (redirected: 127.0.0.1:base+12 -> 127.0.0.1:db2)
raw:ff64102334323030307c617c[db2 error 1045: Access denied for user 'raw:ff64102334323030307c617c[db2 in hex]'@'localhost' (using password: YES) (redirected: 127.0.0.1:base+12 -> 127.0.0.1:db2)
raw:fe6e6f6e657375636800616263   error 2054: The server requested authentication method unknown to the client [nonesuch]
-- not while connecting
4196
4196: |a|127.0.0.1:db2
4196: SQLSTATE[45000] [4196] |a|127.0.0.1:db2
