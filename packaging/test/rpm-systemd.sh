#!/bin/sh
# Takes the stand-in of the RPM in the directory $1, of version $2, through what the documents promise under systemd, with the
# socket where RHEL has it. `cargo xtask rpm --test` runs it as a service of a separate systemd.
set -u

packages=$1
version=$2
# shellcheck source=packaging/test/common.sh
. "$packages/common.sh"
harness=$packages/instant-failover-harness-$version-1.$machine.rpm
service=instant-failover-harness.service
socket=instant-failover-harness.socket
rhel=/var/lib/mysql/mysql.sock

none_enabled() { ! systemctl is-enabled $service && ! systemctl is-enabled $socket; }
administered() { [ "$(mariadb --socket=$rhel --batch --skip-column-names --execute='SELECT @@instant_failover_mode')" = ON ]; }
started_by() { systemctl stop $service $socket && [ ! -e $rhel ] && systemctl start "$1" && redirected && administered; }
process() { systemctl show --property=MainPID --value $service; }
goes_on() { [ "$(process)" = "$standing_in" ]; }
ended() { ! kill -0 "$standing_in" && [ ! -e $rhel ]; }
no_unit_is_left() { ! find /etc/systemd /run/systemd /usr/lib/systemd -name 'instant-failover-harness*' | grep .; }

skip_without_namespaces
check 'systemd: the server starts' systemctl start mariadb
sql "CREATE USER app IDENTIFIED BY 'secret'"
has_tls=$(sql 'SELECT @@have_ssl')
check 'systemd: the package installs' rpm --install --nodeps "$harness"
check 'systemd: none of the units is enabled' none_enabled
uncomment instant_failover_target 127.0.0.1:3307 $harness_cnf
[ "$has_tls" = YES ] || uncomment skip_ssl '' $harness_cnf
check 'systemd: the stand-in starts' systemctl enable --now $service $socket
check 'systemd: redirects' redirected
check "systemd: is administered through RHEL's socket" administered
check 'systemd: without the socket unit' started_by $service
check 'systemd: by the socket unit' started_by $socket
standing_in=$(process)
check 'systemd: the same version again' rpm --upgrade --force --nodeps "$harness"
check 'systemd: the stand-in goes on' goes_on
check 'systemd: erase' rpm --erase --nodeps instant-failover-harness
check 'systemd: has ended the stand-in' ended
check 'systemd: leaves no unit, and none enabled' no_unit_is_left
check 'systemd: the units are gone' unknown $service
check 'systemd: the server starts again' systemctl start mariadb
check 'systemd: lets every client in' let_in
check 'systemd: the server stops' systemctl stop mariadb
