//! Decoding of image files to 8-bit RGB, within limits.
//!
//! The format is told by the content, not the name. Grey, palette and 16-bit
//! images are converted; alpha is dropped, as Pillow's `convert("RGB")` and so
//! timm's loader do; the EXIF orientation is applied (which timm's does not).
//! Colour profiles are not applied.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};

use super::jpeg;

/// Largest file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 256 << 20;

/// Most pixels that an image may declare: above what cameras deliver (61
/// megapixels at full frame), and at most 768 MiB while a 16-bit image is
/// decoded.
pub const MAX_PIXELS: u64 = 64 << 20;

/// What a decoder may allocate, in bytes: 16-bit RGBA of `MAX_PIXELS`.
const MAX_DECODER_BYTES: u64 = MAX_PIXELS * 8;

/// A file that is no readable image.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the image `{}`: {cause}", path.display())]
pub struct ImageError {
    pub path: PathBuf,
    pub cause: DecodeError,
}

/// Why a file is no readable image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    #[error("{0}")]
    Io(io::Error),
    #[error("it is not a regular file")]
    NotAFile,
    #[error("the file has more than {limit} bytes")]
    FileTooLarge { limit: u64 },
    #[error("the file is empty")]
    EmptyFile,
    #[error("the content is not JPEG, PNG or WebP")]
    UnknownFormat,
    #[error("the image has no pixels")]
    NoPixels,
    #[error("it declares {width} x {height} pixels, more than the limit of {limit}")]
    TooManyPixels { width: u32, height: u32, limit: u64 },
    #[error("the JPEG file is cut off")]
    Truncated,
    #[error("{0}")]
    Decoder(image::ImageError),
}

/// Decodes the image file at `path`.
///
/// # Errors
/// If the file cannot be read, exceeds [`MAX_FILE_BYTES`] or [`MAX_PIXELS`], or
/// is not a whole JPEG, PNG or WebP image.
pub fn decode_file(path: &Path) -> Result<RgbImage, ImageError> {
    read(path).and_then(|bytes| decode_bytes(&bytes)).map_err(|cause| ImageError { path: path.to_owned(), cause })
}

/// Decodes the content of an image file.
///
/// # Errors
/// As [`decode_file`].
pub fn decode_bytes(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::EmptyFile);
    }
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(DecodeError::Io)?;
    if reader.format().is_none() {
        return Err(DecodeError::UnknownFormat);
    }
    if jpeg::is_jpeg(bytes) && !jpeg::reaches_end_marker(bytes) {
        return Err(DecodeError::Truncated);
    }

    let mut decoder = reader.into_decoder().map_err(decoder_error)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(DecodeError::NoPixels);
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(DecodeError::TooManyPixels { width, height, limit: MAX_PIXELS });
    }
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    decoder.set_limits(limits).map_err(decoder_error)?;

    let orientation = decoder.orientation().map_err(decoder_error)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(decoder_error)?;
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

fn decoder_error(error: image::ImageError) -> DecodeError {
    match error {
        image::ImageError::Unsupported(unsupported)
            if matches!(unsupported.kind(), image::error::UnsupportedErrorKind::Format(_)) =>
        {
            DecodeError::UnknownFormat
        }
        other => DecodeError::Decoder(other),
    }
}

/// Reads a file no further than the limit, whatever size it claims to have.
fn read(path: &Path) -> Result<Vec<u8>, DecodeError> {
    let metadata = std::fs::metadata(path).map_err(DecodeError::Io)?;
    if !metadata.is_file() {
        return Err(DecodeError::NotAFile);
    }
    let too_large = Err(DecodeError::FileTooLarge { limit: MAX_FILE_BYTES });
    if metadata.len() > MAX_FILE_BYTES {
        return too_large;
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(DecodeError::Io)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(DecodeError::Io)?;
    if bytes.len() as u64 > MAX_FILE_BYTES { too_large } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use image::codecs::jpeg::JpegEncoder;
    use image::{ImageBuffer, ImageFormat, Luma, LumaA, Rgb, Rgba};
    use proptest::prelude::*;

    use super::*;

    fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn gradient() -> RgbImage {
        RgbImage::from_fn(40, 30, |x, y| Rgb([x as u8 * 6, y as u8 * 8, 128]))
    }

    /// A PNG chunk; the checksum is that of PNG (CRC-32, ISO-HDLC).
    fn png_chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let body = [&kind[..], data].concat();
        let mut crc = u32::MAX;
        for &byte in &body {
            crc ^= u32::from(byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            }
        }
        [&(data.len() as u32).to_be_bytes()[..], &body, &(!crc).to_be_bytes()].concat()
    }

    /// A PNG file that declares a size and has next to no data.
    fn png_that_declares(width: u32, height: u32) -> Vec<u8> {
        let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
        let data = [0x78, 0x9c, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01];
        [b"\x89PNG\r\n\x1a\n".to_vec(), png_chunk(b"IHDR", &header), png_chunk(b"IDAT", &data), png_chunk(b"IEND", b"")]
            .concat()
    }

    #[test]
    fn lossless_formats_give_their_pixels() {
        for format in [ImageFormat::Png, ImageFormat::WebP] {
            assert_eq!(decode_bytes(&encode(gradient(), format)).unwrap(), gradient(), "{format:?}");
        }
    }

    #[test]
    fn jpeg_is_close_in_colour_and_in_grey() {
        let decoded = decode_bytes(&encode(gradient(), ImageFormat::Jpeg)).unwrap();
        let errors = decoded.as_raw().iter().zip(gradient().into_raw()).map(|(a, b)| f64::from(a.abs_diff(b)));
        assert!(errors.sum::<f64>() / f64::from(40 * 30 * 3) < 6.0);

        let mut grey = Vec::new();
        JpegEncoder::new(&mut grey).encode_image(&ImageBuffer::from_pixel(9, 5, Luma([77u8]))).unwrap();
        assert_eq!(decode_bytes(&grey).unwrap(), RgbImage::from_pixel(9, 5, Rgb([77; 3])));
    }

    #[test]
    fn other_pixel_types_become_rgb_and_alpha_is_dropped() {
        let expected = RgbImage::from_pixel(3, 2, Rgb([10, 20, 30]));
        let rgba = encode(ImageBuffer::from_pixel(3, 2, Rgba([10u8, 20, 30, 0])), ImageFormat::Png);
        let rgb16 = encode(ImageBuffer::from_pixel(3, 2, Rgb([10u16 * 257, 20 * 257, 30 * 257])), ImageFormat::Png);
        let grey = encode(ImageBuffer::from_pixel(3, 2, LumaA([10u8, 99])), ImageFormat::Png);
        assert_eq!(decode_bytes(&rgba).unwrap(), expected);
        assert_eq!(decode_bytes(&rgb16).unwrap(), expected);
        assert_eq!(decode_bytes(&grey).unwrap(), RgbImage::from_pixel(3, 2, Rgb([10; 3])));
    }

    #[test]
    fn palettes_are_looked_up() {
        // 2 x 1 pixels, indices 1 and 0, as a stored deflate block.
        let header = [0, 0, 0, 2, 0, 0, 0, 1, 8, 3, 0, 0, 0];
        let data = [0x78, 0x01, 0x01, 3, 0, 0xfc, 0xff, 0, 1, 0, 0x00, 0x05, 0x00, 0x02];
        let png = [
            b"\x89PNG\r\n\x1a\n".to_vec(),
            png_chunk(b"IHDR", &header),
            png_chunk(b"PLTE", &[1, 2, 3, 200, 100, 50]),
            png_chunk(b"IDAT", &data),
            png_chunk(b"IEND", b""),
        ]
        .concat();
        assert_eq!(decode_bytes(&png).unwrap().into_raw(), [200, 100, 50, 1, 2, 3]);
    }

    #[test]
    fn exif_orientation_is_applied() {
        let jpeg = encode(RgbImage::from_fn(16, 8, |x, _| Rgb([x as u8 * 16; 3])), ImageFormat::Jpeg);
        // A little-endian TIFF with one entry: orientation (0x112), short, 1 value, 6 = turn clockwise.
        let tiff = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let length = (tiff.len() as u16 + 2).to_be_bytes();
        let turned = [&jpeg[..2], &[0xff, 0xe1], &length, tiff, &jpeg[2..]].concat();
        let image = decode_bytes(&turned).unwrap();
        assert_eq!(image.dimensions(), (8, 16));
        assert!(image.get_pixel(4, 0)[0] < 30 && image.get_pixel(4, 15)[0] > 200);
    }

    #[test]
    fn broken_contents_are_told_apart() {
        let jpeg = encode(gradient(), ImageFormat::Jpeg);
        let png = encode(gradient(), ImageFormat::Png);
        let webp = encode(gradient(), ImageFormat::WebP);
        let message = |bytes: &[u8]| decode_bytes(bytes).unwrap_err().to_string();
        assert_eq!(message(b""), "the file is empty");
        assert_eq!(message(b"just a text file"), "the content is not JPEG, PNG or WebP");
        assert_eq!(message(b"GIF89a\x01\0\x01\0\0\0\0;"), "the content is not JPEG, PNG or WebP");
        assert_eq!(message(&jpeg[..jpeg.len() / 2]), "the JPEG file is cut off");
        assert!(matches!(decode_bytes(&png[..png.len() / 2]), Err(DecodeError::Decoder(_))));
        assert!(matches!(decode_bytes(&webp[..webp.len() / 2]), Err(DecodeError::Decoder(_))));
    }

    #[test]
    fn huge_declared_sizes_are_refused_before_memory_is_touched() {
        let message = decode_bytes(&png_that_declares(60_000, 60_000)).unwrap_err().to_string();
        assert_eq!(message, "it declares 60000 x 60000 pixels, more than the limit of 67108864");
        assert!(decode_bytes(&png_that_declares(u32::MAX, u32::MAX)).is_err());
        // Within the limit but without the data.
        assert!(decode_bytes(&png_that_declares(1000, 1000)).is_err());
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.png");
        std::fs::File::create(&path).unwrap().write_all(b"hello").unwrap();
        let message = decode_file(&path).unwrap_err().to_string();
        let expected = format!("cannot read the image `{}`: the content is not JPEG, PNG or WebP", path.display());
        assert_eq!(message, expected);
        assert!(matches!(decode_file(folder.path()).unwrap_err().cause, DecodeError::NotAFile));
        assert!(matches!(decode_file(&folder.path().join("none.png")).unwrap_err().cause, DecodeError::Io(_)));
    }

    #[test]
    fn files_beyond_the_size_limit_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sparse.png");
        std::fs::File::create(&path).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
        assert!(matches!(decode_file(&path).unwrap_err().cause, DecodeError::FileTooLarge { .. }));
    }

    proptest! {
        #[test]
        fn damage_never_panics(format in 0..3usize, at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let format = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP][format];
            let mut bytes = encode(gradient(), format);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = decode_bytes(&bytes);
            let _ = decode_bytes(&bytes[..cut.index(bytes.len())]);
        }
    }
}
