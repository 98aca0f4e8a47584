#!/bin/sh
# The conformance adapter: run.sh parse | land | load JSON
here=$(cd "$(dirname "$0")" && pwd)
if [ "$1" = parse ]; then
	exec "$here/target/parse"
fi
exec php -d extension="$here/target/modules/instant_failover.so" "$here/adapter.php" "$@"
