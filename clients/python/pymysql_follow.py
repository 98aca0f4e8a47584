"""PyMySQL that follows instant failover: connect() takes the options of pymysql.connect()."""
import ipaddress, re, pymysql

FORM = re.compile(r"\|.*\|(?:\[([0-9A-Fa-f:.]+)\]|([0-9A-Za-z_.-]{1,253}))(?::([1-9][0-9]{0,4}))?", re.DOTALL)
NAME = re.compile(r"((?!-)[0-9A-Za-z_-]{1,63}(?<!-)\.)*(?!-)[0-9A-Za-z_-]{1,63}(?<!-)")
NUMBER = re.compile(r"(^|\.)([0-9]+|0[xX][0-9A-Fa-f]*)$")  # a name that ends so must be an address (RFC 1123)
LEADING_ZERO = re.compile(r"(^|[.:])0[0-9]+\.|\.0[0-9]+$")  # in an IPv4 address; Python before 3.9.5 takes it
NO_HOST = [ipaddress.ip_network(block) for block in ("0.0.0.0/8", "224.0.0.0/4", "255.255.255.255", "::", "ff00::/8")]

def canonical(address):
    """An address in its one form: ::ffff:192.0.2.1 is 192.0.2.1. None for a name."""
    try:
        address = ipaddress.ip_address(address)
        return getattr(address, "ipv4_mapped", None) or address
    except ValueError:
        return None

def target_of(error):
    """Host and port if the error is 4196 (or 4200) and its message `|text|target`, else None."""
    form = len(error.args) == 2 and error.args[0] in (4196, 4200) and FORM.fullmatch(error.args[1])
    if not form or int(form[3] or 3306) > 65535 or form[2] and not NAME.fullmatch(form[2]):
        return None
    host = form[1] or form[2]
    if form[1] or NUMBER.search(host):
        address = canonical(host)
        if not address or bool(form[1]) != (":" in host) or LEADING_ZERO.search(host):
            return None
        if any(address in block for block in NO_HOST):
            return None
        host = str(address)
    return host, int(form[3] or 3306)

def connect(**options):
    init, target, chain = options.pop("init_command", None), None, []
    while True:
        connection = pymysql.Connection(**options, defer_connect=True)
        if target:  # over TCP, the rest as asked for; a certificate is checked against this host
            connection.host, connection.port, connection.unix_socket = *target, None
        host = canonical(connection.host) or connection.host
        chain.append(connection.unix_socket or "{}:{}".format(host, connection.port).lower())
        if chain[-1] in chain[:-1] or len(chain) > 9:  # nine servers are eight redirects
            raise pymysql.OperationalError(4196, "Redirect loop or too many redirects: " + " -> ".join(chain))
        try:
            connection.connect()
            break
        except pymysql.MySQLError as error:
            target = target_of(error)
            if not target or not hasattr(connection, "server_version"):  # before the greeting is before TLS: distrust it
                raise
    if init:  # only now: its errors are no redirects
        connection.init_command = init
        connection.query(init)
    return connection
