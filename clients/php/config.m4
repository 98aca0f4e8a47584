PHP_ARG_ENABLE([instant-failover],
  [whether to enable instant failover for MariaDB],
  [AS_HELP_STRING([--enable-instant-failover],
    [Enable instant failover: PDO and mysqli follow the redirects of MariaDB servers])])

if test "$PHP_INSTANT_FAILOVER" != "no"; then
  PHP_NEW_EXTENSION([instant_failover], [instant_failover.c follow.c], [$ext_shared],, [-DZEND_ENABLE_STATIC_TSRMLS_CACHE=1])
  PHP_ADD_EXTENSION_DEP([instant_failover], [mysqlnd])
fi
