#!/bin/sh
# Installs the RPMs of the directory $1, of version $2, in a system of its own, as a database administrator would, and removes
# them again. The system is Debian's, with rpm: it has no other RPMs, so what they require is looked at, and not resolved.
set -u

packages=$1
version=$2
# shellcheck source=packaging/test/common.sh
. "$packages/common.sh"
plugin=$packages/mariadb-plugin-instant-failover-$version-1.$machine.rpm
harness=$packages/instant-failover-harness-$version-1.$machine.rpm
command=$packages/instant-failover-$version-1.$machine.rpm

# Where MariaDB's own RPMs have the server's and Connector/C's plugins.
plugins=/usr/lib64/mysql/plugin
export MARIADB_PLUGIN_DIR=$plugins

install_rpm() { rpm --install --nodeps "$1"; }
install_again() { rpm --upgrade --force --nodeps "$1"; }
erase() { rpm --erase --nodeps "$1"; }
start() { start_server /run/mysqld/mysqld.sock --plugin-dir=$plugins; }
stop() { mariadb-admin shutdown && wait "$server"; }
# Of the C library and its companions, and no newer than the given release has.
requires_only() {
    rpm --query --requires --package "$1" | grep -v '^rpmlib(' >"$work/requires"
    grep -qF 'libc.so.6()(64bit)' "$work/requires" &&
        ! grep -vE '^(config\(|libc\.so\.6|libm\.so\.6|libgcc_s\.so\.1|ld-linux-(x86-64\.so\.2|aarch64\.so\.1)|/bin/sh|rtld\()' "$work/requires" &&
        [ "$(printf '%s\n' "$2" "$(newest_glibc)" | sort -V | tail -n 1)" = "$2" ]
}
newest_glibc() { grep -o 'GLIBC_[0-9.]*' "$work/requires" | cut -c7- | sort -V | tail -n 1; }
# What can be left out are the manual pages, and documents to read.
is_only_read() { ! rpm --query --docfiles --package "$1" | grep -vE '^/usr/share/(doc|man)/'; }
enabled() { systemctl enable instant-failover-harness.service instant-failover-harness.socket; }
keeps_its_configuration() {
    cp $harness_cnf "$work/edited" && install_again "$harness" && cmp $harness_cnf "$work/edited"
}

install -d -o mysql /run/mysqld
chown mysql "$work"
chmod 755 "$work"
start_server /run/mysqld/mysqld.sock
sql "CREATE USER app IDENTIFIED BY 'secret'"
stop
cp -a /var/lib/mysql "$work/other"
start_server "$work/socket" --datadir="$work/other" --port=3307 --pid-file="$work/other.pid"
other=$server
# RHEL has it.
mkdir -p /usr/share/licenses
files >"$work/before"

check 'plugin: requires what RHEL 8 has' requires_only "$plugin" 2.28
check 'plugin: nothing that is needed is a document' is_only_read "$plugin"
check 'plugin: installs' install_rpm "$plugin"
check 'plugin: its files have the paths of RHEL' grep -F /etc/my.cnf.d/ /usr/share/instant-failover/instant_failover.cnf
check "plugin: is where RHEL's own packages look, too" cmp $plugins/instant_failover.so /usr/lib64/mariadb/plugin/instant_failover.so
start
check 'plugin: INSTALL SONAME' sql "INSTALL SONAME 'instant_failover'"
check 'plugin: SET GLOBAL' switch
check 'plugin: a client is redirected' redirected
check 'plugin: a client follows' follows
check 'plugin: the same version again' install_again "$plugin"
check 'plugin: the server goes on' undisturbed
check 'plugin: remove' erase mariadb-plugin-instant-failover
check 'plugin: the server goes on' undisturbed
check 'plugin: UNINSTALL SONAME' sql "UNINSTALL SONAME 'instant_failover'"
check 'the server stops' stop

check 'stand-in: requires what RHEL 9 has' requires_only "$harness" 2.34
check 'stand-in: nothing that is needed is a document' is_only_read "$harness"
check 'stand-in: installs' install_rpm "$harness"
check 'stand-in: the units are right' systemd-analyze verify --man=no \
    /usr/lib/systemd/system/instant-failover-harness.service /usr/lib/systemd/system/instant-failover-harness.socket
uncomment instant_failover_target 127.0.0.1:3307 $harness_cnf
uncomment skip_ssl '' $harness_cnf
check 'stand-in: an option file that was edited stays' keeps_its_configuration
check 'plugin: installs for clients' install_rpm "$plugin"
check 'stand-in: redirects, as the service starts it' stands_in \
    setpriv --reuid=mysql --regid=mysql --init-groups --no-new-privs --bounding-set=-all \
    instant-failover-harness --defaults-file=$harness_cnf
check 'stand-in: its units can be enabled' enabled
check 'stand-in: remove' erase instant-failover-harness
check 'stand-in: an option file that was edited is kept' cmp $harness_cnf.rpmsave "$work/edited"
rm -f $harness_cnf.rpmsave
check 'plugin: remove' erase mariadb-plugin-instant-failover

check 'command: requires what RHEL 9 has' requires_only "$command" 2.34
check 'command: nothing that is needed is a document' is_only_read "$command"
check 'command: installs' install_rpm "$command"
check 'command: runs' version_of /usr/bin/instant-failover
check 'command: its manual page is there' test -s /usr/share/man/man1/instant-failover.1
check 'command: its completions are there' has_completions /usr/share/bash-completion/completions/instant-failover \
    /usr/share/zsh/site-functions/_instant-failover /usr/share/fish/vendor_completions.d/instant-failover.fish
check 'command: remove' erase instant-failover
check 'nothing is left' same_files
kill $other
wait $other
rm -rf "$work"
