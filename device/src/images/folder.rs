//! The image files of a path.

use std::io;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

/// File name extensions of the readable formats, in lower case.
const EXTENSIONS: [&str; 4] = ["jpeg", "jpg", "png", "webp"];

/// What a path holds.
#[derive(Debug, Default)]
pub struct FoundImages {
    /// Image files, sorted by path.
    pub files: Vec<PathBuf>,
    /// Folders and links below the path that could not be looked into.
    pub unreadable: Vec<UnreadableEntry>,
}

/// An entry of a folder that could not be looked into.
#[derive(Debug, thiserror::Error)]
#[error("cannot look into `{}`: {source}", path.display())]
pub struct UnreadableEntry {
    pub path: PathBuf,
    pub source: io::Error,
}

/// Why a path cannot be searched for images.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SearchError {
    #[error("cannot open the images at `{}`: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
}

/// Finds the images of `path`: the file itself, whatever its name, or every
/// JPEG, PNG and WebP file of a folder and the folders below it, told by the
/// extension in any case. Links are followed; a link back to a folder that is
/// being searched is left out.
///
/// The order depends on the paths only. An empty result is not an error.
///
/// # Errors
/// If `path` does not exist or is a folder that cannot be read. What cannot be
/// read further below is listed in the result instead.
pub fn find_images(path: &Path) -> Result<FoundImages, SearchError> {
    let open_error = |source| SearchError::Open { path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(open_error)?;
    if !metadata.is_dir() {
        return Ok(FoundImages { files: vec![path.to_owned()], unreadable: Vec::new() });
    }

    let mut found = FoundImages::default();
    for entry in WalkDir::new(path).follow_links(true) {
        match entry {
            Ok(entry) if entry.file_type().is_file() && has_image_extension(entry.path()) => {
                found.files.push(entry.into_path());
            }
            Ok(_) => {}
            Err(error) if error.loop_ancestor().is_some() => {}
            Err(error) => {
                let depth = error.depth();
                let entry = error.path().unwrap_or(path).to_owned();
                let source = io::Error::from(error);
                if depth == 0 {
                    return Err(open_error(source));
                }
                found.unreadable.push(UnreadableEntry { path: entry, source });
            }
        }
    }
    found.files.sort();
    found.unreadable.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn has_image_extension(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names(found: &FoundImages, root: &Path) -> Vec<String> {
        found.files.iter().map(|file| file.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/")).collect()
    }

    #[test]
    fn finds_nested_images_in_path_order_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("b/deep")).unwrap();
        fs::create_dir(root.path().join("folder.png")).unwrap();
        for name in ["z.PNG", "b/2.webp", "b/deep/1.JPeG", "a.jpg", "notes.txt", "b/jpg", "c.gif"] {
            fs::write(root.path().join(name), b"").unwrap();
        }
        let found = find_images(root.path()).unwrap();
        assert_eq!(names(&found, root.path()), ["a.jpg", "b/2.webp", "b/deep/1.JPeG", "z.PNG"]);
        assert!(found.unreadable.is_empty());
    }

    #[test]
    fn a_file_is_taken_whatever_its_name() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("picture");
        fs::write(&file, b"").unwrap();
        assert_eq!(find_images(&file).unwrap().files, [file]);
    }

    #[test]
    fn an_empty_folder_holds_no_images() {
        let root = tempfile::tempdir().unwrap();
        assert!(find_images(root.path()).unwrap().files.is_empty());
    }

    #[test]
    fn a_missing_path_is_an_error_that_names_it() {
        let message = find_images(Path::new("/no/such/folder")).unwrap_err().to_string();
        assert!(message.starts_with("cannot open the images at `/no/such/folder`: "), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_once_and_loops_end() {
        use std::os::unix::fs::symlink;

        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("linked.jpg"), b"").unwrap();
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("inner")).unwrap();
        symlink(root.path(), root.path().join("inner/back")).unwrap();
        symlink(outside.path(), root.path().join("outside")).unwrap();
        symlink(root.path().join("gone.png"), root.path().join("dangling.png")).unwrap();
        fs::write(root.path().join("inner/a.png"), b"").unwrap();

        let found = find_images(root.path()).unwrap();
        assert_eq!(names(&found, root.path()), ["inner/a.png", "outside/linked.jpg"]);
        assert_eq!(found.unreadable.len(), 1);
        assert!(found.unreadable[0].to_string().contains("dangling.png"));
    }
}
