//! What a program needs from the device that it is to run on, read from its ELF file.

use std::fmt;
use std::path::{Path, PathBuf};

use object::Endianness;
use object::elf::{DT_NEEDED, EM_AARCH64, EM_RISCV, EM_X86_64};
use object::read::elf::{ElfFile64, FileHeader};

/// A version of the C library, such as 2.35.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LibcVersion {
    pub major: u32,
    pub minor: u32,
}

impl LibcVersion {
    /// Reads the first `major.minor` of a text such as `glibc 2.35`.
    #[must_use]
    pub fn find(text: &str) -> Option<Self> {
        text.split(|c: char| c.is_whitespace() || "()_-".contains(c)).find_map(|word| {
            let mut numbers = word.split('.');
            let major = numbers.next()?.parse().ok()?;
            let minor = numbers.next()?.parse().ok()?;
            Some(Self { major, minor })
        })
    }
}

impl fmt::Display for LibcVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

/// What a program needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    /// The architecture as Rust's target names and `uname -m` begin; `None`
    /// for a script, which runs wherever its interpreter does.
    pub architecture: Option<&'static str>,
    /// The newest version of glibc that a symbol is bound to; `None` if it needs none.
    pub glibc: Option<LibcVersion>,
    /// Shared libraries other than glibc's own.
    pub libraries: Vec<String>,
}

/// Why a file cannot be a runtime.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeFileError {
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("`{}` is not a program: expected a 64-bit ELF file or a script that begins with `#!`", path.display())]
    NotAProgram { path: PathBuf, source: Option<object::Error> },
    #[error("`{}` is for a machine with ELF number {machine}, which no board here has", path.display())]
    Machine { path: PathBuf, machine: u16 },
}

/// Libraries that are parts of glibc.
const GLIBC: [&str; 8] =
    ["libc", "libm", "libpthread", "libdl", "librt", "libutil", "ld-linux-aarch64", "ld-linux-x86-64"];

/// Reads what the program in the file `path` needs.
///
/// # Errors
/// If it is no program.
pub fn requirements(path: &Path) -> Result<Requirements, RuntimeFileError> {
    let bytes = std::fs::read(path).map_err(|source| RuntimeFileError::Read { path: path.to_owned(), source })?;
    if bytes.starts_with(b"#!") {
        return Ok(Requirements::default());
    }
    let broken = |source| RuntimeFileError::NotAProgram { path: path.to_owned(), source };
    if !bytes.starts_with(b"\x7fELF") {
        return Err(broken(None));
    }
    let elf = ElfFile64::<Endianness>::parse(&*bytes).map_err(|error| broken(Some(error)))?;
    let machine = elf.elf_header().e_machine(elf.endian());
    let architecture = match machine {
        EM_AARCH64 => "aarch64",
        EM_X86_64 => "x86_64",
        EM_RISCV => "riscv64",
        _ => return Err(RuntimeFileError::Machine { path: path.to_owned(), machine }),
    };
    let (glibc, libraries) = linked(&elf).map_err(|error| broken(Some(error)))?;
    Ok(Requirements { architecture: Some(architecture), glibc, libraries })
}

type Elf<'a> = ElfFile64<'a, Endianness>;

/// The newest glibc version and the other libraries of the dynamic section.
fn linked(elf: &Elf<'_>) -> object::Result<(Option<LibcVersion>, Vec<String>)> {
    let (endian, data, sections) = (elf.endian(), elf.data(), elf.elf_section_table());
    let mut newest = None;
    if let Some((mut needs, link)) = sections.gnu_verneed(endian, data)? {
        let strings = sections.strings(endian, data, link)?;
        while let Some((_, mut versions)) = needs.next()? {
            while let Some(version) = versions.next()? {
                let name = String::from_utf8_lossy(version.name(endian, strings)?).into_owned();
                if let Some(number) = name.strip_prefix("GLIBC_") {
                    newest = newest.max(LibcVersion::find(number));
                }
            }
        }
    }
    let table = elf.elf_dynamic_table()?;
    let mut libraries = Vec::new();
    for entry in table.iter().filter(|entry| entry.tag == DT_NEEDED) {
        libraries.push(String::from_utf8_lossy(table.string(entry)?).into_owned());
    }
    libraries
        .retain(|name| !GLIBC.iter().any(|own| name.strip_prefix(own).is_some_and(|rest| rest.starts_with(".so"))));
    Ok((newest, libraries))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_and_ordered() {
        let find = |text| LibcVersion::find(text).map(|version| version.to_string());
        assert_eq!(find("glibc 2.35").as_deref(), Some("2.35"));
        assert_eq!(find("ldd (Ubuntu GLIBC 2.31-0ubuntu9.9) 2.31").as_deref(), Some("2.31"));
        assert_eq!(find("musl libc"), None);
        assert!(LibcVersion::find("2.9") < LibcVersion::find("2.10"));
    }

    #[test]
    fn this_very_program_needs_glibc_and_no_cuda() {
        let found = requirements(&std::env::current_exe().unwrap()).unwrap();
        assert_eq!(found.architecture, Some(std::env::consts::ARCH));
        assert!(found.glibc.is_none_or(|version| version >= LibcVersion { major: 2, minor: 2 }), "{found:?}");
        assert!(
            !found.libraries.iter().any(|name| name.starts_with("libc.") || name.starts_with("libcuda")),
            "{found:?}"
        );
    }

    #[test]
    fn scripts_are_programs_and_other_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = |content: &[u8]| {
            let path = folder.path().join("file");
            std::fs::write(&path, content).unwrap();
            requirements(&path)
        };
        assert_eq!(file(b"#!/bin/sh\n").unwrap(), Requirements::default());
        for content in [&b""[..], b"text", b"\x7fELF", b"\x7fELF\x02\x01\x01rest"] {
            assert!(matches!(file(content), Err(RuntimeFileError::NotAProgram { .. })), "{content:?}");
        }
        // The head of a program whose rest was lost.
        let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(matches!(file(&whole[..4096]), Err(RuntimeFileError::NotAProgram { .. })));
    }
}
