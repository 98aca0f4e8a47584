#!/bin/sh
# Installs the files beside this script, or removes them. A running server is not touched: each file is put in place by a
# rename, so that a loaded library is never overwritten.
set -eu

usage() {
    cat <<'TEXT'
usage: ./install.sh [--uninstall] [--prefix=DIR] [--destdir=DIR] [--plugin-dir=DIR] [--client-plugin-dir=DIR]

  --uninstall              remove what was installed; changed configuration files are kept
  --prefix=DIR             where to install the programs and their documents (/usr/local)
  --destdir=DIR            install everything below this directory, for a package or an image
  --plugin-dir=DIR         the server's plugin directory; by default, ask mariadbd
  --client-plugin-dir=DIR  Connector/C's plugin directory; by default, ask mariadb_config
TEXT
}

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

here=$(cd "$(dirname "$0")" && pwd)
uninstall=no prefix=/usr/local destdir='' plugins='' client_plugins=''
for argument in "$@"; do
    case $argument in
    --uninstall) uninstall=yes ;;
    --prefix=*) prefix=${argument#*=} ;;
    --destdir=*) destdir=${argument#*=} ;;
    --plugin-dir=*) plugins=${argument#*=} ;;
    --client-plugin-dir=*) client_plugins=${argument#*=} ;;
    --help | -h) usage && exit ;;
    *) usage >&2 && fail "unknown option: $argument" ;;
    esac
done
PATH=$PATH:/usr/sbin:/usr/local/sbin
if [ -z "$plugins" ] && command -v mariadbd >/dev/null; then
    # What the server would use with its own configuration.
    plugins=$(mariadbd --verbose --help 2>/dev/null | sed -n 's/^plugin-dir  *//p')
fi
if [ -z "$client_plugins" ]; then
    command -v mariadb_config >/dev/null && client_plugins=$(mariadb_config --plugindir)
    # Where Debian and its derivatives have it. mariadb_config is in the development package, and that of 11.8 in forky
    # names no real directory where there is no compiler.
    if [ ! -d "$client_plugins" ]; then
        for directory in /usr/lib/*/libmariadb3/plugin; do
            [ -d "$directory" ] && client_plugins=$directory
        done
    fi
fi
# A package's files are the package manager's to change.
for directory in "$plugins" "$client_plugins"; do
    library=${directory%/}/instant_failover.so
    if [ -z "$destdir" ] && [ -e "$library" ] && command -v dpkg >/dev/null && dpkg -S "$library" >/dev/null 2>&1; then
        fail "$library belongs to a package; remove it first: apt-get remove mariadb-plugin-instant-failover"
    fi
done
[ -n "$plugins$client_plugins" ] ||
    fail "found neither a server nor Connector/C; give --plugin-dir or --client-plugin-dir"

# put MODE FILE DESTINATION
put() {
    target=$destdir$3
    if [ "$uninstall" = yes ]; then
        rm -f "$target"
        return
    fi
    mkdir -p "$(dirname "$target")"
    cp "$here/$2" "$target.new"
    chmod "$1" "$target.new"
    mv -f "$target.new" "$target"
    echo "$target"
}

# The same for configuration: an existing file is kept.
put_configuration() {
    target=$destdir$2
    if [ "$uninstall" = yes ]; then
        if cmp -s "$here/$1" "$target"; then rm -f "$target"; fi
    elif [ ! -e "$target" ]; then
        put 644 "$1" "$2"
    fi
}

# put_directory DIRECTORY DESTINATION
put_directory() {
    target=$destdir$2
    if [ "$uninstall" = yes ]; then
        rm -rf "$target"
        return
    fi
    rm -rf "$target.new"
    mkdir -p "$(dirname "$target")"
    cp -R "$here/$1" "$target.new"
    rm -rf "$target"
    mv "$target.new" "$target"
    echo "$target"
}

[ -z "$plugins" ] || put 644 lib/instant_failover.so "${plugins%/}/instant_failover.so"
[ -z "$client_plugins" ] || put 644 lib/instant_failover.so "${client_plugins%/}/instant_failover.so"
for program in instant-failover instant-failover-harness; do
    put 755 "bin/$program" "$prefix/bin/$program"
done
put 644 man/instant-failover.1 "$prefix/share/man/man1/instant-failover.1"
put 644 man/instant-failover-harness.8 "$prefix/share/man/man8/instant-failover-harness.8"
put 644 completions/instant-failover.bash "$prefix/share/bash-completion/completions/instant-failover"
put 644 completions/_instant-failover "$prefix/share/zsh/site-functions/_instant-failover"
put 644 completions/instant-failover.fish "$prefix/share/fish/vendor_completions.d/instant-failover.fish"
put_directory doc "$prefix/share/doc/instant-failover"
put_directory share "$prefix/share/instant-failover"
put_configuration etc/instant-failover-harness.cnf /etc/instant-failover-harness.cnf
for unit in instant-failover-harness.service instant-failover-harness.socket; do
    put 644 "systemd/$unit" "/etc/systemd/system/$unit"
    if [ "$uninstall" = no ]; then
        sed -i "s|/usr/bin/instant-failover-harness|$prefix/bin/instant-failover-harness|" "$destdir/etc/systemd/system/$unit"
    fi
done

if [ "$uninstall" = yes ]; then
    # Those of them that hold nothing else.
    for directory in share/doc share/man/man1 share/man/man8 share/bash-completion/completions share/bash-completion \
        share/zsh/site-functions share/zsh share/fish/vendor_completions.d share/fish; do
        rmdir "$destdir$prefix/$directory" 2>/dev/null || true
    done
    cat <<'TEXT'
Removed. A server that has loaded the plugin keeps using it until you unload it, in this order:

    SET GLOBAL instant_failover_mode = OFF;
    UNINSTALL SONAME 'instant_failover';
    SHOW WARNINGS;

Warning 1620 means that a session still uses the plugin; it is unloaded when that session ends.
TEXT
else
    cat <<'TEXT'

Nothing is loaded or started yet. To load the plugin into a running server, as root:

    INSTALL SONAME 'instant_failover';

If an older build is already loaded, the server uses the new one after a restart.
TEXT
fi
