//! The crate `mysql`, following instant failover: `connect(opts)` stands for `Conn::new(opts)`.
use mysql::{Conn, Error, MySqlError, Opts, OptsBuilder, prelude::Queryable};

/// Host and port if the error is 4196 (or 4200) and its message `|text|target`.
fn target_of(error: &MySqlError) -> Option<(&str, u16)> {
    let target = error.message.strip_prefix('|').filter(|_| [4196, 4200].contains(&error.code))?.rsplit_once('|')?.1;
    let (host, port) = target.rsplit_once(':').filter(|_| !target.ends_with(']')).unwrap_or((target, "3306"));
    let last = host.rsplit('.').next()?.to_lowercase();
    let hex = last.strip_prefix("0x").is_some_and(|last| last.bytes().all(|b| b.is_ascii_hexdigit()));
    let known = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let label = |l: &str| (1..64).contains(&l.len()) && l.chars().all(known) && l.trim_matches('-') == l;
    let good = match host.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().is_ok(),
        None if hex || last.bytes().all(|b| b.is_ascii_digit()) => host.parse::<std::net::Ipv4Addr>().is_ok(), // RFC 1123
        None => host.len() < 254 && host.split('.').all(label),
    };
    Some((host, port.parse().ok().filter(|_| good && !port.starts_with(['0', '+']))?))
}

/// Connects as `opts` says, then to where the server says: over TCP, with the certificate checked against that host.
pub fn connect(opts: &Opts) -> mysql::Result<Conn> {
    let tcp = format!("{}:{}", opts.get_ip_or_hostname(), opts.get_tcp_port());
    let mut chain = vec![opts.get_socket().map_or(tcp, str::to_owned)];
    let mut next = OptsBuilder::from_opts(opts.clone()).init(Vec::<String>::new()); // not yet: no redirect
    loop {
        let error = match Conn::new(next.clone()) {
            Ok(mut conn) => return opts.get_init().iter().try_for_each(|sql| conn.query_drop(sql)).map(|()| conn),
            Err(Error::MySqlError(error)) => error,
            Err(other) => return Err(other),
        };
        let Some((host, port)) = target_of(&error) else { return Err(error.into()) };
        let here = format!("{host}:{port}").to_lowercase();
        if chain.contains(&here) || chain.len() > 8 {
            let message = format!("Redirected in circles, or too often: {} -> {here}", chain.join(" -> "));
            return Err(MySqlError { message, ..error }.into());
        }
        next = next.ip_or_hostname(Some(host)).tcp_port(port).socket(None::<String>).prefer_socket(false);
        chain.push(here);
    }
}
