#!/bin/sh
# Installs the packages and the tarball of the directory $1, of version $2, in a system of its own, as a database administrator
# would, and removes them again. `cargo xtask deb --test` runs it in a root directory and a network of its own.
set -u

packages=$1
version=$2
# shellcheck source=packaging/test/common.sh
. "$packages/common.sh"
plugin=$packages/mariadb-plugin-instant-failover_${version}-1_${arch}.deb

stop_server() {
    mariadb-admin --socket=/run/mysqld/mysqld.sock shutdown && wait $server
}
restart_server() {
    stop_server
    start_server /run/mysqld/mysqld.sock
}
# As a service with the example as its drop-in.
follows_by_default() {
    drop_in=/usr/share/instant-failover/follow-redirects.conf
    environment=$(sed -n 's/^Environment=//p' $drop_in) && [ -n "$environment" ] &&
        (export "${environment?}" INSTANT_FAILOVER_FOLLOW=always && [ "$(app --host=127.0.0.1)" = 3307 ])
}
loaded() { [ "$(sql "SELECT COUNT(*) FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'instant_failover'")" = "$1" ]; }
# Every link of the README, but for two that are for developers.
links() {
    grep -o '](\([^)h#][^)#]*\)' "$1/README.md" | cut -c3- | sort -u | while read -r link; do
        case $link in LICENSE | CONTRIBUTING.md) continue ;; esac
        [ -e "$1/$link" ] || echo "$link"
    done >"$work/dead"
    ! grep . "$work/dead"
}
# As on forky without a compiler.
mistaken_mariadb_config() {
    mkdir "$work/mistaken"
    printf '#!/bin/sh\necho /usr/lib//libmariadb3/plugin\n' >"$work/mistaken/mariadb_config"
    chmod 755 "$work/mistaken/mariadb_config"
    PATH=$work/mistaken:$PATH "$installer" && [ ! -e /usr/lib/libmariadb3 ]
}
belongs_to_a_package() { ! "$installer" && "$installer" 2>&1 | grep 'belongs to a package'; }
installed() { dpkg-query --show --showformat='${Version}' "$1" | grep -Fx "$2"; }
nothing_in_etc() { ! dpkg --listfiles mariadb-plugin-instant-failover | grep '^/etc'; }
not_enabled() { ! find /etc/systemd /run/systemd -name '*instant-failover*' | grep .; }
refuses_without_target() { ! harness && harness 2>&1 | grep target; }
harness() { timeout 20 runuser -u mysql -- instant-failover-harness --defaults-file=$harness_cnf; }

# The command needs no server.
command=$packages/instant-failover_${version}-1_${arch}.deb
needs_only_libc() { ! dpkg-deb --field "$command" Depends | tr , '\n' | sed 's/^ *//; s/ .*//' | grep -vxE 'libc6|libgcc-s1'; }
status() { HOME=$work instant-failover --servers "$work/servers.cnf" status; }
# The example is valid, but there are no such servers.
example_is_understood() {
    install -m 600 "$1" "$work/servers.cnf"
    # A small system has no such file, which would be all that is said.
    sed -i 's|^ssl-ca = .*|skip-ssl|' "$work/servers.cnf"
    ! status && status 2>&1 | grep '^db2 .*does not answer'
}
refuses_a_file_for_all() {
    chmod 644 "$work/servers.cnf"
    ! status && status 2>&1 | grep 'chmod 600'
}
# Two servers that are not a pair.
check_of_strangers() {
    printf '[%s]\nsocket = %s\nuser = root\ntarget = 127.0.0.1:%s\n' \
        db1 /run/mysqld/mysqld.sock 3306 db2 "$work/socket" 3307 >"$work/servers.cnf"
    HOME=$work instant-failover --servers "$work/servers.cnf" check db1 db2
}
says_what_is_wrong() {
    chmod 600 "$work/servers.cnf"
    check_of_strangers >"$work/wrong" 2>&1
    [ $? = 1 ] && grep 'FAILURE .*log_bin is off on db2' "$work/wrong"
}

tar --extract --gzip --directory "$work" --file "$packages/instant-failover-$version-linux-$machine.tar.gz"
installer="$work/instant-failover-$version-linux-$machine/install.sh"
install -d -o mysql /run/mysqld
start_server /run/mysqld/mysqld.sock
sql "CREATE USER app IDENTIFIED BY 'secret'"
stop_server
cp -a /var/lib/mysql "$work/other"
chown mysql "$work"
chmod 755 "$work"
start_server "$work/socket" --datadir="$work/other" --port=3307 --pid-file="$work/other.pid"
other=$server
start_server /run/mysqld/mysqld.sock
files >"$work/before"
dpkg-deb --raw-extract "$plugin" "$work/next"
sed -i "s/^Version: .*/Version: $version-2/" "$work/next/DEBIAN/control"
dpkg-deb --build "$work/next" "$work/next.deb" >/dev/null

# An earlier build, with its option file.
old_cnf=/etc/mysql/mariadb.conf.d/instant_failover.cnf
dpkg-deb --raw-extract "$plugin" "$work/old"
rm "$work"/old/DEBIAN/p*
sed -i "s/^Version: .*/Version: $version-0/" "$work/old/DEBIAN/control"
mkdir -p "$work/old/etc/mysql/mariadb.conf.d"
printf '[mariadb]\n#loose_instant_failover_mode = OFF\n' >"$work/old$old_cnf"
echo $old_cnf >"$work/old/DEBIAN/conffiles"
dpkg-deb --build --root-owner-group "$work/old" "$work/old.deb" >/dev/null
old_file_is_gone() { ! find /etc/mysql -name '*instant_failover*' | grep .; }
edited_old_file_stays() { grep '^loose_instant_failover_mode = OFF$' $old_cnf; }

check 'plugin: an earlier build' dpkg --install "$work/old.deb"
check 'plugin: has an option file' test -e $old_cnf
check 'plugin: upgrade' dpkg --install "$plugin"
check 'plugin: an option file that was not edited is gone' old_file_is_gone
check 'plugin: the server goes on' kill -0 $server
dpkg --purge mariadb-plugin-instant-failover >"$work/said" 2>&1
check 'plugin: an earlier build, again' dpkg --install "$work/old.deb"
uncomment loose_instant_failover_mode OFF $old_cnf
check 'plugin: upgrade, again' dpkg --install "$plugin"
check 'plugin: an option file that was edited stays' edited_old_file_stays
check 'plugin: the same version over it' dpkg --install "$plugin"
check 'plugin: an option file that was edited stays' edited_old_file_stays
check 'plugin: purge, after an upgrade' dpkg --purge mariadb-plugin-instant-failover
check 'plugin: nothing is left of an upgrade' same_files

check 'plugin: installs while the server runs' dpkg --install "$plugin"
check 'plugin: its documents are complete' links /usr/share/doc/mariadb-plugin-instant-failover
check 'plugin: installing it changes nothing' let_in
check 'plugin: installing it loads nothing' loaded 0
check 'plugin: restart' restart_server
check 'plugin: not loaded by the next start either' loaded 0
check 'plugin: puts nothing into /etc' nothing_in_etc
check 'plugin: INSTALL SONAME' sql "INSTALL SONAME 'instant_failover'"
check 'plugin: SET GLOBAL' switch
check 'plugin: a client is redirected' redirected
check 'plugin: a client follows' follows
check 'plugin: a client with the example for services follows' follows_by_default
check 'plugin: UNINSTALL SONAME' sql "UNINSTALL SONAME 'instant_failover'"
cp /usr/share/instant-failover/instant_failover.cnf $plugin_cnf
for option in plugin_load_add=instant_failover loose_instant_failover_exempt_users=repl,monitor,dba \
    loose_instant_failover_exempt_hosts=192.0.2.0\\/24 loose_instant_failover_target=127.0.0.1:3307 \
    loose_instant_failover_mode=ON loose_instant_failover_hold_timeout=30; do
    uncomment "${option%%=*}" "${option#*=}" $plugin_cnf
done
cp $plugin_cnf "$work/edited.cnf"
check 'plugin: restart with the example un-commented' restart_server
check 'plugin: redirects from the start' undisturbed
check 'plugin: the same version again' dpkg --install "$plugin"
check 'plugin: the server goes on' undisturbed
check 'plugin: a higher version' dpkg --install "$work/next.deb"
check 'plugin: is the higher version' installed mariadb-plugin-instant-failover "${version}-2"
check 'plugin: the server goes on' undisturbed
check 'plugin: a client of the higher version follows' follows
check 'plugin: the configuration stays' cmp $plugin_cnf "$work/edited.cnf"
check 'plugin: remove' dpkg --remove mariadb-plugin-instant-failover
check 'plugin: the server goes on' undisturbed
check 'plugin: a server starts without it, its configuration being left' restart_server
check 'plugin: and lets every client in' let_in
check 'plugin: purge' dpkg --purge mariadb-plugin-instant-failover
check 'plugin: the configuration is left alone' cmp $plugin_cnf "$work/edited.cnf"
rm $plugin_cnf
check 'plugin: nothing is left' same_files

check 'stand-in: installs' dpkg --install "$packages/instant-failover-harness_${version}-1_${arch}.deb"
check 'stand-in: the server goes on' let_in
check 'stand-in: the units are right' systemd-analyze verify --man=no \
    /lib/systemd/system/instant-failover-harness.service /lib/systemd/system/instant-failover-harness.socket
check 'stand-in: the units are not enabled' not_enabled
has_tls=$(sql 'SELECT @@have_ssl')
check 'stand-in: the server stops' stop_server
check 'stand-in: does not start without a target' refuses_without_target
uncomment instant_failover_target 127.0.0.1:3307 $harness_cnf
[ "$has_tls" = YES ] || uncomment skip_ssl '' $harness_cnf
check 'plugin: installs for clients' dpkg --install "$plugin"
check 'tarball: leaves what belongs to a package alone' belongs_to_a_package
check 'stand-in: redirects, as the service starts it' stands_in \
    setpriv --reuid=mysql --regid=mysql --init-groups --no-new-privs --bounding-set=-all \
    instant-failover-harness --defaults-file=$harness_cnf
check 'stand-in: redirects on a port that systemd has opened' stands_in \
    systemd-socket-activate --listen=3306 instant-failover-harness --defaults-file=$harness_cnf
check 'stand-in: purge' dpkg --purge instant-failover-harness mariadb-plugin-instant-failover
start_server /run/mysqld/mysqld.sock
check 'stand-in: the server is back' let_in
check 'stand-in: nothing is left' same_files

check 'command: needs nothing but the C library' needs_only_libc
check 'command: installs' dpkg --install "$command"
check 'command: runs' version_of /usr/bin/instant-failover
check 'command: its manual page is there' gzip --test /usr/share/man/man1/instant-failover.1.gz
check 'command: its completions are there' has_completions /usr/share/bash-completion/completions/instant-failover \
    /usr/share/zsh/vendor-completions/_instant-failover /usr/share/fish/vendor_completions.d/instant-failover.fish
check 'command: its example is right' example_is_understood /usr/share/instant-failover/servers.cnf
check 'command: refuses a file that all can read' refuses_a_file_for_all
check 'command: says what is wrong with two servers' says_what_is_wrong
check 'command: purge' dpkg --purge instant-failover
check 'command: nothing is left' same_files

check 'tarball: installs' "$installer"
check 'tarball: the command runs' version_of /usr/local/bin/instant-failover
check 'tarball: its completions are there' has_completions /usr/local/share/bash-completion/completions/instant-failover \
    /usr/local/share/zsh/site-functions/_instant-failover /usr/local/share/fish/vendor_completions.d/instant-failover.fish
check 'tarball: its documents are complete' links /usr/local/share/doc/instant-failover
check 'tarball: INSTALL SONAME' sql "INSTALL SONAME 'instant_failover'"
check 'tarball: SET GLOBAL' switch
check 'tarball: a client is redirected' redirected
check 'tarball: a client follows' follows
check 'tarball: the same again' "$installer"
check 'tarball: mariadb_config names no real directory' mistaken_mariadb_config
check 'tarball: the server goes on' undisturbed
check 'tarball: the units are right' systemd-analyze verify --man=no /etc/systemd/system/instant-failover-harness.service
check 'tarball: uninstall' "$installer" --uninstall
check 'tarball: the server goes on' undisturbed
check 'tarball: UNINSTALL SONAME' sql "UNINSTALL SONAME 'instant_failover'"
check 'tarball: nothing is left' same_files
check 'the servers end well' stop_server
kill $other
wait $other
rm -rf "$work"
