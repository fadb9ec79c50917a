//! Files of PyTorch 1.6 and later: a zip archive with one pickle and one
//! uncompressed file for each storage.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use zip::{CompressionMethod, ZipArchive};

use super::pickle::Pickle;
use super::{MAX_PICKLE, Place};
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::tensors::WeightFile;

/// The pickle of the archive, and where its storages are, by key.
///
/// # Errors
/// If it is no such archive.
pub(super) fn read(path: &Path, file: &WeightFile) -> Result<(Pickle, HashMap<String, Place>), CheckpointError> {
    let reader =
        File::open(path).map_err(|source| CheckpointError::Io { operation: "open", path: path.to_owned(), source })?;
    let damaged = |reason: zip::result::ZipError| file.malformed(format!("not what torch.save writes ({reason})"));
    let unreadable = |reason: std::io::Error| file.malformed(reason.to_string());
    let mut archive = ZipArchive::new(BufReader::new(reader)).map_err(damaged)?;
    let mut pickle = None;
    let mut storages = HashMap::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(damaged)?;
        let name = entry.name().map_err(damaged)?.into_owned();
        let size = entry.size();
        // Names are FOLDER/data.pkl, FOLDER/data/KEY, FOLDER/byteorder and the like.
        let Some((_, name)) = name.split_once('/') else {
            continue;
        };
        if name == "data.pkl" && size <= MAX_PICKLE {
            let mut bytes = Vec::new();
            entry.by_ref().take(MAX_PICKLE).read_to_end(&mut bytes).map_err(unreadable)?;
            pickle = Some(Pickle::read(&bytes).map_err(|reason| file.malformed(reason.to_string()))?);
        } else if name == "byteorder" {
            let mut order = String::new();
            entry.by_ref().take(16).read_to_string(&mut order).map_err(unreadable)?;
            if order != "little" {
                return Err(file.malformed(format!("byte order `{order}`; little is expected")));
            }
        } else if let Some(key) = name.strip_prefix("data/") {
            let start = entry.data_start().filter(|_| entry.compression() == CompressionMethod::Stored);
            let start = start.ok_or_else(|| file.malformed(format!("the storage `{key}` is compressed")))?;
            storages.insert(key.to_owned(), (start, size));
        }
    }
    pickle
        .map(|pickle| (pickle, storages))
        .ok_or_else(|| file.malformed("the archive has no data.pkl of a credible size"))
}
