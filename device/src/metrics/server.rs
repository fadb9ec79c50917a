//! The HTTP server that Prometheus asks, on a loopback port only.
//!
//! A connection is one request and one answer, on a thread of its own and
//! within [`PATIENCE`], so that clients that stall delay nobody; beyond
//! [`MAX_CONNECTIONS`] at a time they are hung up on. `GET /metrics` is the
//! text; everything else is refused. A body is never read. The server is for
//! the device itself: who wants the numbers elsewhere puts a proxy or an agent
//! before it, which can also say who may read them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

use super::Metrics;

/// How long a connection may take, from its acceptance to the end of the answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Connections at the same time: a few programs that watch, and some that stall.
const MAX_CONNECTIONS: usize = 32;

/// Bytes of the longest request up to its body.
const MAX_HEAD_BYTES: usize = 4096;

/// Header lines of a request.
const MAX_HEADERS: usize = 64;

/// Why there is no metrics server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// Whoever can reach the port reads how the device is used.
    #[error("metrics on {found}: expected a loopback address, such as 127.0.0.1:9477")]
    NotLoopback { found: SocketAddr },
    /// The port is taken, or not for this user.
    #[error("cannot listen on {address} for metrics")]
    Listen { address: SocketAddr, source: io::Error },
    /// The system gives no thread.
    #[error("cannot start the thread of the metrics")]
    Thread { source: io::Error },
}

/// A running server; stops when it is dropped.
#[derive(Debug)]
pub struct MetricsServer {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
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
        let listen = |source| MetricsError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = spawn("metrics", {
            let stopping = stopping.clone();
            move || accept(&listener, &stopping, &metrics)
        });
        Ok(Self { address, stopping, thread: Some(thread.map_err(|source| MetricsError::Thread { source })?) })
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
        // Wakes the thread that accepts; where that fails it is not waited for.
        if TcpStream::connect_timeout(&self.address, PATIENCE).is_ok()
            && let Some(thread) = self.thread.take()
        {
            // A panic there was printed there, and stopping goes on.
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(run)
}

fn accept(listener: &TcpListener, stopping: &AtomicBool, metrics: &Arc<Metrics>) {
    // Each connection's thread holds one more.
    let connections = Arc::new(());
    for stream in listener.incoming() {
        if stopping.load(Ordering::Relaxed) {
            break;
        }
        // The client may have gone by now, or descriptors have run out, which takes time to change.
        let Ok(stream) = stream else {
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        if Arc::strong_count(&connections) > MAX_CONNECTIONS {
            continue;
        }
        let (metrics, connection) = (metrics.clone(), connections.clone());
        // Without a thread, the client is hung up on.
        let _ = spawn("metrics client", move || {
            // Who has hung up or says nothing gets no answer.
            let _ = answer(stream, &metrics);
            drop(connection);
        });
    }
}

fn answer(mut stream: TcpStream, metrics: &Metrics) -> io::Result<()> {
    let begin = Instant::now();
    let mut head = Vec::with_capacity(512);
    let (status, body) = loop {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&head) {
            Ok(httparse::Status::Complete(_)) => break respond(&request, metrics),
            Ok(httparse::Status::Partial) if head.len() < MAX_HEAD_BYTES => {}
            Ok(httparse::Status::Partial) => break ("431 Request Header Fields Too Large", String::new()),
            Err(_) => break ("400 Bad Request", String::new()),
        }
        let left = PATIENCE.saturating_sub(begin.elapsed());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let mut part = [0; 512];
        match stream.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => head.extend_from_slice(&part[..read]),
        }
    };
    stream.set_write_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    stream.shutdown(Shutdown::Write)
}

/// Status line and body.
fn respond(request: &httparse::Request<'_, '_>, metrics: &Metrics) -> (&'static str, String) {
    let path = request.path.and_then(|path| path.split('?').next());
    match (request.method, path) {
        (Some("GET"), Some("/metrics")) => ("200 OK", metrics.to_text()),
        (_, Some("/metrics")) => ("405 Method Not Allowed", "only GET\n".into()),
        _ => ("404 Not Found", "the metrics are at /metrics\n".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
        assert!(TcpStream::connect(address).is_err(), "{address} still listens");
    }

    #[test]
    fn a_request_without_end_is_refused() {
        let server = start();
        let mut stream = TcpStream::connect(server.address()).unwrap();
        // The end of what is sent may find the connection closed already.
        let _ =
            stream.write_all(&[b"GET /metrics HTTP/1.1\r\nPadding: ".as_slice(), &[b'x'; 2 * MAX_HEAD_BYTES]].concat());
        let mut answer = [0; 12];
        if stream.read_exact(&mut answer).is_ok() {
            assert_eq!(&answer, b"HTTP/1.1 431");
        }
        assert!(ask(&server, "GET /metrics").starts_with("HTTP/1.1 200"));
    }
}
