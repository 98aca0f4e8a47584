//! The counters for Prometheus, over HTTP/1.1, one request per connection.
//!
//! See <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.

use std::fmt::Write;

use super::packet::Next;
use super::shared::Shared;

/// The maximum length of a request.
const MAX_REQUEST: usize = 8 * 1024;

/// One request, without its I/O.
#[derive(Debug, Default)]
pub struct Exchange {
    request: Vec<u8>,
}

impl Exchange {
    /// Takes bytes from the client, appends the answer to `out` once the request is complete, and returns what to do next.
    pub fn receive(&mut self, bytes: &[u8], shared: &Shared, out: &mut Vec<u8>) -> Next {
        self.request.extend_from_slice(bytes);
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        let (status, body) = match request.parse(&self.request) {
            Ok(httparse::Status::Partial) if self.request.len() <= MAX_REQUEST => return Next::Read,
            Ok(httparse::Status::Complete(_)) => match (request.method, request.path) {
                (Some("GET" | "HEAD"), Some("/metrics")) => ("200 OK", text(shared)),
                (Some("GET" | "HEAD"), _) => ("404 Not Found", "The metrics are at /metrics.\n".to_owned()),
                _ => ("405 Method Not Allowed", "Use GET.\n".to_owned()),
            },
            Ok(httparse::Status::Partial) => ("431 Request Header Fields Too Large", String::new()),
            Err(_) => ("400 Bad Request", String::new()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            body.len()
        );
        out.extend_from_slice(head.as_bytes());
        if request.method != Some("HEAD") {
            out.extend_from_slice(body.as_bytes());
        }
        Next::Close
    }
}

/// The names are those of `SHOW STATUS`, after the name of this program.
fn text(shared: &Shared) -> String {
    let mut text = String::new();
    for shown in shared.numbers() {
        let name =
            format!("instant_failover_harness_{}", shown.name.trim_start_matches("Instant_failover_").to_lowercase());
        let (kind, name) = if shown.gauge { ("gauge", name) } else { ("counter", name + "_total") };
        let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}\n{name} {}", shown.help, shown.value);
    }
    let mode = shared.settings().mode();
    let name = "instant_failover_harness_mode";
    let _ = writeln!(text, "# HELP {name} The current mode.\n# TYPE {name} gauge\n{name}{{mode=\"{mode}\"}} 1");
    text
}
