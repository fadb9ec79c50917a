//! The HTTP server that Prometheus asks, on a loopback port only.
//!
//! One thread answers one request after the other. `GET /metrics` is the text;
//! everything else is refused. A body is never read. The server is for the
//! device itself: who wants the numbers elsewhere puts a proxy or an agent
//! before it, which can also say who may read them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
use tiny_http::{Header, Method, Response, Server};

use super::Metrics;

/// Why there is no metrics server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// Whoever can reach the port reads how the device is used.
    #[error("metrics on {found}: expected a loopback address, such as 127.0.0.1:9477")]
    NotLoopback { found: SocketAddr },
    /// The port is taken, or not for this user.
    #[error("cannot listen on {address} for metrics")]
    Listen { address: SocketAddr, source: Box<dyn std::error::Error + Send + Sync> },
    /// The system gives no thread.
    #[error("cannot start the thread of the metrics")]
    Thread { source: std::io::Error },
}

/// A running server; stops when it is dropped.
pub struct MetricsServer {
    address: SocketAddr,
    server: Arc<Server>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for MetricsServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("MetricsServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl MetricsServer {
    /// Serves `metrics` on `address`; port 0 takes any free one.
    ///
    /// # Errors
    /// If the address is not a loopback one or cannot be listened on.
    pub fn start(address: SocketAddr, metrics: Arc<Metrics>) -> Result<Self, MetricsError> {
        if !address.ip().is_loopback() {
            return Err(MetricsError::NotLoopback { found: address });
        }
        let server = Server::http(address).map_err(|source| MetricsError::Listen { address, source })?;
        let address = server.server_addr().to_ip().unwrap_or(address);
        let server = Arc::new(server);
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new()
            .name("metrics".into())
            .spawn({
                let (server, stopping) = (Arc::clone(&server), Arc::clone(&stopping));
                move || serve(&server, &stopping, &metrics)
            })
            .map_err(|source| MetricsError::Thread { source })?;
        Ok(Self { address, server, stopping, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.server.unblock();
        if let Some(thread) = self.thread.take() {
            // A panic there was printed there, and stopping goes on.
            let _ = thread.join();
        }
    }
}

fn serve(server: &Server, stopping: &AtomicBool, metrics: &Metrics) {
    while !stopping.load(Ordering::Relaxed) {
        // An error is either the wake-up of `drop` or a socket that is lost for good: the library accepts nothing more.
        let Ok(request) = server.recv() else { break };
        let found = request.url().split('?').next() == Some("/metrics");
        let response = match (request.method(), found) {
            (Method::Get | Method::Head, true) => {
                let content_type = Header::from_bytes("Content-Type", CONTENT_TYPE).ok();
                let response = Response::from_string(metrics.to_text());
                content_type.into_iter().fold(response, Response::with_header)
            }
            (_, true) => Response::from_string("only GET\n").with_status_code(405),
            (_, false) => Response::from_string("the metrics are at /metrics\n").with_status_code(404),
        };
        // Who has hung up wants no answer.
        let _ = request.respond(response);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};
    use std::time::Duration;

    use super::*;

    const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    fn start() -> MetricsServer {
        MetricsServer::start(ANY_PORT, Arc::new(Metrics::new())).unwrap()
    }

    fn ask(server: &MetricsServer, request: &str) -> String {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        write!(stream, "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn metrics_are_served_as_prometheus_reads_them() {
        let server = start();
        let answer = ask(&server, "GET /metrics");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("text/plain; version=0.0.4"), "{answer}");
        assert!(answer.contains("headroom_active_rung 0"), "{answer}");
        assert!(ask(&server, "GET /").starts_with("HTTP/1.1 404"));
        assert!(ask(&server, "POST /metrics").starts_with("HTTP/1.1 405"));
    }

    #[test]
    fn only_loopback_addresses_are_served() {
        for address in [IpAddr::from([0, 0, 0, 0]), Ipv6Addr::UNSPECIFIED.into(), IpAddr::from([192, 168, 0, 1])] {
            let refused = MetricsServer::start((address, 0).into(), Arc::new(Metrics::new()));
            assert!(matches!(refused, Err(MetricsError::NotLoopback { .. })), "{address}");
        }
    }

    #[test]
    fn a_port_that_is_taken_is_named() {
        let server = start();
        let error = MetricsServer::start(server.address(), Arc::new(Metrics::new())).unwrap_err();
        assert!(error.to_string().contains(&server.address().to_string()), "{error}");
    }

    #[test]
    fn clients_that_stall_or_send_garbage_stop_neither_the_answers_nor_the_end() {
        let server = start();
        let stalled: Vec<TcpStream> = (0..20)
            .map(|client| {
                let mut stream = TcpStream::connect(server.address()).unwrap();
                let garbage: &[u8] = [b"GET /metr".as_slice(), b"", &[0xff; 64], b"\r\n\r\n\r\n"][client % 4];
                stream.write_all(garbage).unwrap();
                stream
            })
            .collect();
        assert!(ask(&server, "GET /metrics").starts_with("HTTP/1.1 200"));
        let address = server.address();
        drop(server);
        drop(stalled);
        // The port is free again, at the latest once the listening thread has noticed.
        let again = (0..100).find_map(|_| {
            std::thread::sleep(Duration::from_millis(20));
            MetricsServer::start(address, Arc::new(Metrics::new())).ok()
        });
        assert!(again.is_some(), "{address} is still taken");
    }
}
