//! Images with labels: a sub-folder for each class.

use std::path::{Path, PathBuf};

use headroom_device::images::find_images;

use super::EvalError;
use crate::progress::Progress;

/// The image files of a folder and the class of each.
pub(super) struct LabelledImages {
    /// Names of the sub-folders that hold images, sorted.
    pub classes: Vec<String>,
    pub files: Vec<PathBuf>,
    /// The class of each file.
    pub labels: Vec<usize>,
}

impl LabelledImages {
    /// Searches `folder`; the class is the first sub-folder below it, whatever is below that.
    ///
    /// # Errors
    /// If the folder cannot be read, holds no image, or one that is in no sub-folder.
    pub fn find(folder: &Path, progress: &dyn Progress) -> Result<Self, EvalError> {
        let found = find_images(folder)?;
        for entry in &found.unreadable {
            progress.note(&format!("skipped: {entry}"));
        }
        if found.files.is_empty() {
            return Err(EvalError::NoImages { path: folder.to_path_buf() });
        }
        let class_of = |file: &PathBuf| {
            let below = file.strip_prefix(folder).ok()?;
            let mut components = below.components();
            let class = components.next()?.as_os_str().to_string_lossy().into_owned();
            components.next().map(|_| class)
        };
        let mut names = Vec::with_capacity(found.files.len());
        for file in &found.files {
            let no_class = || EvalError::NoClass { file: file.clone(), folder: folder.to_path_buf() };
            names.push(class_of(file).ok_or_else(no_class)?);
        }
        let mut classes = names.clone();
        classes.sort_unstable();
        classes.dedup();
        let labels = names.iter().map(|name| classes.partition_point(|class| class < name)).collect();
        Ok(Self { classes, files: found.files, labels })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::progress::Silent;

    #[test]
    fn the_first_sub_folder_is_the_class() {
        let root = tempfile::tempdir().unwrap();
        for file in ["dog/deep/b.png", "cat/a.png", "dog/c.jpg"] {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        fs::create_dir(root.path().join("empty")).unwrap();
        let found = LabelledImages::find(root.path(), &Silent).unwrap();
        assert_eq!(found.classes, ["cat", "dog"]);
        assert_eq!(found.labels, [0, 1, 1]);

        fs::write(root.path().join("loose.png"), b"").unwrap();
        let error = LabelledImages::find(root.path(), &Silent).err().unwrap().to_string();
        assert!(error.contains("loose.png` is in no class"), "{error}");
        let error = LabelledImages::find(&root.path().join("empty"), &Silent).err().unwrap().to_string();
        assert!(error.ends_with("empty` holds no readable image"), "{error}");
    }
}
