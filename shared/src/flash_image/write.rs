//! Making an image.

use super::{
    CHECKED_FROM, FORMAT_VERSION, FlashImage, FlashImageError, HEADER_BYTES, Layout, MAGIC, Settings, checksum,
};

impl FlashImage<'_> {
    /// Bytes of the image of these settings with a map and a model of so many bytes.
    ///
    /// # Errors
    /// If a part is too long for the format.
    pub fn bytes(settings: &Settings, map: usize, model: usize) -> Result<u64, FlashImageError> {
        let size = postcard::serialize_with_flavor(settings, postcard::ser_flavors::Size::default());
        let settings = size.map_err(|_| FlashImageError::Settings)?;
        let mut lengths = [0; 3];
        for (length, part) in lengths.iter_mut().zip([settings, map, model]) {
            *length = length_of(part)?;
        }
        Ok(Layout::of(lengths).end())
    }

    /// The image of these settings with the bytes of a structure map and of an integer model.
    ///
    /// # Errors
    /// If the image could not be read back.
    pub fn write(settings: &Settings, map: &[u8], model: &[u8]) -> Result<Vec<u8>, FlashImageError> {
        // A name of 48 bytes and five numbers of at most ten.
        let mut buffer = [0; 128];
        let settings: &[u8] = postcard::to_slice(settings, &mut buffer).map_err(|_| FlashImageError::Settings)?;
        let parts = [settings, map, model];
        let mut lengths = [0; 3];
        for (length, part) in lengths.iter_mut().zip(parts) {
            *length = length_of(part.len())?;
        }
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        for (field, length) in header[CHECKED_FROM..].chunks_exact_mut(4).zip(lengths) {
            field.copy_from_slice(&length.to_le_bytes());
        }
        let checksum = checksum(&header[CHECKED_FROM..], settings);
        header[12..16].copy_from_slice(&checksum.to_le_bytes());

        let mut image = header.to_vec();
        for ((at, _), part) in Layout::of(lengths).parts.into_iter().zip(parts) {
            image.resize(at as usize, 0);
            image.extend_from_slice(part);
        }
        FlashImage::read(&image)?;
        Ok(image)
    }
}

fn length_of(part: usize) -> Result<u32, FlashImageError> {
    u32::try_from(part).map_err(|_| FlashImageError::TooLong { most: u32::MAX.into(), found: part as u64 })
}
