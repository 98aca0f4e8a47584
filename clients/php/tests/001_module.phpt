--TEST--
The extension is loaded, shows itself, and adds no functions
--EXTENSIONS--
mysqlnd
--FILE--
<?php
var_dump(get_extension_funcs('instant_failover'));
$extension = new ReflectionExtension('instant_failover');
var_dump($extension->getClassNames(), $extension->getDependencies(), ini_get('instant_failover.follow'));
$extension->info();
ini_set('instant_failover.follow', 'Sometimes');
$extension->info();
?>
--EXPECT--
bool(false)
array(0) {
}
array(1) {
  ["mysqlnd"]=>
  string(8) "Required"
}
string(0) ""

instant_failover

Instant failover for MariaDB => enabled
Version => 0.2.0
Redirects followed => auto

Directive => Local Value => Master Value
instant_failover.follow => no value => no value

instant_failover

Instant failover for MariaDB => enabled
Version => 0.2.0
Redirects followed => never: instant_failover.follow is not a known value

Directive => Local Value => Master Value
instant_failover.follow => Sometimes => no value
