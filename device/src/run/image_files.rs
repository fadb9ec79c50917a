//! The images of a file or a folder, one after another.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::images::{RgbImage, SearchError, decode_file, find_images};

/// The input holds no readable image.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` holds no readable image")]
pub struct NoImages {
    pub path: PathBuf,
}

/// Gives `run` the path and the content of each image, until it breaks. Unreadable images are reported on stderr and
/// skipped; none readable is an error.
pub(crate) fn for_each_image<E: From<SearchError> + From<NoImages>>(
    path: &Path,
    mut run: impl FnMut(String, RgbImage) -> Result<ControlFlow<()>, E>,
) -> Result<(), E> {
    let found = find_images(path)?;
    for entry in &found.unreadable {
        anstream::eprintln!("skipped: {entry}");
    }
    let mut none = true;
    for file in &found.files {
        match decode_file(file) {
            Ok(image) => {
                none = false;
                if run(file.display().to_string(), image)?.is_break() {
                    break;
                }
            }
            Err(error) => anstream::eprintln!("skipped: {error}"),
        }
    }
    if none { Err(NoImages { path: path.to_path_buf() }.into()) } else { Ok(()) }
}
