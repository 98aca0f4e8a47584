# shellcheck shell=sh
# What the tests of the packages say and ask.
work=$(mktemp -d)
arch=$(dpkg --print-architecture)
machine=$(uname -m)
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

files() {
    find / -xdev \( -path /var/lib/mysql -o -path /var/lib/dpkg -o -path /var/lib/rpm -o -path /var/log -o -path /var/cache -o -path /tmp \
        -o -path /run -o -path /root \) -prune -o -print | sort
}
same_files() {
    files >"$work/after"
    diff "$work/before" "$work/after"
}

# start_server NAME OPTIONS...: sets $server to its process.
start_server() {
    socket=$1
    shift
    # Debian's service does no more.
    mariadbd --user=mysql --socket="$socket" "$@" >>"$work/server.log" 2>&1 &
    server=$!
    until mariadb-admin --socket="$socket" ping >/dev/null 2>&1; do
        kill -0 $server || { cat "$work/server.log"; exit 1; }
        sleep 0.1
    done
}
# A client of 11.4 and later verifies servers, which here have certificates that they made themselves: see docs/clients.md.
follows() { [ "$(INSTANT_FAILOVER_FOLLOW=always app --host=instant_failover://127.0.0.1)" = 3307 ]; }
# The same process goes on, and so does what it does.
undisturbed() { kill -0 "$server" && redirected; }
version_of() { [ "$("$1" --version)" = "instant-failover $version" ]; }
# has_completions BASH ZSH FISH: each knows a command and an option.
has_completions() {
    for file; do
        grep -q switchover "$file" && grep -q max-pause "$file" || return 1
    done
    bash -n "$1"
}
# stands_in COMMAND...: runs it until it has redirected a client.
stands_in() {
    "$@" >"$work/harness.log" 2>&1 &
    program=$!
    tries=0
    until redirected && follows; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || { cat "$work/harness.log"; kill $program; return 1; }
        sleep 0.1
    done
    kill -TERM $program
    wait $program
}

# For the tests that are services of a separate systemd.
skip_without_namespaces() {
    cat >/run/systemd/system/namespaces.service <<'UNIT'
[Service]
Type=oneshot
ExecStart=true
ProtectSystem=strict
PrivateDevices=yes
ProcSubset=pid
UNIT
    if ! systemctl start namespaces; then
        echo 'skipped  systemd: it cannot give a service namespaces here'
        exit
    fi
}
unknown() { ! systemctl cat "$1"; }
