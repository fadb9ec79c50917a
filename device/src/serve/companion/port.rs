//! The serial port to a supervisor.

use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open};
use rustix::termios::{
    ControlModes, OptionalActions, QueueSelector, ioctl_tiocexcl, isatty, tcflush, tcgetattr, tcsetattr,
};

/// Bits a second where the command line does not say; a USB port has no such thing and ignores it.
pub const DEFAULT_BAUD: u32 = 115_200;

/// Slower lines do not carry a decision a second; a number below is the end of a path.
const LEAST_BAUD: u32 = 1_200;

/// How long a message may take to leave; the rest of it is dropped.
const WRITE_TIME: Duration = Duration::from_millis(500);

/// A serial port as it is written on the command line: `PATH`, or `PATH:BAUD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialLine {
    pub path: PathBuf,
    pub baud: u32,
}

impl FromStr for SerialLine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let with_baud = text.rsplit_once(':').and_then(|(path, baud)| Some((path, baud.parse().ok()?)));
        let (path, baud) = match with_baud {
            Some((path, baud)) if baud >= LEAST_BAUD => (path, baud),
            // Paths by USB port hold colons: /dev/serial/by-path/platform-usb-0:1:1.0
            _ => (text, DEFAULT_BAUD),
        };
        if path.is_empty() {
            return Err(format!("`{text}` names no port: expected PATH or PATH:BAUD, such as /dev/ttyACM0"));
        }
        Ok(Self { path: path.into(), baud })
    }
}

/// Why there is no port.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    #[error("cannot open the serial port `{path}`")]
    Open { path: PathBuf, source: io::Error },
    #[error("`{path}` is no serial port")]
    NotAPort { path: PathBuf },
    #[error("cannot set the serial port `{path}` to {baud} baud")]
    Settings { path: PathBuf, baud: u32, source: io::Error },
}

/// An open port: bytes as they are, 8 data bits, no parity, no flow control.
pub(super) struct Port(OwnedFd);

impl Port {
    pub(super) fn open(SerialLine { path, baud }: &SerialLine) -> Result<Self, PortError> {
        let baud = *baud;
        // Without waiting for a carrier, and without becoming the process's terminal.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let port = open(path.as_path(), flags, Mode::empty())
            .map_err(|error| PortError::Open { path: path.clone(), source: error.into() })?;
        if !isatty(&port) {
            return Err(PortError::NotAPort { path: path.clone() });
        }
        let set = || {
            // Nobody else may open it meanwhile; some drivers know no such thing.
            let _ = ioctl_tiocexcl(&port);
            let mut settings = tcgetattr(&port)?;
            settings.make_raw();
            settings.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
            // Without hang-up on close, which resets some boards.
            settings.control_modes -= ControlModes::CRTSCTS | ControlModes::CSTOPB | ControlModes::HUPCL;
            settings.set_speed(baud)?;
            tcsetattr(&port, OptionalActions::Now, &settings)?;
            // What came before is old.
            tcflush(&port, QueueSelector::IFlush)
        };
        set().map_err(|error| PortError::Settings { path: path.clone(), baud, source: error.into() })?;
        Ok(Self(port))
    }

    /// Reads what there is, after waiting for at most `time`; no bytes if nothing came.
    pub(super) fn read<'b>(&self, buffer: &'b mut [u8], time: Duration) -> io::Result<&'b [u8]> {
        if !self.wait(PollFlags::IN, time)? {
            return Ok(&[]);
        }
        match rustix::io::read(&self.0, &mut *buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => Ok(&buffer[..bytes]),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(&[]),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes all of it; where the line is jammed, what does not fit in time is dropped.
    pub(super) fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        let end = Instant::now() + WRITE_TIME;
        while !bytes.is_empty() {
            match rustix::io::write(&self.0, bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if !self.wait(PollFlags::OUT, left)? {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Whether the port is ready within `time`; an error if it is gone.
    fn wait(&self, flags: PollFlags, time: Duration) -> io::Result<bool> {
        let mut ports = [PollFd::new(&self.0, flags)];
        let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
        match poll(&mut ports, Some(&time)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => Ok(false),
            Ok(_) if ports[0].revents().intersects(flags) => Ok(true),
            Ok(_) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether a path that is there is no serial port, which waiting does not change.
pub(super) fn check(line: &SerialLine) -> Result<(), PortError> {
    match Port::open(line) {
        Err(error @ PortError::NotAPort { .. }) => Err(error),
        Err(PortError::Open { path, source }) if path.is_dir() => Err(PortError::Open { path, source }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_path_and_perhaps_a_speed() {
        let line = |text: &str| text.parse::<SerialLine>().map(|line| (line.path, line.baud));
        let expected = |path: &str, baud| Ok((PathBuf::from(path), baud));
        assert_eq!(line("/dev/ttyACM0"), expected("/dev/ttyACM0", DEFAULT_BAUD));
        assert_eq!(line("/dev/ttyTHS1:921600"), expected("/dev/ttyTHS1", 921_600));
        let by_path = "/dev/serial/by-path/platform-3610000.usb-usb-0:1:1.0";
        assert_eq!(line(by_path), expected(by_path, DEFAULT_BAUD));
        assert_eq!(line("/dev/serial/by-path/usb-0:1"), expected("/dev/serial/by-path/usb-0:1", DEFAULT_BAUD));
        assert!(line("").is_err() && line(":115200").is_err());
    }

    #[test]
    fn what_is_no_port_is_told_and_what_is_not_there_may_still_come() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| SerialLine { path: folder.path().join(name), baud: DEFAULT_BAUD };
        std::fs::write(at("file").path, "").unwrap();
        assert!(matches!(check(&at("file")), Err(PortError::NotAPort { .. })));
        assert!(matches!(check(&at(".")), Err(PortError::Open { .. })));
        assert!(check(&at("nothing")).is_ok());
        assert!(matches!(Port::open(&at("nothing")), Err(PortError::Open { .. })));
    }
}
