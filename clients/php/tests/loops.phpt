--TEST--
At most 8 redirects; loops are noticed at once
--EXTENSIONS--
mysqlnd
pdo
pdo_mysql
mysqli
--FILE--
<?php
require 'servers.inc';

echo land(fn () => pdo(HOPS + 2)), "\n";
echo land(fn () => pdo(HOPS + 1)), "\n";
echo land(fn () => mysqli_to(CIRCLE)), "\n";
redirect('127.0.0.1:' . HOPS + 3);
echo land(fn () => mysqli_to(DB1)), "\n";
redirect('localhost:' . HOPS + 2);
echo land(fn () => mysqli_to(DB1)), "\n";

echo "-- a later server is down, or not what it should be\n";
redirect('127.0.0.1:' . DB1 + 49);
echo land(fn () => @mysqli_to(DB1)), "\n";
redirect('127.0.0.1:' . CUT_GREETING);
echo land(fn () => @mysqli_to(DB1)), "\n";
redirect('127.0.0.1:' . REFUSES);
echo land(fn () => mysqli_to(DB1)), "\n";
redirect('127.0.0.1:' . BEFORE_GREETING);
echo land(fn () => mysqli_to(DB1)), "\n";

echo "-- names that are too long for the error\n";
$name = fn (string $letter) => implode('.', array_fill(0, 4, str_repeat($letter, 60)));
redirect($name('a') . ':3307');
echo land(fn () => @mysqli_to(DB1)), "\n";
?>
--EXPECTF--
db2
error 4196: SQLSTATE[HY000] [4196] Too many instant failovers (>= 8): 127.0.0.1:base+21 -> 127.0.0.1:base+22 -> 127.0.0.1:base+23 -> 127.0.0.1:base+24 -> 127.0.0.1:base+25 -> 127.0.0.1:base+26 -> 127.0.0.1:base+27 -> 127.0.0.1:base+28 -> 127.0.0.1:base+29
error 4196: Redirect loop: 127.0.0.1:base+30 -> 127.0.0.1:base+31 -> 127.0.0.1:base+30
db2
error 4196: Too many instant failovers (>= 8): 127.0.0.1:db1 -> localhost:base+22 -> 127.0.0.1:base+23 -> 127.0.0.1:base+24 -> 127.0.0.1:base+25 -> 127.0.0.1:base+26 -> 127.0.0.1:base+27 -> 127.0.0.1:base+28 -> 127.0.0.1:base+29
-- a later server is down, or not what it should be
error 2002: Connection refused (redirected: 127.0.0.1:db1 -> 127.0.0.1:base+49)
error 2002: Unknown error while trying to connect via tcp://127.0.0.1:base+15 (redirected: 127.0.0.1:db1 -> 127.0.0.1:base+15)
error 1045: No (redirected: 127.0.0.1:db1 -> 127.0.0.1:base+16)
error 4196: |Go there.|127.0.0.1:db2 (redirected: 127.0.0.1:db1 -> 127.0.0.1:base+10)
-- names that are too long for the error
error 2002: php_network_getaddresses: getaddrinfo for aaa%saaa failed: %s (redirected: 127.0.0.1:db1 -> ...)
