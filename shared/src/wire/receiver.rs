//! Messages out of the bytes of a serial line.

/// Collects bytes up to a 0.
#[derive(Debug)]
pub struct Receiver<'a> {
    buffer: &'a mut [u8],
    /// Bytes of the message so far; more than the buffer holds if it is too long.
    length: usize,
}

/// What the bytes up to a 0 were.
#[derive(Debug)]
pub enum Received<'r> {
    /// A message, still in its byte stuffing.
    Message(&'r mut [u8]),
    /// More bytes than there is room for, which are lost.
    TooLong { bytes: usize },
}

impl<'a> Receiver<'a> {
    /// With room for the longest message, in its byte stuffing.
    #[must_use]
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, length: 0 }
    }

    /// The most bytes of a message.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buffer.len()
    }

    /// Takes a byte; a 0 ends a message. Empty ones are line noise and nothing.
    pub fn push(&mut self, byte: u8) -> Option<Received<'_>> {
        if byte != 0 {
            if let Some(place) = self.buffer.get_mut(self.length) {
                *place = byte;
            }
            self.length = self.length.saturating_add(1);
            return None;
        }
        match core::mem::take(&mut self.length) {
            0 => None,
            bytes if bytes > self.buffer.len() => Some(Received::TooLong { bytes }),
            bytes => Some(Received::Message(&mut self.buffer[..bytes])),
        }
    }
}
