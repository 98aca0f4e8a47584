--TEST--
Error handlers that connect, throw or exit while a connection is being made
--EXTENSIONS--
mysqlnd
pdo
pdo_mysql
mysqli
--FILE--
<?php
require 'servers.inc';

// mysqlnd warns of a greeting that is cut, so the handler runs in the middle of the login.
redirect('127.0.0.1:' . CUT_GREETING);
set_error_handler(function () {
    echo 'meanwhile: ', land(fn () => mysqli_to(HOPS + 8)), "\n";
    return true;
});
echo land(fn () => mysqli_to(DB1)), "\n";
echo land(fn () => mysqli_to(HOPS + 8)), "\n";

set_error_handler(fn () => throw new Exception('from the handler'));
try {
    mysqli_to(DB1);
} catch (Exception $error) {
    do {
        echo get_class($error), ': ', show($error->getMessage()), "\n";
    } while ($error = $error->getPrevious());
}
echo land(fn () => mysqli_to(HOPS + 8)), "\n";

register_shutdown_function(function () {
    set_error_handler(null);
    echo 'at the end: ', land(fn () => pdo(HOPS + 8)), "\n";
});
// A fatal error in the middle of it. What PHP does not free then is no leak of ours, so valgrind does not see this.
if (getenv('USE_ZEND_ALLOC') !== '0') {
    set_error_handler(function () {
        error_reporting(0);
        eval('function land() {}');
    });
    mysqli_to(DB1);
    echo "not reached\n";
}
?>
--EXPECTF--
meanwhile: db2
%Aerror 2002: Unknown error while trying to connect via tcp://127.0.0.1:base+15 (redirected: 127.0.0.1:db1 -> 127.0.0.1:base+15)
db2
mysqli_sql_exception: Unknown error while trying to connect via tcp://127.0.0.1:base+15 (redirected: 127.0.0.1:db1 -> 127.0.0.1:base+15)
Exception: from the handler
db2
at the end: db2
