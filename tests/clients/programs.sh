#!/bin/sh
# MariaDB's own programs, which follow: Connector/C takes the URL in --host.
# A command a line in, an answer a line out. The name of the program is the argument.

program=$1
query="SELECT name FROM this_server"

# Runs the program as the client under test.
there() {
    "$program" --no-defaults --user="$DB_USER" --password="$DB_PASSWORD" --host="$DB_HOST" --port="$DB_PORT" "$@"
}

# Runs SQL on one of the servers, by the port that never redirects.
direct() {
    mariadb --no-defaults --user="$DB_USER" --password="$DB_PASSWORD" --host=127.0.0.1 --port="$1" \
        --skip-column-names --execute="$2" "$DB_NAME"
}

use() {
    case $program in
    mariadb)
        there --skip-column-names "$DB_NAME" --execute="$query;
            PREPARE statement FROM '$query WHERE 1 = ?'; SET @one = 1; EXECUTE statement USING @one; $query"
        ;;
    mariadb-dump)
        # The dump has the row that says which server it is.
        there --compact --no-create-info --skip-lock-tables "$DB_NAME" this_server >dump || return
        sed -n "s/^('\(.*\)');$/\1/p; s/^INSERT INTO .* VALUES ('\(.*\)');$/\1/p" dump
        ;;
    mariadb-admin)
        there variables >variables || return
        sed -n 's/^| report_host *| *\([^ ]*\) *|$/\1/p' variables
        ;;
    mariadb-import)
        # The row that it brings is found on one of the servers.
        direct "$DB1_DIRECT" 'DELETE FROM arrivals' && direct "$DB2_DIRECT" 'DELETE FROM arrivals' || return
        echo here >arrivals.txt
        there --local --silent "$DB_NAME" arrivals.txt || return
        direct "$DB1_DIRECT" "$query, arrivals" && direct "$DB2_DIRECT" "$query, arrivals"
        ;;
    esac
}

while read -r _; do
    if text=$(use 2>&1); then echo "ok" $text; else echo "error" $text; fi
done
