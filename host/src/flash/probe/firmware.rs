//! What of a firmware's ELF file goes into the flash, and for which core it was built.

use std::fmt;
use std::path::{Path, PathBuf};

use object::LittleEndian;
use object::elf::{EM_ARM, FileHeader32, PT_LOAD, SHT_ARM_ATTRIBUTES};
use object::read::elf::{ElfFile32, FileHeader, ProgramHeader, SectionHeader};

use super::plan::Piece;

/// The cores that firmware is checked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Core {
    Armv6M,
    Armv7M,
    Armv7EM,
    Armv8M,
}

impl Core {
    /// Whether code of this version of the Arm architecture runs on it: `Tag_CPU_arch` of the Arm ABI (Addenda to the
    /// ABI, IHI 0045, public attributes).
    fn runs(self, version: u64) -> bool {
        let versions: &[u64] = match self {
            Self::Armv6M => &[V6_M, V6S_M],
            Self::Armv7M => &[V6_M, V6S_M, V7],
            Self::Armv7EM => &[V6_M, V6S_M, V7, V7E_M],
            Self::Armv8M => &[V6_M, V6S_M, V7, V7E_M, V8_M_BASE, V8_M_MAIN],
        };
        versions.contains(&version)
    }
}

const V7: u64 = 10;
const V6_M: u64 = 11;
const V6S_M: u64 = 12;
const V7E_M: u64 = 13;
const V8_M_BASE: u64 = 16;
const V8_M_MAIN: u64 = 17;

impl fmt::Display for Core {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Armv6M => "Armv6-M",
            Self::Armv7M => "Armv7-M",
            Self::Armv7EM => "Armv7E-M",
            Self::Armv8M => "Armv8-M",
        })
    }
}

/// Why a file is no firmware for the board.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FirmwareError {
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("`{}` is no ELF file of 32 bits, little-endian", path.display())]
    NotFirmware { path: PathBuf, source: object::Error },
    #[error("`{}` ends before the bytes for address {address:#010x}: expected {expected} bytes", path.display())]
    Truncated { path: PathBuf, address: u32, expected: u64 },
    #[error("`{}` is for a machine with ELF number {machine}, the board has Arm ({EM_ARM})", path.display())]
    Machine { path: PathBuf, machine: u16 },
    #[error("`{}` is for {}, the board has a core of {core}", path.display(), version_name(*version))]
    Architecture { path: PathBuf, version: u64, core: Core },
}

fn version_name(version: u64) -> String {
    match version {
        V7 => "Armv7".into(),
        V6_M => "Armv6-M".into(),
        V6S_M => "Armv6S-M".into(),
        V7E_M => "Armv7E-M".into(),
        V8_M_BASE => "Armv8-M without the main extension".into(),
        V8_M_MAIN => "Armv8-M".into(),
        other => format!("another version of the Arm architecture (number {other})"),
    }
}

type Elf<'a> = ElfFile32<'a, LittleEndian>;
type Header = FileHeader32<LittleEndian>;

/// Reads what the firmware in the file `path` puts into memory, by physical address, as debug probes load it.
///
/// # Errors
/// If it is no firmware, or none that runs on `core`.
pub fn read(path: &Path, core: Core) -> Result<Vec<Piece>, FirmwareError> {
    let bytes = std::fs::read(path).map_err(|source| FirmwareError::Read { path: path.to_owned(), source })?;
    let broken = |source| FirmwareError::NotFirmware { path: path.to_owned(), source };
    let elf = Elf::parse(&*bytes).map_err(broken)?;
    let machine = elf.elf_header().e_machine(LittleEndian);
    if machine != EM_ARM {
        return Err(FirmwareError::Machine { path: path.to_owned(), machine });
    }
    if let Some(version) = architecture_version(&elf, &bytes).map_err(broken)?
        && !core.runs(version)
    {
        return Err(FirmwareError::Architecture { path: path.to_owned(), version, core });
    }
    let truncated = |(address, expected)| FirmwareError::Truncated { path: path.to_owned(), address, expected };
    pieces(&elf, &bytes).map_err(truncated)
}

/// The loadable segments. One that holds no section is the linker's own headers, which nothing reads. The error is the
/// address of a segment that the file does not have, and where in the file it would end.
fn pieces(elf: &Elf<'_>, bytes: &[u8]) -> Result<Vec<Piece>, (u32, u64)> {
    let sections: Vec<(u64, u64)> =
        elf.elf_section_table().iter().filter_map(|section| section.file_range(LittleEndian)).collect();
    let mut pieces = Vec::new();
    for segment in elf.elf_program_headers() {
        let (offset, length) = segment.file_range(LittleEndian);
        let holds = |&(start, bytes): &(u64, u64)| {
            bytes > 0 && start >= offset && start.saturating_add(bytes) <= offset.saturating_add(length)
        };
        if segment.p_type(LittleEndian) != PT_LOAD || !sections.iter().any(holds) {
            continue;
        }
        let address = segment.p_paddr(LittleEndian);
        let data = segment.data(LittleEndian, bytes).map_err(|()| (address, offset.saturating_add(length)))?;
        pieces.push(Piece { address: address.into(), data: data.to_vec() });
    }
    Ok(pieces)
}

/// `Tag_CPU_arch` of the whole file, where it is said.
fn architecture_version(elf: &Elf<'_>, bytes: &[u8]) -> object::Result<Option<u64>> {
    const WHOLE_FILE: u8 = 1;
    let is_attributes =
        |section: &&<Header as FileHeader>::SectionHeader| section.sh_type(LittleEndian) == SHT_ARM_ATTRIBUTES;
    let Some(section) = elf.elf_section_table().iter().find(is_attributes) else { return Ok(None) };
    let mut subsections = section.attributes(LittleEndian, bytes)?.subsections()?;
    while let Some(subsection) = subsections.next()? {
        if subsection.vendor() != b"aeabi" {
            continue;
        }
        let mut groups = subsection.subsubsections();
        while let Some(group) = groups.next()? {
            if group.tag() != WHOLE_FILE {
                continue;
            }
            let mut attributes = group.attributes();
            while let Some(tag) = attributes.read_tag()? {
                match tag {
                    CPU_ARCH => return attributes.read_integer().map(Some),
                    // Names, and above 32 every odd tag, are texts; the compatibility tag is a number and a text.
                    CPU_RAW_NAME | CPU_NAME => drop(attributes.read_string()?),
                    COMPATIBILITY => {
                        attributes.read_integer()?;
                        attributes.read_string()?;
                    }
                    text if text > COMPATIBILITY && text % 2 == 1 => drop(attributes.read_string()?),
                    _ => drop(attributes.read_integer()?),
                }
            }
        }
    }
    Ok(None)
}

const CPU_RAW_NAME: u64 = 4;
const CPU_NAME: u64 = 5;
const CPU_ARCH: u64 = 6;
const COMPATIBILITY: u64 = 32;
