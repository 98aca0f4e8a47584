//! The crate `mysql`, following instant failover: `connect(opts)` replaces `Conn::new(opts)`.
use mysql::{Conn, Error, MySqlError, Opts, OptsBuilder, prelude::Queryable};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Host and port if the error is 4196 (or 4200) and its message `|text|target`.
pub fn target_of(error: &MySqlError) -> Option<(String, u16)> {
    let target = error.message.strip_prefix('|').filter(|_| [4196, 4200].contains(&error.code))?.rsplit_once('|')?.1;
    let (host, port) = target.rsplit_once(':').filter(|_| !target.ends_with(']')).unwrap_or((target, "3306"));
    let last = host.rsplit('.').next()?.to_lowercase();
    let hex = last.strip_prefix("0x").is_some_and(|last| last.bytes().all(|b| b.is_ascii_hexdigit()));
    let known = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let label = |l: &str| (1..64).contains(&l.len()) && l.chars().all(known) && l.trim_matches('-') == l;
    let address = match host.strip_prefix('[') {
        Some(v6) => Some(v6.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?.to_canonical()),
        // A name that ends so must be an address (RFC 1123).
        None if hex || last.bytes().all(|b| b.is_ascii_digit()) => Some(IpAddr::V4(host.parse().ok()?)),
        None => None,
    };
    let good = match address {
        Some(IpAddr::V4(v4)) => v4.octets()[0] != 0 && !v4.is_multicast() && v4 != Ipv4Addr::BROADCAST,
        Some(IpAddr::V6(v6)) => !v6.is_unspecified() && !v6.is_multicast(),
        None => host.len() < 254 && host.split('.').all(label),
    };
    let port = port.parse().ok().filter(|_| good && !port.starts_with(['0', '+']))?;
    Some((address.map_or_else(|| host.to_owned(), |address| address.to_string()), port))
}

/// A server among those that were tried: names in lower case, and an address in its one form.
fn known_as(host: &str, port: u16) -> String {
    let address = host.parse::<IpAddr>().map(|address| address.to_canonical().to_string());
    format!("{}:{port}", address.unwrap_or_else(|_| host.to_lowercase()))
}

/// Connects as `opts` says, then to where the server says: over TCP, with the certificate checked against that host.
pub fn connect(opts: &Opts) -> mysql::Result<Conn> {
    let tcp = known_as(&opts.get_ip_or_hostname(), opts.get_tcp_port());
    let mut chain = vec![opts.get_socket().map_or(tcp, str::to_owned)];
    let mut next = OptsBuilder::from_opts(opts.clone()).init(Vec::<String>::new()); // not yet: no redirect
    loop {
        let error = match Conn::new(next.clone()) {
            Ok(mut conn) => return opts.get_init().iter().try_for_each(|sql| conn.query_drop(sql)).map(|()| conn),
            Err(Error::MySqlError(error)) => error,
            Err(other) => return Err(other),
        };
        let Some((host, port)) = target_of(&error) else { return Err(error.into()) };
        let here = known_as(&host, port);
        if chain.contains(&here) || chain.len() > 8 {
            let message = format!("Redirect loop or too many redirects: {} -> {here}", chain.join(" -> "));
            return Err(MySqlError { message, ..error }.into());
        }
        next = next.ip_or_hostname(Some(host)).tcp_port(port).socket(None::<String>).prefer_socket(false);
        chain.push(here);
    }
}
