//! Inputs that end: image files, and raw frames on stdin.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;

use super::arguments::FrameSize;
use super::error::ServeError;
use super::printer::Frames;
use crate::images::RgbImage;
use crate::run::image_files::for_each_image;
use crate::runtime::Frame;

/// Sends all images of `path` as [`for_each_image`] reads them.
pub(super) fn send_images(path: &Path, frames: &Frames) -> Result<(), ServeError> {
    for_each_image(path, |name, image| {
        let more = frames.send(name, Frame::Rgb(image));
        Ok(if more { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })
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
