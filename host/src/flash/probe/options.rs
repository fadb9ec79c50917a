//! The options of `host-flash` for boards that a debug probe programs.

use std::path::PathBuf;

use clap::Args;

/// For boards without an operating system, which a debug probe programs.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Boards without an operating system")]
pub struct ProbeOptions {
    /// The firmware, an ELF file; without it only the bundle is written.
    #[arg(long, value_name = "ELF")]
    pub firmware: Option<PathBuf>,

    /// The debug probe, where there are several; numbers in hexadecimal.
    #[arg(long, value_name = "VID:PID[:SERIAL]", value_parser = selector)]
    pub probe: Option<String>,

    /// Clock of the wires between probe and chip [default: the probe's own].
    #[arg(long, value_name = "KHZ", value_parser = clap::value_parser!(u32).range(1..))]
    pub speed: Option<u32>,

    /// Hold the chip in reset while the probe attaches, for firmware that sleeps or locks the probe out.
    #[arg(long)]
    pub connect_under_reset: bool,

    /// Write only a bundle that this trust policy accepts; the board itself checks no signature.
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
}

impl ProbeOptions {
    /// The first option that was given.
    #[must_use]
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            ("--firmware", self.firmware.is_some()),
            ("--probe", self.probe.is_some()),
            ("--speed", self.speed.is_some()),
            ("--connect-under-reset", self.connect_under_reset),
            ("--trust", self.trust.is_some()),
        ];
        given.into_iter().find_map(|(option, is_given)| is_given.then_some(option))
    }
}

/// probe-rs's form of it, with the interface that some probes need after the second number.
fn selector(text: &str) -> Result<String, String> {
    let mut parts = text.splitn(3, ':');
    let is_hexadecimal = |part: &str| u16::from_str_radix(part, 16).is_ok();
    let vendor = parts.next().is_some_and(is_hexadecimal);
    let product = parts.next().is_some_and(|part| match part.split_once('-') {
        Some((product, interface)) => is_hexadecimal(product) && interface.parse::<u8>().is_ok(),
        None => is_hexadecimal(part),
    });
    if vendor && product { Ok(text.to_owned()) } else { Err("expected VID:PID[:SERIAL], as in 0483:374e".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_named_by_its_usb_numbers() {
        for right in ["0483:374e", "0483:374e:004F", "2e8a:000c:E6:1", "0403:6010-1", "0403:6010-1:x"] {
            assert_eq!(selector(right).as_deref(), Ok(right));
        }
        for wrong in ["", "0483", "stlink", "0483:", "0483:37g4", "10483:374e", "0483:374e-x"] {
            assert!(selector(wrong).is_err(), "{wrong}");
        }
    }
}
