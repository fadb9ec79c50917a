//! The checksum of all formats.

use crc::{CRC_32_ISO_HDLC, Crc};

/// CRC-32 as in zlib, Ethernet and PNG: finds every error of up to 3 bits in
/// payloads up to 11 KB, and every burst of up to 32 bits in any. It finds
/// accidents, not attackers.
pub(crate) static CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
