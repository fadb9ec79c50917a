//! Files that PyTorch wrote before 1.6, and later when told so: five pickles
//! one after the other (a magic number, the protocol, facts of the machine,
//! the object, the keys of its storages in order), then for each storage the
//! number of its elements in eight bytes and the elements.
//! `_legacy_save` in <https://github.com/pytorch/pytorch/blob/main/torch/serialization.py>

use std::collections::HashMap;

use super::pickle::{Pickle, PickleError, Value};
use super::{MAX_PICKLE, Place};
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::tensors::WeightFile;

/// The first pickle: `0x1950a86a20f9469cfc6c` as a long of ten bytes, in protocol 2.
const MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// The protocol of all such files.
const PROTOCOL: i64 = 1001;

/// Bytes of the number before a storage.
const COUNT: u64 = 8;

/// Whether the file begins like one of these.
pub(super) fn is_legacy(file: &WeightFile) -> Result<bool, CheckpointError> {
    let length = MAGIC.len() as u64;
    Ok(file.length >= length && file.read(0, length)? == MAGIC)
}

/// The pickle of the object, and where its storages are, by key.
///
/// # Errors
/// If the file is cut off, of another protocol or of a big-endian machine.
pub(super) fn read(file: &WeightFile) -> Result<(Pickle, HashMap<String, Place>), CheckpointError> {
    let start = MAGIC.len() as u64;
    let bytes = file.read(start, (file.length - start).min(MAX_PICKLE))?;
    let mut at = 0;
    let mut next = || -> Result<Pickle, PickleError> {
        let pickle = Pickle::read(&bytes[at..])?;
        at += pickle.length();
        Ok(pickle)
    };
    let mut pickle = || next().map_err(|reason| file.malformed(reason.to_string()));
    let (protocol, machine, object, keys) = (pickle()?, pickle()?, pickle()?, pickle()?);

    if *protocol.root() != Value::Int(PROTOCOL) {
        return Err(file.malformed(format!("protocol {:?}; {PROTOCOL} is expected", protocol.root())));
    }
    let little_endian = machine.entries(machine.root()).find(|(key, _)| *key == "little_endian");
    if little_endian.is_none_or(|(_, value)| *value != Value::Bool(true)) {
        return Err(file.malformed("not written by a little-endian machine"));
    }
    let Value::List(keys_in_order) = keys.root() else {
        return Err(file.malformed("the list of storages is none"));
    };
    let dtypes: HashMap<&str, _> = object.storages().collect();
    let mut storages = HashMap::new();
    let mut place = start + at as u64;
    for &key in keys_in_order {
        let Value::Text(key) = keys.value(key) else {
            return Err(file.malformed("the key of a storage is no text"));
        };
        let Some(dtype) = dtypes.get(key.as_str()) else {
            return Err(file.malformed(format!("no tensor needs the storage `{key}`: its size is not known")));
        };
        let count = file.read(place, COUNT)?.iter().rev().fold(0, |count, &byte| (count << 8) | u64::from(byte));
        let begin = place + COUNT;
        let size = count.checked_mul(dtype.bitsize() as u64 / 8);
        let end = size.and_then(|size| begin.checked_add(size)).filter(|&end| end <= file.length);
        let (Some(size), Some(end)) = (size, end) else {
            return Err(file.malformed(format!("cut off in the storage `{key}` of {count} elements")));
        };
        storages.insert(key.clone(), (begin, size));
        place = end;
    }
    Ok((object, storages))
}
