//! What is erased and programmed, and where: arithmetic alone, without a probe.
//!
//! A sector is erased whole, so no sector may reach into a region that is not to be written.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use headroom_shared::board::MemoryRegion;
use serde::Serialize;

/// One memory of the chip, such as a bank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlashMemory {
    pub name: String,
    /// Without gaps, from the lowest address up.
    pub runs: Vec<SectorRun>,
}

/// Sectors of one size that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectorRun {
    pub address: u64,
    pub sector_bytes: u64,
    pub sectors: u64,
}

/// The smallest piece of flash that can be erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Sector {
    pub address: u64,
    pub bytes: u64,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    Firmware,
    Bundle,
}

impl fmt::Display for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Firmware => "firmware",
            Self::Bundle => "bundle",
        })
    }
}

/// Bytes and the address that they go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub address: u64,
    pub data: Vec<u8>,
}

/// All of one content, and the only region that it may touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub content: Content,
    pub region: MemoryRegion,
    pub pieces: Vec<Piece>,
}

/// What one content does to one memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedWrite {
    pub content: Content,
    /// The memory as probe-rs calls it.
    pub memory: String,
    /// The first address that is programmed.
    pub address: u64,
    /// Bytes that are programmed.
    pub bytes: u64,
    /// What is erased before, in order.
    pub sectors: Vec<Sector>,
}

/// Why nothing may be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    #[error("the {content} has no bytes for the flash")]
    Nothing { content: Content },
    #[error(
        "the {content} has {bytes} bytes at {address:#010x}, which is not all flash of the chip: it has {}",
        ranges(flash)
    )]
    OutsideFlash { content: Content, address: u64, bytes: u64, flash: Vec<Range<u64>> },
    #[error(
        "the {content} has {bytes} bytes at {address:#010x}, which is the region of the {other}: {}", range(*region)
    )]
    Overlap { content: Content, address: u64, bytes: u64, other: Content, region: MemoryRegion },
    #[error("the {content} has {bytes} bytes at {address:#010x}, outside its region: {}", range(*region))]
    OutsideRegion { content: Content, address: u64, bytes: u64, region: MemoryRegion },
    #[error("the {content} has two values for the byte at {address:#010x}")]
    Twice { content: Content, address: u64 },
    #[error(
        "the region of the {content}, {}, does not end where sectors do: one has {} bytes at {:#010x}",
        range(*region), sector.bytes, sector.address
    )]
    Misaligned { content: Content, region: MemoryRegion, sector: Sector },
}

fn range(region: MemoryRegion) -> String {
    format!("{} bytes at {:#010x}", region.bytes, region.address)
}

fn ranges(flash: &[Range<u64>]) -> String {
    let texts: Vec<String> = flash.iter().map(|range| format!("{:#010x}..{:#010x}", range.start, range.end)).collect();
    texts.join(", ")
}

impl SectorRun {
    fn range(&self) -> Range<u64> {
        self.address..self.address + self.sector_bytes * self.sectors
    }

    /// The sectors that hold an address of `span`.
    fn touched(self, span: &Range<u64>) -> impl Iterator<Item = Sector> {
        let Range { start, end } = common(&self.range(), span);
        let index = |address: u64| (address - self.address) / self.sector_bytes;
        let indices = if start < end { index(start)..index(end - 1) + 1 } else { 0..0 };
        indices.map(move |index| Sector { address: self.address + index * self.sector_bytes, bytes: self.sector_bytes })
    }
}

impl FlashMemory {
    /// The addresses from the first sector to the end of the last.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        match (self.runs.first(), self.runs.last()) {
            (Some(first), Some(last)) => first.address..last.range().end,
            _ => 0..0,
        }
    }
}

impl Piece {
    /// Its addresses; an end beyond all addresses is the last of them, which no chip has.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.address..self.address.saturating_add(self.data.len() as u64)
    }
}

/// The addresses in both; the end is not behind the start where there are none.
fn common(a: &Range<u64>, b: &Range<u64>) -> Range<u64> {
    a.start.max(b.start)..a.end.min(b.end)
}

fn length(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

/// What must be erased and programmed to write `parts` into `memories`, which do not overlap. In the order of the parts,
/// then of the memories.
///
/// # Errors
/// If a part is empty, says two things about a byte, leaves the flash or its region, touches the region of another, or
/// cannot be written without erasing what is outside its region.
pub fn plan(memories: &[FlashMemory], parts: &[Part]) -> Result<Vec<PlannedWrite>, PlanError> {
    let mut writes = Vec::new();
    for part in parts {
        check_pieces(memories, parts, part)?;
        for memory in memories {
            let Some(write) = write_into(memory, part) else { continue };
            let region = u64::from(part.region.address)..part.region.end();
            let leaves = |sector: &&Sector| sector.address < region.start || sector.address + sector.bytes > region.end;
            if let Some(&sector) = write.sectors.iter().find(leaves) {
                return Err(PlanError::Misaligned { content: part.content, region: part.region, sector });
            }
            writes.push(write);
        }
    }
    Ok(writes)
}

fn check_pieces(memories: &[FlashMemory], parts: &[Part], part: &Part) -> Result<(), PlanError> {
    let content = part.content;
    let pieces = part.pieces.iter().filter(|piece| !piece.data.is_empty());
    // A piece that runs out of addresses has fewer of them than bytes, and so is not all flash.
    let mut pieces: Vec<(Range<u64>, u64)> = pieces.map(|piece| (piece.range(), piece.data.len() as u64)).collect();
    pieces.sort_by_key(|(range, _)| range.start);
    if pieces.is_empty() {
        return Err(PlanError::Nothing { content });
    }
    if let Some(pair) = pieces.windows(2).find(|pair| pair[1].0.start < pair[0].0.end) {
        return Err(PlanError::Twice { content, address: pair[1].0.start });
    }
    for &(ref range, bytes) in &pieces {
        let address = range.start;
        let in_flash: u64 = memories.iter().map(|memory| length(&common(&memory.range(), range))).sum();
        if in_flash != bytes {
            let flash = memories.iter().map(FlashMemory::range).collect();
            return Err(PlanError::OutsideFlash { content, address, bytes, flash });
        }
        for other in parts.iter().filter(|other| other.content != content) {
            if length(&common(&(u64::from(other.region.address)..other.region.end()), range)) > 0 {
                let (other, region) = (other.content, other.region);
                return Err(PlanError::Overlap { content, address, bytes, other, region });
            }
        }
        if address < part.region.address.into() || range.end > part.region.end() {
            return Err(PlanError::OutsideRegion { content, address, bytes, region: part.region });
        }
    }
    Ok(())
}

fn write_into(memory: &FlashMemory, part: &Part) -> Option<PlannedWrite> {
    // Pieces may share a sector; it is erased once.
    let mut sectors = BTreeMap::new();
    let (mut address, mut bytes) = (u64::MAX, 0);
    for piece in &part.pieces {
        let written = common(&memory.range(), &piece.range());
        if length(&written) == 0 {
            continue;
        }
        address = address.min(written.start);
        bytes += length(&written);
        let touched = memory.runs.iter().flat_map(|run| run.touched(&written));
        sectors.extend(touched.map(|sector| (sector.address, sector)));
    }
    let sectors: Vec<Sector> = sectors.into_values().collect();
    let (content, memory) = (part.content, memory.name.clone());
    (!sectors.is_empty()).then_some(PlannedWrite { content, memory, address, bytes, sectors })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn memory(address: u64, sector_bytes: u64, sectors: u64) -> FlashMemory {
        FlashMemory { name: format!("{address:#x}"), runs: vec![SectorRun { address, sector_bytes, sectors }] }
    }

    fn part(content: Content, region: (u32, u32), pieces: &[(u64, usize)]) -> Part {
        let pieces = pieces.iter().map(|&(address, bytes)| Piece { address, data: vec![0; bytes] }).collect();
        Part { content, region: MemoryRegion { address: region.0, bytes: region.1 }, pieces }
    }

    const KIB: u32 = 1024;

    /// Two banks of four sectors, as an STM32H743 has them of eight.
    fn banks() -> Vec<FlashMemory> {
        vec![memory(0x1000, 1024, 4), memory(0x2000, 1024, 4)]
    }

    fn firmware(pieces: &[(u64, usize)]) -> Part {
        part(Content::Firmware, (0x1000, KIB), pieces)
    }

    fn bundle(pieces: &[(u64, usize)]) -> Part {
        part(Content::Bundle, (0x1400, 7 * KIB), pieces)
    }

    #[test]
    fn a_bundle_across_two_banks_is_two_writes() {
        let parts = [firmware(&[(0x1000, 16), (0x1100, 4)]), bundle(&[(0x1400, 4000)])];
        let writes = plan(&banks(), &parts).unwrap();
        let short: Vec<_> = writes.iter().map(|w| (w.content, w.memory.as_str(), w.bytes, w.sectors.len())).collect();
        let bundle = Content::Bundle;
        assert_eq!(
            short,
            [(Content::Firmware, "0x1000", 20, 1), (bundle, "0x1000", 3072, 3), (bundle, "0x2000", 928, 1)]
        );
        assert_eq!(writes[2].sectors, [Sector { address: 0x2000, bytes: 1024 }]);
    }

    #[test]
    fn what_must_not_be_written_is_refused() {
        let refusal = |firmware: Part| plan(&banks(), &[firmware, bundle(&[(0x1400, 1)])]).unwrap_err();
        assert!(matches!(refusal(firmware(&[])), PlanError::Nothing { .. }));
        assert!(matches!(refusal(firmware(&[(0x1000, 0)])), PlanError::Nothing { .. }));
        assert!(matches!(refusal(firmware(&[(0x0fff, 4)])), PlanError::OutsideFlash { bytes: 4, .. }));
        assert!(matches!(refusal(firmware(&[(0x2fff, 2)])), PlanError::OutsideFlash { address: 0x2fff, .. }));
        assert!(matches!(refusal(firmware(&[(u64::MAX, 9)])), PlanError::OutsideFlash { .. }));
        let error = refusal(firmware(&[(0x1000, 8), (0x13ff, 2)]));
        assert_eq!(
            error.to_string(),
            "the firmware has 2 bytes at 0x000013ff, which is the region of the bundle: 7168 bytes at 0x00001400"
        );
        assert!(matches!(refusal(firmware(&[(0x1010, 8), (0x1000, 17)])), PlanError::Twice { address: 0x1010, .. }));
        let alone = |part: Part| plan(&banks(), &[part]).unwrap_err();
        assert!(matches!(alone(firmware(&[(0x1000, 1025)])), PlanError::OutsideRegion { .. }));
        let region = part(Content::Bundle, (0x1200, KIB), &[(0x1200, 1)]);
        assert!(matches!(alone(region), PlanError::Misaligned { sector: Sector { address: 0x1000, .. }, .. }));
    }

    /// Memories of one to three runs with gaps between, and where each begins.
    fn memories() -> impl Strategy<Value = Vec<FlashMemory>> {
        let run = (prop::sample::select(vec![16u64, 64, 256]), 1u64..6);
        let memory = (0u64..3, prop::collection::vec(run, 1..4));
        prop::collection::vec(memory, 1..4).prop_map(|memories| {
            let mut address = 0x1000;
            let mut next = |(gap, runs): (u64, Vec<(u64, u64)>)| {
                address += gap * 256;
                let runs = runs.into_iter().map(|(sector_bytes, sectors)| {
                    let run = SectorRun { address, sector_bytes, sectors };
                    address += sector_bytes * sectors;
                    run
                });
                FlashMemory { name: "bank".into(), runs: runs.collect() }
            };
            memories.into_iter().map(&mut next).collect()
        })
    }

    proptest! {
        #[test]
        fn every_byte_is_in_one_sector_and_no_sector_without_bytes_is_erased(
            memories in memories(),
            pieces in prop::collection::vec((0x0f00u64..0x3000, 0usize..600), 1..5),
            start in 0x0f00u32..0x3000,
            region_bytes in 0u32..0x2000,
        ) {
            let part = part(Content::Bundle, (start, region_bytes), &pieces);
            let Ok(writes) = plan(&memories, std::slice::from_ref(&part)) else { return Ok(()) };
            let sectors: Vec<Sector> = writes.iter().flat_map(|write| write.sectors.clone()).collect();
            let holds = |sector: &Sector, address: u64| (sector.address..sector.address + sector.bytes).contains(&address);
            for address in part.pieces.iter().flat_map(Piece::range) {
                prop_assert_eq!(sectors.iter().filter(|sector| holds(sector, address)).count(), 1);
            }
            for sector in &sectors {
                prop_assert!(part.pieces.iter().flat_map(Piece::range).any(|address| holds(sector, address)));
                prop_assert!(sector.address >= start.into() && sector.address + sector.bytes <= part.region.end());
                let is_of = |run: &SectorRun| run.touched(&run.range()).any(|known| known == *sector);
                prop_assert!(memories.iter().flat_map(|memory| &memory.runs).any(is_of));
            }
            prop_assert!(sectors.is_sorted());
            let bytes: u64 = part.pieces.iter().map(|piece| piece.data.len() as u64).sum();
            prop_assert_eq!(writes.iter().map(|write| write.bytes).sum::<u64>(), bytes);
        }

        #[test]
        fn what_fits_is_planned_and_regions_never_share_a_sector(
            memories in memories(),
            split in any::<prop::sample::Index>(),
            lengths in (1u64..3000, 1u64..3000),
        ) {
            // Two regions that meet where a sector of the first memory begins.
            let run_sectors = |run: &SectorRun| run.touched(&run.range()).collect::<Vec<_>>();
            let all: Vec<Sector> = memories[0].runs.iter().flat_map(run_sectors).collect();
            prop_assume!(all.len() > 1);
            let (range, middle) = (memories[0].range(), all[1 + split.index(all.len() - 1)].address);
            let region = |from: u64, to: u64| (from as u32, (to - from) as u32);
            let (first, second) = (lengths.0.min(middle - range.start), lengths.1.min(range.end - middle));
            let parts = [
                part(Content::Firmware, region(range.start, middle), &[(range.start, first as usize)]),
                part(Content::Bundle, region(middle, range.end), &[(middle, second as usize)]),
            ];
            let writes = plan(&memories, &parts).unwrap();
            let mut sectors: Vec<Sector> = writes.iter().flat_map(|write| write.sectors.clone()).collect();
            let planned = sectors.len();
            sectors.dedup();
            prop_assert_eq!(sectors.len(), planned);
        }
    }
}
