#!/bin/sh
# Steps 1 to 5 of a switchover, without a pause between them. What comes before and after them: docs/operations.md.
set -eu

usage() {
    cat <<'TEXT'
usage: switchover.sh OLD NEW TARGET USER...

  OLD, NEW   option files with which the mariadb program gets into either server as an administrator:
             [client] with host and port, or socket, and user and password. NEW is the replica of OLD.
  TARGET     where clients are sent: the address of NEW as they reach it, host:port
  USER...    the users of the application, whose sessions on OLD are ended
TEXT
}

fail() {
    echo "switchover.sh: $1" >&2
    exit 1
}

# back WHY
back() {
    on "$old" "SET GLOBAL read_only = 0" ||
        fail "$1. And the old primary does not answer: SET GLOBAL read_only = 0 there"
    fail "$1. The old primary takes writes as before; nothing is lost"
}

# on FILE STATEMENTS
on() {
    mariadb --defaults-extra-file="$1" --batch --skip-column-names --execute="$2"
}

[ $# -ge 4 ] || { usage >&2; exit 2; }
old=$1 new=$2 target=$3
shift 3
kill_sessions=''
for user in "$@"; do
    kill_sessions="$kill_sessions KILL USER '$user';"
done

# What can be refused, before anything has changed.
[ "$(on "$new" "SHOW GLOBAL STATUS LIKE 'Slave_running'")" = "Slave_running	ON" ] ||
    fail "the new primary is not a replica that runs: look at SHOW SLAVE STATUS there. Nothing has changed"
on "$old" "SET GLOBAL instant_failover_target = '$target'"

# Not half a switchover because a terminal is gone. Ctrl-C ends the statement that runs, and what is said there holds.
trap '' HUP INT

position=$(on "$old" "SET lock_wait_timeout = 5; SET GLOBAL read_only = 1; SELECT @@gtid_binlog_pos") ||
    back "the old primary did not become read only; is a statement running for long?"
waited=$(on "$new" "SELECT MASTER_GTID_WAIT('$position', 10)") || waited='no answer'
[ "$waited" = 0 ] || back "the replica has not reached $position: MASTER_GTID_WAIT gave $waited"
# From here on there is no way back.
on "$new" "STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only = 0; SET GLOBAL instant_failover_mode = OFF" ||
    fail "the new primary is not promoted, and the old one takes no writes: go on by hand with step 3"
on "$old" "SET GLOBAL instant_failover_mode = ON; $kill_sessions" ||
    fail "clients are still at the old primary, which takes no writes: go on by hand with step 4"
echo "New connections are sent to $target. Go on with step 6."
