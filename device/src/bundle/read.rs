//! Reading files of a bundle: plain files only, and never more than expected.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The content of the plain file at `path`, which must be of at most `most`
/// bytes: whoever can write to the folder cannot make the reader fill its
/// memory or wait on a pipe.
///
/// # Errors
/// If it cannot be read, is no plain file or is larger.
pub(super) fn read_at_most(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // Before it is opened: opening a pipe waits for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a plain file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {most} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_files_of_the_expected_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read_at_most(&path, 5).unwrap(), b"12345");
        assert_eq!(read_at_most(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(read_at_most(folder.path(), 5).is_err());
        assert_eq!(read_at_most(&folder.path().join("no"), 5).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(read_at_most(Path::new("/dev/zero"), 5).is_err());
    }
}
