//! The options of `device-run --serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};

use super::companion::SerialLine;
use crate::runtime::WhenFull;

/// Serving requests.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Serving")]
pub struct ServeArguments {
    /// Serve: images, frames on stdin or clients of a socket, governed within limits, until they end or SIGTERM.
    #[arg(long, group = "sensing", conflicts_with_all = ["sweep", "probe", "synthetic", "rung", "macs"])]
    pub serve: bool,

    /// Serve clients on this Unix socket.
    #[arg(long, value_name = "PATH", requires = "serve")]
    pub socket: Option<PathBuf>,

    /// Read raw RGB frames of this size from stdin: 8 bits a channel, no padding.
    #[arg(long, value_name = "WIDTHxHEIGHT", requires = "serve", conflicts_with = "input")]
    pub stdin_rgb: Option<FrameSize>,

    /// The file of limits (TOML), read again on SIGHUP.
    #[arg(long, value_name = "FILE", requires = "serve")]
    pub limits: Option<PathBuf>,

    /// Show metrics to Prometheus on this loopback address, such as 127.0.0.1:9477.
    #[arg(long, value_name = "ADDRESS", requires = "serve")]
    pub metrics: Option<SocketAddr>,

    /// Write what happened last to this file on SIGUSR1, when a client asks and when the governor sees an emergency.
    #[arg(long, value_name = "FILE", requires = "serve")]
    pub flight_record: Option<PathBuf>,

    /// Let the firmware at this serial port decide too, by its own sensors (docs/companion.md); 115200 baud unless the port
    /// is written with another speed.
    #[arg(long, value_name = "PORT[:BAUD]", requires = "serve")]
    pub supervisor: Option<SerialLine>,

    /// Inferences that run at the same time, which share the threads: more raise throughput and the latency of each.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "serve", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: u16,

    /// Frames that may wait, of all clients together.
    #[arg(long, value_name = "N", default_value_t = 64, requires = "serve", value_parser = clap::value_parser!(u16).range(1..))]
    pub queue: u16,

    /// What happens to a frame of stdin or an image for which there is no room; clients of the socket choose their own.
    #[arg(long, value_name = "WHAT", default_value = "wait", requires = "serve")]
    pub when_full: WhenFullChoice,

    /// Clients of the socket at the same time.
    #[arg(long, value_name = "N", default_value_t = 32, requires = "serve", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub clients: u16,
}

/// [`WhenFull`] as it is written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WhenFullChoice {
    /// Wait for room, for files and pipes.
    Wait,
    /// Drop the oldest waiting frame, for cameras.
    DropOldest,
    /// Refuse the new frame.
    Refuse,
}

impl From<WhenFullChoice> for WhenFull {
    fn from(choice: WhenFullChoice) -> Self {
        match choice {
            WhenFullChoice::Wait => Self::Wait,
            WhenFullChoice::DropOldest => Self::DropOldest,
            WhenFullChoice::Refuse => Self::Refuse,
        }
    }
}

/// The size of a raw frame in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameSize {
    pub width: u32,
    pub height: u32,
}

/// Longest side of a raw frame, in pixels.
const MAX_SIDE: u32 = 16_384;

impl FrameSize {
    /// Bytes of a frame.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.width as usize * self.height as usize * 3
    }
}

impl FromStr for FrameSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let side = |text: &str| text.parse().ok().filter(|side| (1..=MAX_SIDE).contains(side));
        let sides = text.split_once('x').and_then(|(width, height)| Some((side(width)?, side(height)?)));
        let (width, height) = sides.ok_or_else(|| {
            format!("`{text}` is no size of a frame: expected WIDTHxHEIGHT of 1 to {MAX_SIDE} pixels, such as 640x480")
        })?;
        Ok(Self { width, height })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_sizes_are_two_numbers() {
        let size: FrameSize = "640x480".parse().unwrap();
        assert_eq!(size, FrameSize { width: 640, height: 480 });
        assert_eq!(size.bytes(), 921_600);
        for wrong in ["", "640", "0x1", "640x", "x480", "-1x5", "16385x1", "2x3x4", "1.5x2"] {
            assert!(wrong.parse::<FrameSize>().is_err(), "{wrong}");
        }
    }
}
