//! nginx, configured to answer every request with a redirect: a well-known server doing the same job.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use support::free_port;

use super::TARGET;
use super::server::Server;

pub(super) fn start(dir: &Path) -> Result<Server> {
    let address = (Ipv4Addr::LOCALHOST, free_port()?).into();
    let configuration = dir.join("nginx.conf");
    fs::write(&configuration, text(address))?;
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-e").arg("stderr").arg("-p").arg(dir).arg("-c").arg(configuration);
    Server::start(&mut command, dir, |_| TcpStream::connect(address).ok().map(|_| address))
}

/// Each connection serves one request, just as a MariaDB connection serves one login.
fn text(address: SocketAddr) -> String {
    let paths: String =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|name| format!("{name}_temp_path .; ")).concat();
    format!(
        "daemon off;
         pid nginx.pid;
         worker_processes auto;
         events {{ worker_connections 1024; }}
         http {{
             {paths}
             access_log off;
             server_tokens off;
             keepalive_timeout 0;
             server {{
                 listen {address};
                 return 302 http://{TARGET}/;
             }}
         }}"
    )
}
