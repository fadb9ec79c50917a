//! One file of the kernel that tells one thing: opened once, read again and again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::reading::Missing;

/// Longer than anything that a pass reads; what fills it is no number.
const BUFFER_BYTES: usize = 128;

/// Where a pass reads to.
pub(super) type Buffer = [u8; BUFFER_BYTES];

/// An open file, or why there is none.
#[derive(Debug)]
pub(super) struct Attribute {
    file: Result<File, Missing>,
}

impl Attribute {
    pub(super) fn open(path: PathBuf) -> Self {
        // Without NONBLOCK, opening a pipe would wait for somebody to write into it.
        let flags = OFlags::NONBLOCK.bits() as i32;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| reason(&error));
        Self { file }
    }

    /// Of no file.
    pub(super) fn absent() -> Self {
        Self { file: Err(Missing::Absent) }
    }

    /// Whether there was such a file, readable or not.
    pub(super) fn is_there(&self) -> bool {
        !matches!(self.file, Err(Missing::Absent))
    }

    /// Its device is gone.
    pub(super) fn close(&mut self) {
        self.file = Err(Missing::Vanished);
    }

    /// The text from the start of the file, without white space around it.
    pub(super) fn text<'b>(&mut self, buffer: &'b mut [u8]) -> Result<&'b str, Missing> {
        let length = match &self.file {
            Ok(file) => file.read_at(buffer, 0).map_err(|error| reason(&error)),
            Err(missing) => Err(*missing),
        };
        if length == Err(Missing::Vanished) {
            self.close();
        }
        let length = length?;
        if length == buffer.len() {
            return Err(Missing::Malformed);
        }
        let text = core::str::from_utf8(&buffer[..length]).map_err(|_| Missing::Malformed)?;
        Ok(text.trim_matches(|letter: char| letter.is_whitespace() || letter == '\0'))
    }

    /// The whole number that the file tells.
    pub(super) fn number(&mut self, buffer: &mut Buffer) -> Result<i64, Missing> {
        self.text(buffer)?.parse().map_err(|_| Missing::Malformed)
    }
}

/// What an error of the kernel says about a sensor. Drivers use many codes
/// (EAGAIN, ENODATA, EIO, ETIMEDOUT, EINVAL) for "not now".
fn reason(error: &io::Error) -> Missing {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT | Errno::NOTDIR) => Missing::Absent,
        Some(Errno::NODEV | Errno::NXIO) => Missing::Vanished,
        Some(Errno::ACCESS | Errno::PERM) => Missing::Denied,
        _ => Missing::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_kernel_have_a_reason() {
        for (errno, expected) in [
            (Errno::NOENT, Missing::Absent),
            (Errno::NODEV, Missing::Vanished),
            (Errno::NXIO, Missing::Vanished),
            (Errno::ACCESS, Missing::Denied),
            (Errno::PERM, Missing::Denied),
            (Errno::AGAIN, Missing::Unavailable),
            (Errno::NODATA, Missing::Unavailable),
            (Errno::IO, Missing::Unavailable),
            (Errno::TIMEDOUT, Missing::Unavailable),
        ] {
            assert_eq!(reason(&io::Error::from_raw_os_error(errno.raw_os_error())), expected, "{errno:?}");
        }
    }

    #[test]
    fn a_file_is_read_again_from_its_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("temp");
        let mut buffer = [0; BUFFER_BYTES];
        assert_eq!(Attribute::open(path.clone()).number(&mut buffer), Err(Missing::Absent));
        std::fs::write(&path, "48500\n").unwrap();
        let mut attribute = Attribute::open(path.clone());
        assert_eq!(attribute.number(&mut buffer), Ok(48_500));
        for (content, expected) in [
            ("-1\n".as_bytes(), Ok(-1)),
            (b"7", Ok(7)),
            (b"", Err(Missing::Malformed)),
            (b"\n", Err(Missing::Malformed)),
            (b"N/A\n", Err(Missing::Malformed)),
            (b"1.5\n", Err(Missing::Malformed)),
            (b"99999999999999999999\n", Err(Missing::Malformed)),
            (b"\xff\xfe", Err(Missing::Malformed)),
            (&[b'1'; 4096], Err(Missing::Malformed)),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(attribute.number(&mut buffer), expected, "{content:?}");
        }
    }
}
