#!/bin/sh
# Runs steps 1 to 6 of a switchover without a pause. For what comes before and after them, and why, see docs/operations.md.
set -eu

usage() {
    cat <<'TEXT'
usage: switchover.sh OLD NEW TARGET

  OLD, NEW   option files for the mariadb program to log in to each server as an administrator:
             [client] with host and port, or socket, and user and password. No other file is read.
             NEW is the replica of OLD.
  TARGET     where clients are redirected: the address of NEW as clients reach it, host:port
TEXT
}

fail() {
    echo "switchover.sh: $1" >&2
    exit 1
}

# on FILE STATEMENTS: runs them in a new session.
on() {
    mariadb --defaults-file="$1" --batch --skip-column-names --sigint-ignore --execute="$2"
}

# in_fence STATEMENTS: runs them in the session on OLD that holds the lock. Prints the result; fails if that session is gone.
in_fence() {
    printf '%s\n' "$1" "SELECT 'the end of the answer';" >&3
    while IFS= read -r line <&4; do
        [ "$line" != 'the end of the answer' ] || return 0
        printf '%s\n' "$line"
    done
    cat "$work/error" >&2
    return 1
}

# back WHY: rolls back, as long as NEW is not promoted. OLD is restored, and waiting statements there continue.
back() {
    undo="SET GLOBAL read_only = $was_read_only; UNLOCK TABLES; $events_on"
    in_fence "$undo" >/dev/null 2>&1 || on "$old" "$undo" ||
        fail "$1. The old primary does not respond. Run this there: $undo"
    fail "$1. Rolled back: the old primary is as it was before; no data is lost"
}

# ended EXIT_STATUS
ended() {
    rm -rf "$work"
    exit "$1"
}

[ $# -eq 3 ] || { usage >&2; exit 2; }
old=$1 new=$2 target=$3
work=$(mktemp -d)
trap 'ended $?' EXIT

# Check everything first, while nothing has changed.
unchanged='Nothing has changed'
id=$(on "$old" 'SELECT @@server_id') || fail "cannot connect to the old primary with $old. $unchanged"
status=$(mariadb --defaults-file="$new" --batch --vertical --execute='SHOW SLAVE STATUS') ||
    fail "cannot connect to the new primary with $new. $unchanged"
says() { printf '%s\n' "$status" | grep -q "^ *$1\$"; }
for thread in Slave_IO_Running Slave_SQL_Running; do
    says "$thread: Yes" || fail "replication is not running on the new primary: see SHOW SLAVE STATUS there. $unchanged"
done
says "Master_Server_Id: $id" || fail "the new primary is not a replica of the server in $old. $unchanged"
was_read_only=$(on "$old" 'SELECT @@read_only')
events_off='' events_on=''
# A server that was started with event_scheduler=DISABLED refuses any other value.
if [ "$(on "$old" 'SELECT @@event_scheduler')" = ON ]; then
    events_off='SET GLOBAL event_scheduler = OFF;' events_on='SET GLOBAL event_scheduler = ON;'
fi
position=$(on "$old" 'SELECT @@gtid_binlog_pos')
[ -n "$position" ] || fail "the old primary has no GTID position: is its binary log on? $unchanged"
[ "$(on "$new" "SELECT MASTER_GTID_WAIT('$position', 10)")" = 0 ] || fail "the replica is more than 10 s behind. $unchanged"
on "$old" "SET GLOBAL instant_failover_target = '$target'" || fail "the old primary rejected the target $target. $unchanged"

# A lost terminal must not leave half a switchover. Ctrl-C ends the wait for the replica, and nothing else.
trap '' HUP INT TERM PIPE

# Step 1. The session lasts until this script ends; a terminal's signals do not reach it.
mkfifo "$work/in" "$work/out"
setsid mariadb --defaults-file="$old" --batch --skip-column-names --unbuffered --skip-reconnect \
    <"$work/in" >"$work/out" 2>"$work/error" &
exec 3>"$work/in" 4<"$work/out"
position=$(in_fence "SET SESSION wait_timeout = 60, lock_wait_timeout = 5; $events_off
    FLUSH TABLES WITH READ LOCK; SET GLOBAL read_only = 1; SELECT @@gtid_binlog_pos;") ||
    back "cannot lock the old primary; is a long statement running?"

# Step 2.
waited=$(mariadb --defaults-file="$new" --batch --skip-column-names --execute="SELECT MASTER_GTID_WAIT('$position', 10)") ||
    waited='no result'
[ "$waited" = 0 ] || back "the replica has not reached $position: MASTER_GTID_WAIT returned $waited"

# Step 3. If the lock was lost, writes after the position would be lost.
start_again_and_back() {
    on "$new" 'START SLAVE' || echo "switchover.sh: START SLAVE failed on the replica; run it manually" >&2
    back "$1"
}
on "$new" 'STOP SLAVE' || start_again_and_back "cannot stop replication on the replica"
now=$(in_fence 'SELECT @@gtid_binlog_pos;') || now=unknown
[ "$now" = "$position" ] || start_again_and_back "the old primary is at $now, not at $position: the lock was lost"
# There is no rollback after this statement. If there is no response, it is unknown whether it took effect.
on "$new" 'SET GLOBAL read_only = 0' || while :; do
    state=$(on "$new" "SELECT @@read_only, COUNT(*) FROM information_schema.PROCESSLIST
        WHERE INFO LIKE 'SET GLOBAL read_only = 0%'") || state=unknown
    case $state in
    0*) break ;;
    1*0) start_again_and_back "cannot promote the replica" ;;
    esac
    echo "switchover.sh: the new primary does not respond. The old one stays locked until it does, or until you kill -9 $$." >&2
    in_fence 'DO 1;' || fail "the lock on the old primary is lost; check whether the new one accepts writes before you continue"
    sleep 1
done

# Steps 4 and 5. Kill by ID: KILL USER misses a session that runs another user's routine.
here="the new primary accepts writes, and clients are still on the old one: continue manually with step"
on "$new" 'SET GLOBAL instant_failover_mode = OFF' || fail "$here 4"
in_fence 'SET GLOBAL instant_failover_mode = ON;' || fail "$here 4"
left=$(in_fence "
DELIMITER //
BEGIN NOT ATOMIC
  DECLARE CONTINUE HANDLER FOR 1094 BEGIN END;
  SET @quiet = 0, @looks = 0;
  WHILE @quiet < 5 AND @looks < 200 DO
    SET @quiet = @quiet + 1, @looks = @looks + 1;
    FOR session IN (SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID()
        AND COMMAND NOT LIKE 'Binlog Dump%'
        AND USER NOT IN ('system user', 'event_scheduler', 'unauthenticated user')) DO
      KILL session.ID;
      SET @quiet = 0;
    END FOR;
    DO SLEEP(0.05);
  END WHILE;
END //
DELIMITER ;
SELECT @quiet;") || fail "$here 5"
[ "$left" = 5 ] || echo "switchover.sh: sessions keep connecting to the old primary: see its process list" >&2

# Step 6.
on "$new" 'RESET SLAVE ALL' || echo "switchover.sh: RESET SLAVE ALL failed on the new primary; run it manually" >&2
now=$(in_fence "UNLOCK TABLES; DO SLEEP(0.1); SELECT @@gtid_binlog_pos;") || now=unknown
[ "$now" = "$position" ] ||
    fail "the old primary is at $now, not at $position: it has writes that the new one does not have. Do step 6 manually"
echo "New connections are redirected to $target. Continue with step 7."
[ -z "$events_on" ] || echo "The event scheduler of the old primary is off until then."
