//! Reads the pickles that `torch.save` writes into plain values. Nothing that
//! a pickle names is imported, built or called: a class is only its name, a
//! call is understood for the few functions that rebuild tensors, and any
//! other call is kept as [`Value::Opaque`] with the name of what was to be called.
//!
//! The opcodes are those of protocol 2, which `torch.save` writes, and of
//! protocol 4: <https://docs.python.org/3/library/pickletools.html>. Values
//! live in one list and refer to each other by index, so that shared values
//! cost nothing and no depth of nesting matters; there are never more values
//! than bytes.

use std::collections::HashMap;

use safetensors::Dtype;

/// Dimensions of a tensor. No weight has more, and sizes that many tensors share must not be copied at length.
const MAX_DIMENSIONS: usize = 8;

/// What is wrong with a pickle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(in crate::checkpoint) enum PickleError {
    #[error("the pickle is cut off at byte {0}")]
    Truncated(usize),
    #[error("byte {at} of the pickle is the opcode 0x{opcode:02x}, which weight files do not need")]
    Opcode { at: usize, opcode: u8 },
    #[error("byte {0} of the pickle does not fit what precedes it")]
    Malformed(usize),
}

/// Where a value is in [`Pickle`].
pub(in crate::checkpoint) type Id = usize;

/// A value of a pickle.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::checkpoint) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// `module name` of a class or function.
    Global(String),
    /// A storage of the archive: `data/KEY`.
    Storage {
        key: String,
        dtype: Dtype,
    },
    /// Part of a storage. Offset and strides count elements.
    Tensor {
        storage: Id,
        offset: u64,
        shape: Vec<usize>,
        strides: Vec<usize>,
    },
    /// The result of a call that is not made: of what, and with which arguments.
    Opaque {
        what: String,
        arguments: Id,
    },
}

/// A pickle's values.
#[derive(Debug)]
pub(in crate::checkpoint) struct Pickle {
    values: Vec<Value>,
    root: Id,
    length: usize,
}

impl Pickle {
    /// # Errors
    /// If the bytes are no pickle, or one with other things than data.
    pub(in crate::checkpoint) fn read(bytes: &[u8]) -> Result<Self, PickleError> {
        Machine { bytes, at: 0, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() }.run()
    }

    pub(super) fn root(&self) -> &Value {
        &self.values[self.root]
    }

    pub(super) fn value(&self, id: Id) -> &Value {
        &self.values[id]
    }

    /// Its bytes: what follows them is no part of the pickle.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// The keys and types of all storages.
    pub(super) fn storages(&self) -> impl Iterator<Item = (&str, Dtype)> {
        self.values.iter().filter_map(|value| match value {
            Value::Storage { key, dtype } => Some((key.as_str(), *dtype)),
            _ => None,
        })
    }

    /// A text, or the only argument of a call that is one.
    pub(super) fn text<'a>(&'a self, value: &'a Value) -> Option<&'a str> {
        let value = match value {
            Value::Opaque { arguments, .. } => match self.items(*arguments)? {
                &[argument] => self.value(argument),
                _ => return None,
            },
            value => value,
        };
        if let Value::Text(text) = value { Some(text) } else { None }
    }

    fn items(&self, tuple: Id) -> Option<&[Id]> {
        if let Value::Tuple(items) = self.value(tuple) { Some(items) } else { None }
    }

    /// The entries of a dictionary whose keys are text.
    pub(super) fn entries<'a>(&'a self, dict: &'a Value) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let entries = if let Value::Dict(entries) = dict { entries.as_slice() } else { &[] };
        entries.iter().filter_map(|&(key, value)| match self.value(key) {
            Value::Text(key) => Some((key.as_str(), self.value(value))),
            _ => None,
        })
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack at open marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl Machine<'_> {
    fn run(mut self) -> Result<Pickle, PickleError> {
        loop {
            let at = self.at;
            let [opcode] = self.take_array()?;
            match opcode {
                // PROTO, FRAME: nothing to do with the values.
                0x80 => drop(self.take(1)?),
                0x95 => drop(self.take(8)?),
                b'.' => {
                    return Ok(Pickle { root: self.pop()?, values: self.values, length: self.at });
                }
                b'(' => self.marks.push(self.stack.len()),
                b'N' => self.push(Value::None),
                0x88 => self.push(Value::Bool(true)),
                0x89 => self.push(Value::Bool(false)),
                b'K' => self.integer(1)?,
                b'M' => self.integer(2)?,
                b'J' => {
                    let value = i32::from_le_bytes(self.take_array()?);
                    self.push(Value::Int(value.into()));
                }
                0x8a => self.long()?,
                b'G' => {
                    let value = f64::from_be_bytes(self.take_array()?);
                    self.push(Value::Float(value));
                }
                0x8c => self.text(1)?,
                b'X' => self.text(4)?,
                b')' => self.push(Value::Tuple(Vec::new())),
                0x85..=0x87 => self.tuple(usize::from(opcode - 0x84))?,
                b't' => {
                    let items = self.take_mark()?;
                    self.push(Value::Tuple(items));
                }
                b']' => self.push(Value::List(Vec::new())),
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' => {
                    let items = self.take_mark()?;
                    self.append(items)?;
                }
                b'}' => self.push(Value::Dict(Vec::new())),
                b's' => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    self.set(&[key, value])?;
                }
                b'u' => {
                    let items = self.take_mark()?;
                    self.set(&items)?;
                }
                b'q' => self.remember(1)?,
                b'r' => self.remember(4)?,
                0x94 => {
                    let top = self.top()?;
                    self.memo.insert(self.memo.len() as u64, top);
                }
                b'h' => self.recall(1)?,
                b'j' => self.recall(4)?,
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.push(Value::Global(format!("{module} {name}")));
                }
                0x93 => self.global_of_stack()?,
                b'Q' => self.storage()?,
                b'R' | 0x81 => self.call()?,
                // BUILD sets attributes (an OrderedDict's `_metadata`): not data of ours.
                b'b' => drop(self.pop()?),
                b'0' => drop(self.pop()?),
                opcode => return Err(PickleError::Opcode { at, opcode }),
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<&[u8], PickleError> {
        let end = self.at.checked_add(count).ok_or(PickleError::Truncated(self.at))?;
        let bytes = self.bytes.get(self.at..end).ok_or(PickleError::Truncated(self.at))?;
        self.at = end;
        Ok(bytes)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let at = self.at;
        self.take(N)?.try_into().map_err(|_| PickleError::Truncated(at))
    }

    /// A little-endian number of up to eight bytes.
    fn number(&mut self, bytes: usize) -> Result<u64, PickleError> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |number, &byte| (number << 8) | u64::from(byte)))
    }

    fn line(&mut self) -> Result<String, PickleError> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or(PickleError::Truncated(self.at))?;
        let line = String::from_utf8(rest[..length].to_vec()).map_err(|_| PickleError::Malformed(self.at))?;
        self.at += length + 1;
        Ok(line)
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    /// Values under an open mark are not for whoever is inside the mark.
    fn top(&self) -> Result<Id, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack.get(floor..).and_then(<[Id]>::last).copied().ok_or(PickleError::Malformed(self.at))
    }

    fn pop(&mut self) -> Result<Id, PickleError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn take_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        let height = self.marks.pop().ok_or(PickleError::Malformed(self.at))?;
        Ok(self.stack.split_off(height))
    }

    fn integer(&mut self, bytes: usize) -> Result<(), PickleError> {
        let value = self.number(bytes)? as i64;
        self.push(Value::Int(value));
        Ok(())
    }

    /// LONG1: a little-endian two's complement of any length; more than eight bytes are no size of ours.
    fn long(&mut self) -> Result<(), PickleError> {
        let [length] = self.take_array()?;
        let length = usize::from(length);
        if length > 8 {
            return Err(PickleError::Malformed(self.at));
        }
        let number = self.number(length)?;
        let unused = 64 - 8 * length as u32;
        let value = if length == 0 { 0 } else { ((number << unused) as i64) >> unused };
        self.push(Value::Int(value));
        Ok(())
    }

    fn text(&mut self, bytes: usize) -> Result<(), PickleError> {
        let length = usize::try_from(self.number(bytes)?).map_err(|_| PickleError::Truncated(self.at))?;
        let at = self.at;
        let text = String::from_utf8(self.take(length)?.to_vec()).map_err(|_| PickleError::Malformed(at))?;
        self.push(Value::Text(text));
        Ok(())
    }

    fn tuple(&mut self, count: usize) -> Result<(), PickleError> {
        let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<Id>, _>>()?;
        items.reverse();
        self.push(Value::Tuple(items));
        Ok(())
    }

    fn append(&mut self, new: Vec<Id>) -> Result<(), PickleError> {
        let list = self.top()?;
        match &mut self.values[list] {
            Value::List(items) => items.extend(new),
            Value::Opaque { .. } => {}
            _ => return Err(PickleError::Malformed(self.at)),
        }
        Ok(())
    }

    fn set(&mut self, keys_and_values: &[Id]) -> Result<(), PickleError> {
        let dict = self.top()?;
        let (pairs, []) = keys_and_values.as_chunks::<2>() else {
            return Err(PickleError::Malformed(self.at));
        };
        match &mut self.values[dict] {
            Value::Dict(entries) => entries.extend(pairs.iter().map(|&[key, value]| (key, value))),
            Value::Opaque { .. } => {}
            _ => return Err(PickleError::Malformed(self.at)),
        }
        Ok(())
    }

    fn remember(&mut self, bytes: usize) -> Result<(), PickleError> {
        let place = self.number(bytes)?;
        let top = self.top()?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn recall(&mut self, bytes: usize) -> Result<(), PickleError> {
        let place = self.number(bytes)?;
        let id = *self.memo.get(&place).ok_or(PickleError::Malformed(self.at))?;
        self.stack.push(id);
        Ok(())
    }

    fn global_of_stack(&mut self) -> Result<(), PickleError> {
        let (name, module) = (self.pop()?, self.pop()?);
        let (Value::Text(module), Value::Text(name)) = (&self.values[module], &self.values[name]) else {
            return Err(PickleError::Malformed(self.at));
        };
        let global = format!("{module} {name}");
        self.push(Value::Global(global));
        Ok(())
    }

    /// A persistent id: `("storage", class, key, location, elements)`, in old files with a sixth item, which is a
    /// part of another storage where it is not `None`.
    fn storage(&mut self) -> Result<(), PickleError> {
        let id = self.pop()?;
        let storage = match self.items(id) {
            Some(&[_, _, _, _, _, part]) if self.values[part] != Value::None => None,
            Some(&[kind, class, key, ..]) => match (&self.values[kind], &self.values[class], &self.values[key]) {
                (Value::Text(kind), Value::Global(class), Value::Text(key)) if kind == "storage" => {
                    storage_dtype(class).map(|dtype| Value::Storage { key: key.clone(), dtype })
                }
                _ => None,
            },
            _ => None,
        };
        let what = || "a persistent object".to_owned();
        self.push(storage.unwrap_or_else(|| Value::Opaque { what: what(), arguments: id }));
        Ok(())
    }

    /// REDUCE and NEWOBJ: a function or class and its arguments.
    fn call(&mut self) -> Result<(), PickleError> {
        let (arguments_id, function) = (self.pop()?, self.pop()?);
        let name = match &self.values[function] {
            Value::Global(name) => name.clone(),
            _ => "an unnamed function".to_owned(),
        };
        let arguments = self.items(arguments_id).ok_or(PickleError::Malformed(self.at))?;
        let result = match (name.as_str(), arguments) {
            ("collections OrderedDict", []) => Some(Value::Dict(Vec::new())),
            ("torch._utils _rebuild_tensor_v2", &[storage, offset, shape, strides, ..]) => {
                self.tensor(storage, offset, shape, strides)
            }
            ("torch._utils _rebuild_parameter", &[tensor, ..]) => Some(self.values[tensor].clone()),
            _ => None,
        };
        self.push(result.unwrap_or(Value::Opaque { what: name, arguments: arguments_id }));
        Ok(())
    }

    fn tensor(&self, storage: Id, offset: Id, shape: Id, strides: Id) -> Option<Value> {
        let (Value::Storage { .. }, Value::Int(offset)) = (&self.values[storage], &self.values[offset]) else {
            return None;
        };
        let sizes = |id: Id| -> Option<Vec<usize>> {
            let size = |&item: &Id| match self.values[item] {
                Value::Int(size) => usize::try_from(size).ok(),
                _ => None,
            };
            self.items(id).filter(|items| items.len() <= MAX_DIMENSIONS)?.iter().map(size).collect()
        };
        let offset = u64::try_from(*offset).ok()?;
        Some(Value::Tensor { storage, offset, shape: sizes(shape)?, strides: sizes(strides)? })
    }

    fn items(&self, tuple: Id) -> Option<&[Id]> {
        match &self.values[tuple] {
            Value::Tuple(items) => Some(items),
            _ => None,
        }
    }
}

fn storage_dtype(class: &str) -> Option<Dtype> {
    match class.strip_prefix("torch ")? {
        "FloatStorage" => Some(Dtype::F32),
        "HalfStorage" => Some(Dtype::F16),
        "BFloat16Storage" => Some(Dtype::BF16),
        "DoubleStorage" => Some(Dtype::F64),
        "LongStorage" => Some(Dtype::I64),
        "IntStorage" => Some(Dtype::I32),
        "ShortStorage" => Some(Dtype::I16),
        "CharStorage" => Some(Dtype::I8),
        "ByteStorage" => Some(Dtype::U8),
        "BoolStorage" => Some(Dtype::BOOL),
        _ => None,
    }
}
