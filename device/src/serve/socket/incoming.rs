//! Reading messages from a client that may stall or send anything.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use headroom_shared::wire::{LENGTH_BYTES, WireError, payload_length};

/// How long a client may take for one message once it has begun it, and for its hello.
const MESSAGE_TIME: Duration = Duration::from_secs(5);

/// Bytes for which room is made at a time: a length alone reserves nothing.
const STEP: usize = 256 << 10;

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub(super) enum IncomingError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("no whole message came in time")]
    Stalled,
    #[error("the stream ended inside a message")]
    Cut,
    #[error("reading failed: {0}")]
    Read(io::Error),
}

/// The messages of one client.
pub(super) struct Incoming<'a> {
    stream: &'a UnixStream,
    buffer: Vec<u8>,
}

impl<'a> Incoming<'a> {
    pub(super) fn new(stream: &'a UnixStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// The first message, of at most `most` bytes; `None` at the end of the stream.
    pub(super) fn first(&mut self, most: u32) -> Result<Option<&[u8]>, IncomingError> {
        self.message(most, Some(Instant::now() + MESSAGE_TIME))
    }

    /// The next message, however long the client waits before it; `None` at the end of the stream.
    pub(super) fn next(&mut self, most: u32) -> Result<Option<&[u8]>, IncomingError> {
        self.message(most, None)
    }

    fn message(&mut self, most: u32, first_byte_by: Option<Instant>) -> Result<Option<&[u8]>, IncomingError> {
        let mut prefix = [0; LENGTH_BYTES];
        let begun = self.read(&mut prefix, first_byte_by)?;
        if begun == 0 {
            return Ok(None);
        }
        let end = Instant::now() + MESSAGE_TIME;
        self.read_all(&mut prefix[begun..], end)?;
        let length = payload_length(prefix, most)?;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        while buffer.len() < length {
            let filled = buffer.len();
            buffer.resize(length.min(filled + STEP), 0);
            self.read_all(&mut buffer[filled..], end)?;
        }
        self.buffer = buffer;
        Ok(Some(&self.buffer))
    }

    fn read_all(&mut self, mut buffer: &mut [u8], end: Instant) -> Result<(), IncomingError> {
        while !buffer.is_empty() {
            match self.read(buffer, Some(end))? {
                0 => return Err(IncomingError::Cut),
                read => buffer = &mut buffer[read..],
            }
        }
        Ok(())
    }

    /// Some bytes, 0 at the end of the stream.
    fn read(&mut self, buffer: &mut [u8], end: Option<Instant>) -> Result<usize, IncomingError> {
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(IncomingError::Stalled);
            }
            self.stream.set_read_timeout(left).map_err(IncomingError::Read)?;
            match self.stream.read(buffer) {
                Ok(read) => return Ok(read),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {}
                    // Whoever hangs up with answers unread.
                    io::ErrorKind::ConnectionReset => return Ok(0),
                    _ => return Err(IncomingError::Read(error)),
                },
            }
        }
    }
}
