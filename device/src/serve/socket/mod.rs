//! Clients on a Unix socket, several at a time. Their messages are [`headroom_shared::wire`].
//!
//! Each client has a thread that reads and one that writes, with buffers of bounded size, so that whatever a client
//! does or leaves undone delays itself only.

mod bind;
mod connection;
mod incoming;
mod outgoing;

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use headroom_shared::wire::ErrorKind;

pub(super) use bind::Socket;

use super::control::Controls;
use super::{LAST_ANSWERS, ServeError};
use crate::lock::lock;
use crate::runtime::Runtime;

/// What connections share.
struct Context {
    runtime: Arc<Runtime>,
    controls: Controls,
    open: Mutex<HashMap<u64, Open>>,
    stopping: AtomicBool,
    complaints: Mutex<Complaints>,
}

/// A connection that is open.
struct Open {
    stream: UnixStream,
    thread: JoinHandle<()>,
}

/// A running server.
pub(super) struct Server {
    context: Arc<Context>,
    socket: Arc<Socket>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Serves up to `most` clients of `socket` at a time.
    pub(super) fn start(
        socket: Socket,
        runtime: Arc<Runtime>,
        controls: Controls,
        most: usize,
    ) -> Result<Self, ServeError> {
        let context = Arc::new(Context {
            runtime,
            controls,
            open: Mutex::default(),
            stopping: AtomicBool::new(false),
            complaints: Mutex::default(),
        });
        let socket = Arc::new(socket);
        let accepting = thread::Builder::new().name("socket".into()).spawn({
            let (context, socket) = (context.clone(), socket.clone());
            move || accept(&context, &socket, most)
        });
        let accepting = accepting.map_err(|source| ServeError::Thread { source })?;
        Ok(Self { context, socket, accepting })
    }

    /// Accepts no further client. Those who are there are told when they send something.
    pub(super) fn stop_accepting(&self) {
        self.context.stopping.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = UnixStream::connect(&self.socket.path);
    }

    /// Waits until all clients have their answers, but not for clients that do not take them.
    pub(super) fn end(self) {
        let _ = self.accepting.join();
        let open: Vec<Open> = lock(&self.context.open).drain().map(|(_, open)| open).collect();
        // Readers see the end of their stream, wait for the answers and say goodbye.
        open.iter().for_each(|open| drop(open.stream.shutdown(Shutdown::Read)));
        let end = Instant::now() + LAST_ANSWERS;
        for Open { stream, thread } in open {
            while !thread.is_finished() && Instant::now() < end {
                thread::sleep(Duration::from_millis(5));
            }
            let _ = stream.shutdown(Shutdown::Both);
            let _ = thread.join();
        }
    }
}

impl Context {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Logs what is wrong with a client, unless much is.
    fn complain(&self, what: &str) {
        lock(&self.complaints).log(what);
    }
}

fn accept(context: &Arc<Context>, socket: &Socket, most: usize) {
    for number in 0.. {
        let stream = socket.listener.accept();
        if context.is_stopping() {
            return;
        }
        if let Err(error) = stream.and_then(|(stream, _)| admit(context, stream, number, most)) {
            context.complain(&format!("a client was lost: {error}"));
            // Out of files or threads: some of those who are there may leave.
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn admit(context: &Arc<Context>, stream: UnixStream, number: u64, most: usize) -> io::Result<()> {
    let mut open = lock(&context.open);
    if open.len() >= most {
        drop(open);
        context.complain("a client was turned away: there are too many");
        outgoing::send_error(&stream, ErrorKind::TooManyClients, "too many clients");
        return Ok(());
    }
    let own = stream.try_clone()?;
    let connection = context.clone();
    let thread = thread::Builder::new().name(format!("client {number}")).spawn(move || {
        connection::serve(&connection, &own);
        // Entered before this can be: the lock is held until then.
        lock(&connection.open).remove(&number);
    })?;
    open.insert(number, Open { stream, thread });
    Ok(())
}

/// Lines about clients in the log: a few at a time, then only their number.
#[derive(Default)]
struct Complaints {
    since: Option<Instant>,
    logged: u32,
    kept: u32,
}

impl Complaints {
    const MOST: u32 = 10;
    const PERIOD: Duration = Duration::from_secs(60);

    fn log(&mut self, what: &str) {
        if self.since.is_none_or(|since| since.elapsed() > Self::PERIOD) {
            if self.kept > 0 {
                anstream::eprintln!("and {} more of the kind", self.kept);
            }
            *self = Self { since: Some(Instant::now()), logged: 0, kept: 0 };
        }
        if self.logged < Self::MOST {
            self.logged += 1;
            anstream::eprintln!("{what}");
        } else {
            self.kept += 1;
        }
    }
}
