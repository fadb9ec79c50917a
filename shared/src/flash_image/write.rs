//! Making an image.

use super::{
    CHECKED_FROM, FORMAT_VERSION, FlashImage, FlashImageError, HEADER_BYTES, Layout, MAGIC, Settings, checksum,
};

impl FlashImage<'_> {
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
            let too_long = FlashImageError::TooLong { most: u32::MAX.into(), found: part.len() as u64 };
            *length = u32::try_from(part.len()).map_err(|_| too_long)?;
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
