//! Small ELF files as linkers of microcontrollers write them, and as they do not.

/// What stands in the file.
#[derive(Clone)]
pub struct Elf {
    /// The ELF number of the machine; Arm has 40.
    pub machine: u16,
    /// 1 for 32 bits, 2 for 64.
    pub class: u8,
    /// `Tag_CPU_arch`: 13 is Armv7E-M, 17 is Armv8-M.
    pub architecture: u8,
    /// Physical address and length of each segment; each holds one section.
    pub segments: Vec<(u32, u32)>,
}

impl Elf {
    pub fn arm(architecture: u8, segments: &[(u32, u32)]) -> Self {
        Self { machine: 40, class: 1, architecture, segments: segments.to_vec() }
    }

    pub fn bytes(&self) -> Vec<u8> {
        const HEADER: u32 = 52;
        const PROGRAM_HEADER: u32 = 32;
        const SECTION_HEADER: u32 = 40;
        let count = self.segments.len() as u32;
        let attributes = attributes(self.architecture);
        let data_from = HEADER + count * PROGRAM_HEADER;
        let data_to = data_from + self.segments.iter().map(|(_, length)| length).sum::<u32>();
        let names_from = data_to + attributes.len() as u32;
        let sections_from = names_from + 1;

        let mut file = b"\x7fELF".to_vec();
        file.extend([self.class, 1, 1]);
        file.resize(16, 0);
        half(&mut file, &[2, self.machine]);
        word(&mut file, &[1, 0x0800_0001, HEADER, sections_from, 0x0500_0400]);
        half(
            &mut file,
            &[
                HEADER as u16,
                PROGRAM_HEADER as u16,
                count as u16,
                SECTION_HEADER as u16,
                count as u16 + 3,
                count as u16 + 2,
            ],
        );
        let mut at = data_from;
        for &(address, length) in &self.segments {
            word(&mut file, &[1, at, address, address, length, length, 5, 4]);
            at += length;
        }
        for &(_, length) in &self.segments {
            file.extend((0..length).map(|index| index as u8));
        }
        file.extend(&attributes);
        // The names of the sections: none of them has one.
        file.push(0);
        // The empty section that every table begins with, then one for each segment, the attributes and the names.
        file.extend([0; SECTION_HEADER as usize]);
        let mut at = data_from;
        for &(address, length) in &self.segments {
            word(&mut file, &[0, 1, 2, address, at, length, 0, 0, 4, 0]);
            at += length;
        }
        word(&mut file, &[0, 0x7000_0003, 0, 0, data_to, attributes.len() as u32, 0, 0, 1, 0]);
        word(&mut file, &[0, 3, 0, 0, names_from, 1, 0, 0, 1, 0]);
        file
    }
}

/// The section `.ARM.attributes`, with a name before the architecture.
fn attributes(architecture: u8) -> Vec<u8> {
    let tags = [&b"\x05cortex\0\x06"[..], &[architecture], b"\x07M"].concat();
    let mut whole_file = vec![1];
    word(&mut whole_file, &[5 + tags.len() as u32]);
    whole_file.extend(tags);
    let mut section = vec![b'A'];
    word(&mut section, &[4 + 6 + whole_file.len() as u32]);
    section.extend(b"aeabi\0");
    section.extend(whole_file);
    section
}

fn half(file: &mut Vec<u8>, values: &[u16]) {
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn word(file: &mut Vec<u8>, values: &[u32]) {
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}
