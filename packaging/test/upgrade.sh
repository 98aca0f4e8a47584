#!/bin/sh
# Upgrades a server whose plugin, of the package $1/earlier.deb, has the layout of the first builds: one plugin in the library, and
# neither hold nor drain. Then downgrades it again. `cargo xtask deb --test` runs it in a root directory and a network of its own.
set -u

packages=$1
version=$2
# shellcheck source=packaging/test/common.sh
. "$packages/common.sh"
earlier=$packages/earlier.deb
plugin=$packages/mariadb-plugin-instant-failover_${version}-1_${arch}.deb
# What upgrading and downgrading do not touch.
account="CREATE USER tenant IDENTIFIED VIA instant_failover USING '127.0.0.1:3308'"

stop_server() { mariadb-admin shutdown && wait "$server"; }
restart_server() {
    stop_server
    : >"$work/server.log"
    start_server /run/mysqld/mysqld.sock "$@"
}
# The plugin's parts that are loaded, and those that the server loads when it starts.
loaded() { [ "$(sql "SELECT GROUP_CONCAT(PLUGIN_NAME ORDER BY 1) FROM information_schema.PLUGINS WHERE PLUGIN_LIBRARY LIKE 'instant_failover%' AND PLUGIN_STATUS = 'ACTIVE'")" = "$1" ]; }
remembered() { [ "$(sql "SELECT GROUP_CONCAT(name ORDER BY 1) FROM mysql.plugin")" = "$1" ]; }
both=instant_failover,instant_failover_sessions
variables() { [ "$(sql "SELECT COUNT(*) FROM information_schema.SYSTEM_VARIABLES WHERE VARIABLE_NAME LIKE 'instant_failover%'")" = "$1" ]; }
earlier_code() { variables 5; }
later_code() { variables 8; }
mode() { [ "$(sql 'SELECT @@instant_failover_mode')" = "$1" ]; }
tenant_is_redirected() { mariadb --user=tenant --host=127.0.0.1 2>&1 | grep '^ERROR 4196 .*|127.0.0.1:3308$'; }
again() { sql "UNINSTALL SONAME 'instant_failover'" && sql "INSTALL SONAME 'instant_failover'"; }
hold() { sql "SET GLOBAL instant_failover_hold_timeout = 300, instant_failover_target = '127.0.0.1:3307', instant_failover_mode = HOLD" && mode HOLD; }
says() { grep "$@" "$work/server.log"; }
downgrade() { dpkg --install "$earlier" 2>&1 | tee "$work/dpkg" && grep 'downgrading' "$work/dpkg"; }
no_error() { ! says -F '[ERROR]'; }
# The server has logged this error, and no other.
only_error() { says "$1" && ! says -F '[ERROR]' | grep -v "$1"; }
# does_not_start WORDS: with the option file.
does_not_start() {
    stop_server
    : >"$work/server.log"
    ! timeout 60 mariadbd --user=mysql --socket=/run/mysqld/mysqld.sock >>"$work/server.log" 2>&1 && says "$1"
}

install -d -o mysql /run/mysqld
start_server /run/mysqld/mysqld.sock
sql "CREATE USER app IDENTIFIED BY 'secret'"

# Installed in SQL.
check 'upgrade: the earlier package' dpkg --install "$earlier"
check 'upgrade: INSTALL SONAME of it' sql "INSTALL SONAME 'instant_failover'"
check 'upgrade: has its layout' earlier_code
check 'upgrade: is one plugin' loaded instant_failover
check 'upgrade: an account with the plugin' sql "$account"
check 'upgrade: SET GLOBAL' switch
check 'upgrade: dpkg' dpkg --install "$plugin"
check 'upgrade: the server goes on redirecting' undisturbed
check 'upgrade: an account goes on, too' tenant_is_redirected
check 'upgrade: UNINSTALL and INSTALL SONAME' again
check 'upgrade: the earlier code is still in memory' earlier_code
check 'upgrade: and works' switch
check 'upgrade: it redirects' undisturbed
check 'upgrade: restart' restart_server
check 'upgrade: the later code runs' later_code
check 'upgrade: no error' no_error
check 'upgrade: the mode is OFF, as after any restart' mode OFF
check 'upgrade: an account is redirected' tenant_is_redirected
check 'upgrade: only what was installed is loaded' loaded instant_failover
check 'upgrade: the second plugin' sql "INSTALL PLUGIN IF NOT EXISTS instant_failover_sessions SONAME 'instant_failover'"
check 'upgrade: both are loaded' loaded $both
check 'upgrade: both are remembered' remembered $both
check 'upgrade: HOLD' hold

check 'downgrade: dpkg' downgrade
check 'downgrade: the server goes on' mode HOLD
check 'downgrade: SET GLOBAL' switch
check 'downgrade: it redirects' undisturbed
check 'downgrade: UNINSTALL and INSTALL SONAME' again
check 'downgrade: the later code is still in memory' later_code
check 'downgrade: both are loaded' loaded $both
check 'downgrade: restart' restart_server
check 'downgrade: the earlier code runs' earlier_code
check 'downgrade: one error' only_error "Can't find symbol 'instant_failover_sessions' in library"
check 'downgrade: the one plugin is loaded' loaded instant_failover
check 'downgrade: both are remembered' remembered $both
check 'downgrade: an account is redirected' tenant_is_redirected
check 'downgrade: SET GLOBAL of the earlier code' switch
check 'downgrade: the earlier code redirects' undisturbed

check 'upgrade again: dpkg' dpkg --install "$plugin"
check 'upgrade again: restart' restart_server
check 'upgrade again: both are loaded' loaded $both

check 'downgrade again: dpkg' downgrade
check 'downgrade again: restart' restart_server
check 'downgrade again: UNINSTALL SONAME' sql "UNINSTALL SONAME 'instant_failover'"
check 'downgrade again: one is still remembered' remembered instant_failover_sessions
check 'downgrade again: UNINSTALL PLUGIN' sql 'UNINSTALL PLUGIN instant_failover_sessions'
check 'downgrade again: none is remembered' remembered NULL

# In an option file, with mode ON.
cat >$plugin_cnf <<'CNF'
[mariadb]
plugin_load_add = instant_failover
instant_failover_target = 127.0.0.1:3307
instant_failover_mode = ON
CNF
check 'option file: restart with the earlier code' restart_server
check 'option file: the earlier code redirects' undisturbed
check 'option file: upgrade' dpkg --install "$plugin"
check 'option file: restart with the later code' restart_server
check 'option file: the later code has both plugins' loaded $both
check 'option file: the later code redirects' undisturbed
check 'option file: an account is redirected' tenant_is_redirected
echo 'loose_instant_failover_hold_timeout = 30' >>$plugin_cnf
check 'option file: restart with a later variable' restart_server
check 'option file: its value' [ "$(sql 'SELECT @@instant_failover_hold_timeout')" = 30 ]
check 'option file: downgrade' downgrade
check 'option file: the server goes on' undisturbed
check 'option file: restart with the earlier code and a later variable' restart_server
check 'option file: it is warned of' says "\[Warning\].*unknown variable 'loose_instant_failover_hold_timeout=30'"
check 'option file: the earlier code redirects again' undisturbed
check 'option file: an account is redirected again' tenant_is_redirected
sed -i 's/^loose_//' $plugin_cnf
check 'option file: without loose_ it does not start' does_not_start "\[ERROR\].*unknown variable 'instant_failover_hold_timeout=30'"
rm -rf "$work"
