#!/bin/bash
# Builds the extension in a temporary directory, and runs tests/*.phpt against real servers:
#
#   INSTANT_FAILOVER_SO=/path/libinstant_failover.so INSTANT_FAILOVER_STANDIN=/path/instant-failover-harness ./test.sh [OPTION...]
#
# Options are those of run-tests.php: -m runs the tests under valgrind, a file runs that test. TEST_CFLAGS are for the
# compiler. The servers need 50 ports from TEST_PORT on (23200 if not set).
set -euo pipefail
cd "$(dirname "$0")"

: "${INSTANT_FAILOVER_SO:?is not set; give the path of the plugin library}"
: "${INSTANT_FAILOVER_STANDIN:?is not set; give the path of the program instant-failover-harness}"
for file in "$INSTANT_FAILOVER_SO" "$INSTANT_FAILOVER_STANDIN"; do
	[ -f "$file" ] || { echo "$file does not exist" >&2; exit 1; }
done
for command in phpize php php-config make openssl mariadbd mariadb-install-db; do
	command -v $command >/dev/null || { echo "$command is not installed" >&2; exit 1; }
done

export TEST_PORT=${TEST_PORT:-23200}
TEST_DIR=$(mktemp -d /tmp/instant-failover-php.XXXXXX)
export TEST_DIR
pids=()
finish() {
	kill -9 "${pids[@]}" 2>/dev/null || true
	wait 2>/dev/null || true
	rm -rf "$TEST_DIR"
}
trap finish EXIT

mkdir "$TEST_DIR/build" "$TEST_DIR/tmp"
export TMPDIR=$TEST_DIR/tmp
cp -r config.m4 ./*.c ./*.h tests "$TEST_DIR/build"
cd "$TEST_DIR/build"
(phpize && ./configure CFLAGS="${TEST_CFLAGS:--g -O2 -Wall -Wextra -Wno-unused-parameter -Werror}" && make) >build.log 2>&1 || { tail -30 build.log >&2; exit 1; }
# run-tests.php looks for all extensions in one directory.
for so in "$(php-config --extension-dir)"/*.so; do ln -sf "$so" modules/; done

cd "$TEST_DIR"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-ca -keyout ca.key -out ca.pem 2>/dev/null
certificate() { # name, subject alternative name
	openssl req -newkey rsa:2048 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr" 2>/dev/null
	openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile <(echo "subjectAltName=$2") -out "$1.pem" 2>/dev/null
}
certificate server DNS:localhost,IP:127.0.0.1
certificate stranger DNS:stranger.example
certificate client DNS:client.example

as_root=()
[ "$(id -u)" != 0 ] || as_root=(--user=root)
mkdir plugins
for so in "$(mariadbd --no-defaults --verbose --help 2>/dev/null | awk '$1 == "plugin-dir" {print $2}')"/*.so; do ln -s "$so" plugins/; done
ln -sf "$INSTANT_FAILOVER_SO" plugins/instant_failover.so
mariadb-install-db --no-defaults --datadir="$TEST_DIR/db1" "${as_root[@]}" --auth-root-authentication-method=normal >install.log 2>&1 || { cat install.log >&2; exit 1; }
cp -r db1 db2
cat >init.sql <<SQL
DELETE FROM mysql.global_priv WHERE User = '';
FLUSH PRIVILEGES;
CREATE DATABASE shop;
CREATE USER app@'%' IDENTIFIED BY 'secret';
CREATE USER careful@'%' IDENTIFIED BY 'secret' REQUIRE X509;
GRANT ALL ON shop.* TO app@'%', careful@'%';
SQL
start_mariadbd() { # name, port
	mariadbd --no-defaults "${as_root[@]}" --datadir="$TEST_DIR/$1" --socket="$TEST_DIR/$1.sock" --pid-file="$TEST_DIR/$1.pid" \
		--plugin-dir="$TEST_DIR/plugins" --plugin-load-add=instant_failover --port="$2" --bind-address=127.0.0.1 --log-error="$TEST_DIR/$1.log" \
		--innodb-buffer-pool-size=32M --init-file="$TEST_DIR/init.sql" --event-scheduler=ON \
		--ssl-ca="$TEST_DIR/ca.pem" --ssl-cert="$TEST_DIR/server.pem" --ssl-key="$TEST_DIR/server.key" </dev/null >/dev/null 2>&1 &
	pids+=($!)
}
start_standin() { # port, certificate
	"$INSTANT_FAILOVER_STANDIN" --bind-address=127.0.0.1 --port="$1" --ssl-cert="$TEST_DIR/$2.pem" --ssl-key="$TEST_DIR/$2.key" \
		--instant-failover-target="localhost:$((TEST_PORT + 1))" --instant-failover-mode=ON </dev/null >"$TEST_DIR/$2.log" 2>&1 &
	pids+=($!)
}
start_mariadbd db1 "$TEST_PORT"
start_mariadbd db2 $((TEST_PORT + 1))
start_standin $((TEST_PORT + 2)) server
start_standin $((TEST_PORT + 3)) stranger
php -n "$TEST_DIR/build/tests/hostile.inc" "$TEST_PORT" "$TEST_DIR/recorded" </dev/null >"$TEST_DIR/hostile.log" 2>&1 &
pids+=($!)
for port in 0 1 2 3 10; do
	for _ in $(seq 300); do
		(: >/dev/tcp/127.0.0.1/$((TEST_PORT + port))) 2>/dev/null && continue 2
		sleep 0.1
	done
	echo "nothing listens on port $((TEST_PORT + port))" >&2
	tail -20 "$TEST_DIR"/*.log >&2
	exit 1
done

cd "$TEST_DIR/build"
# Leaks count, too. mariadbd and the others are not started by the tests, so valgrind sees PHP alone.
export VALGRIND_OPTS="--leak-check=full --show-leak-kinds=definite --suppressions=$TEST_DIR/build/tests/valgrind.supp"
export NO_INTERACTION=1 REPORT_EXIT_STATUS=1 TEST_TIMEOUT=120
status=0
make test TESTS="-q --show-diff -d pcre.jit=0 $*" || status=$?
[ $status = 0 ] || tail -n 40 tests/*.mem 2>/dev/null || true
exit $status
