#!/bin/sh
# Takes the stand-in of the packages in the directory $1, of version $2, through what the documents promise under systemd.
# `cargo xtask deb --test` runs it as a service of a separate systemd.
set -u

packages=$1
version=$2
# shellcheck source=packaging/test/common.sh
. "$packages/common.sh"
plugin=$packages/mariadb-plugin-instant-failover_${version}-1_${arch}.deb
harness=$packages/instant-failover-harness_${version}-1_${arch}.deb
service=instant-failover-harness.service
socket=instant-failover-harness.socket

process() { systemctl show --property=MainPID --value "$1"; }
# goes_on UNIT PROCESS
goes_on() { [ "$(process "$1")" = "$2" ] || { systemctl --no-pager status "$1"; return 1; }; }
# serves UNIT: it, and not the other one.
serves() {
    for unit in mariadb.service $service; do
        if [ "$unit" = "$1" ]; then
            systemctl is-active "$unit" || return
        elif systemctl is-active "$unit"; then
            return 1
        fi
    done
}
none_enabled() { ! systemctl is-enabled $service && ! systemctl is-enabled $socket; }
valid() { runuser -u mysql -- instant-failover-harness --defaults-file=$harness_cnf --validate-config; }
invalid() { ! valid && valid 2>&1 | grep target; }
says_what_it_does() { systemctl status $service | grep "Status: \"mode ON, target '127.0.0.1:3307'\""; }
administered() { [ "$(sql 'SELECT @@instant_failover_mode')" = ON ]; }
# Clients come all the time while it is restarted twice.
restarts_unnoticed() {
    for _ in 1 2; do
        systemctl restart $service &
        for _ in 1 2 3 4 5 6 7 8 9 10; do redirected || return; done
        wait $!
    done
}
# The server has much to do before it ends.
make_slow() {
    sql "CREATE DATABASE slow; CREATE TABLE slow.t (a INT PRIMARY KEY, b CHAR(100), KEY(b)); SET GLOBAL innodb_fast_shutdown = 0" &&
        { sql "START TRANSACTION WITH CONSISTENT SNAPSHOT; SELECT COUNT(*) FROM slow.t; SELECT SLEEP(60)" & } &&
        sleep 1 && sql "INSERT INTO slow.t SELECT seq, MD5(seq) FROM slow.seq_1_to_200000; DELETE FROM slow.t"
}
takes_over_while_it_stops() {
    systemctl stop --no-block mariadb &&
        systemctl start --job-mode=ignore-dependencies $service &&
        redirected &&
        [ "$(systemctl is-active mariadb)" = deactivating ]
}
stopped() {
    for _ in $(seq 300); do
        [ "$(systemctl is-active mariadb)" != inactive ] || break
        sleep 0.1
    done
    serves $service && redirected && administered
}
down() { [ "$(systemctl is-active mariadb)" = inactive ]; }

skip_without_namespaces
check 'systemd: the server starts' systemctl start mariadb
sql "CREATE USER app IDENTIFIED BY 'secret'"
server=$(process mariadb)
rm /usr/sbin/policy-rc.d
check 'systemd: the packages install' dpkg --install "$plugin" "$harness"
check 'systemd: the server goes on' goes_on mariadb "$server"
check 'systemd: lets every client in' let_in
check 'systemd: none of the units is enabled' none_enabled
check 'systemd: INSTALL SONAME' sql "INSTALL SONAME 'instant_failover'"
check 'systemd: SET GLOBAL' switch
check 'systemd: a client is redirected' redirected
check 'systemd: UNINSTALL SONAME' sql "UNINSTALL SONAME 'instant_failover'"
check 'systemd: options are wrong without a target' invalid
check 'systemd: the server has not noticed' let_in
uncomment instant_failover_target 127.0.0.1:3307 $harness_cnf
[ "$(sql 'SELECT @@have_ssl')" = YES ] || uncomment skip_ssl '' $harness_cnf
check 'systemd: options are right with one' valid
check 'systemd: the stand-in starts' systemctl start $service
check 'systemd: in the place of the server' serves $service
check 'systemd: redirects' redirected
check 'systemd: says what it does' says_what_it_does
check 'systemd: is administered through the socket' administered
check 'systemd: reload' systemctl reload $service
check 'systemd: the server starts again' systemctl start mariadb
check 'systemd: in the place of the stand-in' serves mariadb.service
check 'systemd: lets every client in again' let_in
check 'systemd: the socket starts' systemctl start $socket
check 'systemd: who comes first is redirected' redirected
check 'systemd: in the place of the server again' serves $service
check 'systemd: a restart behind the socket' restarts_unnoticed
check 'systemd: the server starts a third time' systemctl start mariadb
check 'systemd: lets every client in a third time' let_in
check 'systemd: the server has much to do' make_slow
check 'systemd: the stand-in takes over while it stops' takes_over_while_it_stops
check 'systemd: and stays when it has stopped' stopped
standing_in=$(process $service)
check 'systemd: the same version again' dpkg --install "$harness"
check 'systemd: the stand-in goes on' goes_on $service "$standing_in"
check 'systemd: the server starts a fourth time' systemctl start mariadb
server=$(process mariadb)
check 'systemd: purge' dpkg --purge mariadb-plugin-instant-failover instant-failover-harness
check 'systemd: the server goes on without' goes_on mariadb "$server"
check 'systemd: the units are gone' unknown $service
check 'systemd: the server stops for a while' systemctl stop mariadb
check 'systemd: the plugin installs meanwhile' dpkg --install "$plugin"
check 'systemd: and starts no server' down
check 'systemd: purge of it' dpkg --purge mariadb-plugin-instant-failover
check 'systemd: still no server' down
check 'systemd: the server starts a fifth time' systemctl start mariadb
check 'systemd: the server stops' systemctl stop mariadb
