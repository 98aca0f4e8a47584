#!/bin/sh
# MariaDB's own programs, which follow: Connector/C takes the URL in --host.
# Reads one command per line, and answers each with a line. The argument is the name of the program.

program=$1

# Runs the program as the client under test.
there() {
    set -- --user="$DB_USER" --password="$DB_PASSWORD" --host="$DB_HOST" --port="$DB_PORT" "$@"
    if [ -n "$DB_AUTHORITY" ]; then
        set -- --ssl-ca="$DB_AUTHORITY" --ssl-verify-server-cert "$@"
    else
        set -- --skip-ssl "$@"
    fi
    "$program" --no-defaults "$@"
}

# Runs SQL on the servers that have tables, through the ports that do not redirect.
direct() {
    for port in $DB_DIRECT; do
        mariadb --no-defaults --skip-ssl --user="$DB_USER" --password="$DB_PASSWORD" --host=127.0.0.1 --port="$port" \
            --skip-column-names --execute="$1" "$DB_NAME" || return
    done
}

use() {
    case $program in
    mariadb)
        middle=$DB_QUERY
        if [ -n "$DB_CONDITION" ]; then
            middle="PREPARE statement FROM '$DB_QUERY $DB_CONDITION'; SET @one = 1; EXECUTE statement USING @one"
        fi
        there --skip-column-names "$DB_NAME" --execute="$DB_QUERY; $middle; $DB_QUERY"
        ;;
    mariadb-dump)
# The dump contains the row that names the server.
        there --compact --no-create-info --skip-lock-tables "$DB_NAME" this_server >dump || return
        sed -n "s/^('\(.*\)');$/\1/p; s/^INSERT INTO .* VALUES ('\(.*\)');$/\1/p" dump
        ;;
    mariadb-admin)
        there variables >variables || return
        sed -n 's/^| instant_failover_exempt_users *| *\([^ ]*\) *|$/\1/p' variables
        ;;
    mariadb-import)
# The imported row is on one of the servers.
        direct 'DELETE FROM arrivals' || return
        echo here >arrivals.txt
        there --local --silent "$DB_NAME" arrivals.txt || return
        direct 'SELECT name FROM this_server, arrivals'
        ;;
    esac
}

scheme=${DB_HOST%127.0.0.1}
while read -r command servers; do
# The servers of a list are separated by tabs; the client expects commas.
    if [ "$command" = list ]; then DB_HOST=$scheme$(echo "$servers" | tr '\t' ,); fi
    if text=$(use 2>&1); then echo "ok" $text; else echo "error" $text; fi
done
