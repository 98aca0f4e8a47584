# shellcheck shell=sh
# What both tests of the packages say and ask.
work=$(mktemp -d)
plugin_cnf=/etc/mysql/mariadb.conf.d/60-switchover.cnf
harness_cnf=/etc/instant-failover-harness.cnf

# check NAME COMMAND...: prints what became of it, and what it said if that was wrong.
check() {
    name=$1
    shift
    if "$@" >"$work/said" 2>&1; then
        echo "passed   $name"
    else
        echo "FAILED   $name"
        tail -n 20 "$work/said"
    fi
}

sql() { mariadb --batch --skip-column-names --execute="$1"; }
app() { mariadb --batch --skip-column-names --user=app --password=secret --execute='SELECT @@port' "$@"; }
redirected() { ! app --host=127.0.0.1 && app --host=127.0.0.1 2>&1 | grep '^ERROR 4196 .*|127.0.0.1:3307$'; }
let_in() { [ "$(app --host=127.0.0.1)" = 3306 ]; }
switch() { sql "SET GLOBAL instant_failover_target = '127.0.0.1:3307', instant_failover_mode = ON"; }
uncomment() { sed -i "s/^#\($1 = \).*/\1$2/; s/^#\($1\)$/\1/" "$3"; }
