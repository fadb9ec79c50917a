//! Is a JPEG file whole?
//!
//! The decoder fills what is missing with grey, as image viewers do. A picture
//! that is half grey spoils a calibration without a trace, so a file that ends
//! before its end-of-image marker is refused here.

const START_OF_IMAGE: [u8; 2] = [0xff, 0xd8];
const END_OF_IMAGE: u8 = 0xd9;

/// Whether `bytes` start as a JPEG file.
pub(super) fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&START_OF_IMAGE)
}

/// Whether the segments and scans of a JPEG file reach its end-of-image marker
/// (ITU-T T.81, annex B). Bytes after the marker are of no concern.
pub(super) fn reaches_end_marker(bytes: &[u8]) -> bool {
    let mut position = START_OF_IMAGE.len();
    while let Some((marker, after)) = next_marker(bytes, position) {
        if marker == END_OF_IMAGE {
            return true;
        }
        let Some(length) = bytes.get(after..after + 2) else { return false };
        // Behind a start-of-scan segment lie entropy-coded data; `next_marker`
        // passes over them.
        position = after + usize::from(u16::from_be_bytes([length[0], length[1]]));
    }
    false
}

/// The next marker at or after `position` and the position behind it. Stuffed
/// bytes (`ff 00`), fill bytes (`ff ff`) and restart markers are passed over.
fn next_marker(bytes: &[u8], mut position: usize) -> Option<(u8, usize)> {
    loop {
        let rest = bytes.get(position..)?;
        let found = rest.iter().position(|&byte| byte == 0xff)?;
        let code = *rest.get(found + 1)?;
        match code {
            0xff => position += found + 1,
            0x00 | 0xd0..=0xd7 => position += found + 2,
            _ => return Some((code, position + found + 2)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Start, a comment that holds an end marker, a scan with stuffing, a
    /// restart marker and fill, end.
    const WHOLE: [u8; 25] = [
        0xff, 0xd8, 0xff, 0xfe, 0, 4, 0xff, 0xd9, 0xff, 0xda, 0, 3, 9, 1, 0xff, 0x00, 2, 0xff, 0xd0, 3, 4, 0xff, 0xff,
        0xff, 0xd9,
    ];

    #[test]
    fn only_the_whole_file_reaches_the_end() {
        assert!(reaches_end_marker(&WHOLE));
        assert!(reaches_end_marker(&[&WHOLE[..], b"appended"].concat()));
        for length in 2..WHOLE.len() {
            assert!(!reaches_end_marker(&WHOLE[..length]), "cut to {length} bytes");
        }
    }
}
