//! Inputs that end: image files, and raw frames on stdin.

use std::io::{self, Read};
use std::path::Path;

use super::arguments::FrameSize;
use super::error::ServeError;
use super::printer::Frames;
use crate::images::{RgbImage, decode_file, find_images};
use crate::runtime::Frame;

/// Sends all images of `path`. Unreadable ones are reported and skipped; none readable is an error.
pub(super) fn send_images(path: &Path, frames: &Frames) -> Result<(), ServeError> {
    let found = find_images(path)?;
    for entry in &found.unreadable {
        anstream::eprintln!("skipped: {entry}");
    }
    let mut readable = 0u64;
    for file in &found.files {
        match decode_file(file) {
            Ok(image) => {
                readable += 1;
                if !frames.send(file.display().to_string(), Frame::Rgb(image)) {
                    return Ok(());
                }
            }
            Err(error) => anstream::eprintln!("skipped: {error}"),
        }
    }
    if readable == 0 { Err(ServeError::NoImages { path: path.to_path_buf() }) } else { Ok(()) }
}

/// Sends raw frames of `size` until `stream` ends, which it must do between two frames.
pub(super) fn send_raw_frames(mut stream: impl Read, size: FrameSize, frames: &Frames) -> Result<(), ServeError> {
    for number in 0.. {
        let mut bytes = vec![0; size.bytes()];
        let found = read_fully(&mut stream, &mut bytes).map_err(|source| ServeError::Read { frame: number, source })?;
        if found == 0 {
            break;
        }
        let expected = size.bytes();
        let image = (found == expected).then(|| RgbImage::from_raw(size.width, size.height, bytes)).flatten();
        let Some(image) = image else { return Err(ServeError::HalfFrame { frame: number, expected, found }) };
        if !frames.send(format!("stdin:{number}"), Frame::Rgb(image)) {
            break;
        }
    }
    Ok(())
}

/// Fills the buffer as far as the stream goes.
fn read_fully(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
