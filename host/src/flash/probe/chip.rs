//! What probe-rs knows about a chip: its flash, its sectors and its core.

use probe_rs::Target;
use probe_rs::config::{CoreType, MemoryRange, MemoryRegion, NvmRegion, RawFlashAlgorithm, Registry, RegistryError};

use super::firmware::Core;
use super::plan::{FlashMemory, SectorRun};

/// A chip of probe-rs.
pub struct Chip {
    pub target: Target,
    pub core: Core,
    /// From the lowest address up; they do not overlap.
    pub memories: Vec<FlashMemory>,
}

/// Why probe-rs cannot program a chip.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChipError {
    #[error("probe-rs {PROBE_RS} knows no chip `{name}`")]
    Unknown { name: String, source: RegistryError },
    #[error("probe-rs {PROBE_RS} knows no chip `{name}`, only `{found}`")]
    OtherName { name: String, found: String },
    #[error("`{name}` has a core of the kind {core:?}, expected a Cortex-M")]
    Core { name: String, core: CoreType },
    #[error("probe-rs {PROBE_RS} does not know how to program a flash of `{name}`")]
    NoFlash { name: String },
}

/// The version that is linked, for messages; a test compares it with `Cargo.lock`.
const PROBE_RS: &str = "0.32";

/// Looks up the chip by its full name.
///
/// # Errors
/// If probe-rs does not know it, or cannot program it.
pub fn find(name: &str) -> Result<Chip, ChipError> {
    let registry = Registry::from_builtin_families();
    let unknown = |source| ChipError::Unknown { name: name.to_owned(), source };
    let target = registry.get_target_by_name(name).map_err(unknown)?;
    // The registry takes a prefix for a name, too.
    if !target.name.eq_ignore_ascii_case(name) {
        return Err(ChipError::OtherName { name: name.to_owned(), found: target.name });
    }
    let core = match target.default_core().core_type {
        CoreType::Armv6m => Core::Armv6M,
        CoreType::Armv7m => Core::Armv7M,
        CoreType::Armv7em => Core::Armv7EM,
        CoreType::Armv8m => Core::Armv8M,
        core => return Err(ChipError::Core { name: name.to_owned(), core }),
    };
    let regions = target.memory_map.iter().filter_map(MemoryRegion::as_nvm_region).filter(|region| !region.is_alias);
    let mut memories: Vec<FlashMemory> = regions.filter_map(|region| memory(&target, region)).collect();
    memories.sort_by_key(|memory| memory.range().start);
    if memories.is_empty() {
        return Err(ChipError::NoFlash { name: name.to_owned() });
    }
    Ok(Chip { target, core, memories })
}

/// The sectors of a memory, as probe-rs will erase them; `None` if it has no one way to program it.
fn memory(target: &Target, region: &NvmRegion) -> Option<FlashMemory> {
    let flash = &algorithm(target, region)?.flash_properties;
    let ends = flash.sectors.iter().skip(1).map(|next| flash.address_range.start + next.address);
    let runs = flash.sectors.iter().zip(ends.chain([flash.address_range.end]));
    let runs = runs.filter_map(|(description, end)| {
        let (start, size) = (flash.address_range.start + description.address, description.size);
        // Only whole sectors are erased.
        let first = region.range.start.saturating_sub(start).div_ceil(size);
        let last = (end.min(region.range.end).saturating_sub(start)) / size;
        let sectors = last.checked_sub(first)?;
        (sectors > 0).then_some(SectorRun { address: start + first * size, sector_bytes: size, sectors })
    });
    let memory = FlashMemory { name: region.name.clone().unwrap_or_else(|| "flash".to_owned()), runs: runs.collect() };
    // With pages larger than sectors, more is erased than is planned.
    let pages_fit = memory.runs.iter().all(|run| run.sector_bytes.is_multiple_of(flash.page_size.max(1).into()));
    (pages_fit && !memory.runs.is_empty()).then_some(memory)
}

/// The routine that probe-rs takes for a region: the only one that covers it, or the default of several.
fn algorithm<'a>(target: &'a Target, region: &NvmRegion) -> Option<&'a RawFlashAlgorithm> {
    let core = region.cores.first()?;
    let covers = |algorithm: &&RawFlashAlgorithm| {
        algorithm.flash_properties.address_range.contains_range(&region.range)
            && (algorithm.cores.is_empty() || algorithm.cores.contains(core))
    };
    let all: Vec<&RawFlashAlgorithm> = target.flash_algorithms.iter().filter(covers).collect();
    let mut defaults = all.iter().filter(|algorithm| algorithm.default);
    match (&all[..], defaults.next(), defaults.next()) {
        (&[only], ..) => Some(only),
        (_, Some(&default), None) => Some(default),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use headroom_shared::board::DeploymentMethod;

    use super::*;
    use crate::boards;
    use crate::flash::probe::plan::{Content, Part, Piece, plan};

    #[test]
    fn the_registry_has_the_sectors_that_the_data_sheets_have() {
        let nucleo = find("STM32H743ZITx").unwrap();
        let bank = |name: &str, address| {
            let run = SectorRun { address, sector_bytes: 128 << 10, sectors: 8 };
            FlashMemory { name: name.into(), runs: vec![run] }
        };
        assert_eq!(nucleo.memories, [bank("BANK_1", 0x0800_0000), bank("BANK_2", 0x0810_0000)]);
        assert_eq!(nucleo.core, Core::Armv7EM);
        let pico = find("RP235x").unwrap();
        assert_eq!((pico.core, pico.memories[0].runs[0].sector_bytes), (Core::Armv8M, 4 << 10));
        assert_eq!(pico.memories[0].runs[0].address, 0x1000_0000);
    }

    #[test]
    fn the_regions_of_every_board_are_whole_sectors_of_its_chip() {
        let mut boards_with_chips = 0;
        for name in boards::names() {
            let board = boards::find(name).unwrap().profile;
            let DeploymentMethod::ProbeRs(probe) = &board.deployment.method else { continue };
            let Some(chip) = &probe.chip else { continue };
            let map = board.microcontroller.as_ref().unwrap();
            let whole = |content, region: headroom_shared::board::MemoryRegion| {
                let data = vec![0; region.bytes as usize];
                Part { content, region, pieces: vec![Piece { address: region.address.into(), data }] }
            };
            let parts =
                [whole(Content::Firmware, map.firmware_flash.value), whole(Content::Bundle, map.bundle_flash.value)];
            let writes = plan(&find(&chip.name).unwrap().memories, &parts).unwrap();
            let erased: u64 = writes.iter().flat_map(|write| &write.sectors).map(|sector| sector.bytes).sum();
            assert_eq!(erased, u64::from(map.firmware_flash.value.bytes) + u64::from(map.bundle_flash.value.bytes));
            boards_with_chips += 1;
        }
        assert_eq!(boards_with_chips, 2);
    }

    #[test]
    fn a_chip_that_is_not_there_is_refused() {
        let text = |name: &str| find(name).err().unwrap().to_string();
        assert_eq!(text("STM32H743QITx"), "probe-rs 0.32 knows no chip `STM32H743QITx`");
        // An `x` in the registry stands for any letter.
        assert!(text("STM32H743ZITy").contains("only `STM32H743ZITx`"));
        assert!(text("STM32H743").contains("knows no chip `STM32H743`"));
        assert!(text("RP235").contains("knows no chip `RP235`"));
        assert!(text("RP235x_riscv").contains("expected a Cortex-M"));
    }

    #[test]
    fn messages_name_the_version_that_is_linked() {
        let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
        let lock = std::fs::read_to_string(lock).unwrap();
        assert!(lock.contains(&format!("name = \"probe-rs\"\nversion = \"{PROBE_RS}.")));
    }
}
