//! Checks of a board profile beyond its form: each is small and has a name.

use super::{BoardProfile, Capability, Chip, DeploymentMethod, MemoryRegion, Microcontroller, Ssh, TotalPower};

/// Why a profile cannot be right. `key` is the one in the file.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BoardError {
    #[error("`{key}` is {found}, expected {expected}")]
    Number { key: &'static str, expected: &'static str, found: f64 },
    #[error("`{lower}` is {lower_found}, expected less than the {upper_found} of `{upper}`")]
    Order { lower: &'static str, lower_found: f64, upper: &'static str, upper_found: f64 },
    #[error("`{key}`: expected {expected}")]
    Text { key: &'static str, expected: &'static str },
    #[error("`{key}`: none found, expected at least one")]
    None { key: &'static str },
    #[error("`{key}`: entry {index} repeats an earlier one")]
    Repeated { key: &'static str, index: usize },
    #[error("`{key}` names no `{of}` of this file")]
    Unknown { key: &'static str, of: &'static str },
    #[error("`{key}` is not for boards with deployment method \"{method}\"")]
    OtherMethod { key: &'static str, method: &'static str },
    #[error("`{key}` and `{other}` overlap")]
    Overlap { key: &'static str, other: &'static str },
}

impl BoardProfile {
    /// Runs every check.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn validate(&self) -> Result<(), BoardError> {
        self.name_is_a_folder_name()?;
        self.board_can_be_told()?;
        self.ceilings_are_positive()?;
        self.fractions_are_fractions()?;
        self.energies_are_finite()?;
        self.limits_are_in_order()?;
        self.temperature_can_be_measured()?;
        match &self.deployment.method {
            DeploymentMethod::Ssh(ssh) => self.is_linux_board(ssh),
            DeploymentMethod::ProbeRs(probe) => self.is_microcontroller(probe.chip.as_ref()),
        }
    }

    fn is_linux_board(&self, ssh: &Ssh) -> Result<(), BoardError> {
        if self.microcontroller.is_some() {
            return Err(BoardError::OtherMethod { key: "microcontroller", method: "ssh" });
        }
        self.power_modes_are_distinct()?;
        self.default_power_mode_exists()?;
        self.power_can_be_measured()?;
        self.rails_are_distinct()?;
        self.total_power_has_rails()?;
        remote_paths_are_absolute(ssh)
    }

    fn is_microcontroller(&self, chip: Option<&Chip>) -> Result<(), BoardError> {
        let method = "probe-rs";
        for (key, is_there) in [
            ("power_mode", !self.power_modes.is_empty()),
            ("default_power_mode", self.default_power_mode.is_some()),
            ("rail", !self.rails.is_empty()),
            ("total_power", self.total_power.is_some()),
        ] {
            if is_there {
                return Err(BoardError::OtherMethod { key, method });
            }
        }
        let memory_map = self.microcontroller.as_ref().ok_or(BoardError::None { key: "microcontroller" })?;
        memory_regions_are_apart(memory_map)?;
        stack_fits(memory_map)?;
        rates_are_positive(chip)
    }

    fn name_is_a_folder_name(&self) -> Result<(), BoardError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if self.name.is_empty() || !self.name.bytes().all(allowed) {
            return Err(BoardError::Text { key: "name", expected: "lower-case letters, digits and hyphens" });
        }
        Ok(())
    }

    fn board_can_be_told(&self) -> Result<(), BoardError> {
        let modules = &self.identity.modules.value;
        if modules.is_empty() {
            return Err(BoardError::None { key: "identity.modules" });
        }
        if modules.iter().any(|module| module.is_empty()) {
            return Err(BoardError::Text { key: "identity.modules", expected: "part numbers" });
        }
        Ok(())
    }

    fn ceilings_are_positive(&self) -> Result<(), BoardError> {
        let ceilings = [
            ("memory.capacity_bytes", self.memory.capacity_bytes.value),
            ("memory.bandwidth_bytes_per_second", self.memory.bandwidth_bytes_per_second.value),
            ("compute.f32_operations_per_second", self.compute.f32_operations_per_second.value),
            ("compute.f16_operations_per_second", self.compute.f16_operations_per_second.value),
            ("compute.int8_operations_per_second", self.compute.int8_operations_per_second.value),
        ];
        match ceilings.iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => Err(BoardError::Number { key, expected: "more than 0", found: 0.0 }),
            None => Ok(()),
        }
    }

    fn fractions_are_fractions(&self) -> Result<(), BoardError> {
        let fractions = [
            ("memory.effective_fraction", self.memory.effective_fraction.value),
            ("compute.effective_fraction", self.compute.effective_fraction.value),
        ];
        // NaN fails both comparisons.
        match fractions.iter().find(|(_, value)| !(*value > 0.0 && *value <= 1.0)) {
            Some(&(key, found)) => Err(BoardError::Number { key, expected: "above 0, to 1", found }),
            None => Ok(()),
        }
    }

    fn energies_are_finite(&self) -> Result<(), BoardError> {
        let energies = [
            ("power.picojoules_per_mac", self.power.picojoules_per_mac.value),
            ("power.picojoules_per_byte", self.power.picojoules_per_byte.value),
        ];
        match energies.iter().find(|(_, value)| !(*value >= 0.0 && value.is_finite())) {
            Some(&(key, found)) => Err(BoardError::Number { key, expected: "finite, 0 or more", found }),
            None => Ok(()),
        }
    }

    fn limits_are_in_order(&self) -> Result<(), BoardError> {
        let degrees = |limit: crate::Temperature| f64::from(limit.as_millidegrees());
        let target = ("thermal.target_millidegrees", degrees(self.thermal.target.value));
        let passive = ("thermal.passive_millidegrees", degrees(self.thermal.passive.value));
        let critical = ("thermal.critical_millidegrees", degrees(self.thermal.critical.value));
        let idle = ("power.idle_milliwatts", f64::from(self.power.idle.value.as_milliwatts()));
        let maximum = ("power.maximum_milliwatts", f64::from(self.power.maximum.value.as_milliwatts()));
        for ((lower, lower_found), (upper, upper_found)) in [(target, passive), (passive, critical), (idle, maximum)] {
            if lower_found >= upper_found {
                return Err(BoardError::Order { lower, lower_found, upper, upper_found });
            }
        }
        Ok(())
    }

    fn power_modes_are_distinct(&self) -> Result<(), BoardError> {
        let key = "power_mode";
        if self.power_modes.is_empty() {
            return Err(BoardError::None { key });
        }
        for (index, mode) in self.power_modes.iter().enumerate() {
            if self.power_modes[..index].iter().any(|other| other.name == mode.name || other.id == mode.id) {
                return Err(BoardError::Repeated { key, index });
            }
        }
        Ok(())
    }

    fn default_power_mode_exists(&self) -> Result<(), BoardError> {
        let key = "default_power_mode";
        let default = self.default_power_mode.as_ref().ok_or(BoardError::None { key })?;
        if self.power_modes.iter().any(|mode| mode.name == *default) {
            return Ok(());
        }
        Err(BoardError::Unknown { key, of: "power_mode" })
    }

    fn measures(&self, capability: Capability) -> bool {
        self.sensors.iter().any(|sensor| sensor.capability == capability)
    }

    fn temperature_can_be_measured(&self) -> Result<(), BoardError> {
        let key = "sensor with capability = \"temperature\"";
        if self.measures(Capability::Temperature) { Ok(()) } else { Err(BoardError::None { key }) }
    }

    fn power_can_be_measured(&self) -> Result<(), BoardError> {
        let key = "sensor with capability = \"power\"";
        if self.measures(Capability::Power) { Ok(()) } else { Err(BoardError::None { key }) }
    }

    fn rails_are_distinct(&self) -> Result<(), BoardError> {
        if self.rails.is_empty() {
            return Err(BoardError::None { key: "rail" });
        }
        for (index, rail) in self.rails.iter().enumerate() {
            if self.rails[..index].iter().any(|other| other.label == rail.label) {
                return Err(BoardError::Repeated { key: "rail", index });
            }
        }
        Ok(())
    }

    fn total_power_has_rails(&self) -> Result<(), BoardError> {
        let key = "rail with in_total = true";
        let rails = self.rails.iter().filter(|rail| rail.in_total).count();
        match self.total_power.ok_or(BoardError::None { key: "total_power" })? {
            _ if rails == 0 => Err(BoardError::None { key }),
            TotalPower::Input if rails > 1 => {
                let expected = "1, because total_power = \"input\"";
                Err(BoardError::Number { key, expected, found: rails as f64 })
            }
            TotalPower::Input | TotalPower::LowerBound => Ok(()),
        }
    }
}

fn remote_paths_are_absolute(ssh: &Ssh) -> Result<(), BoardError> {
    let paths =
        [("deployment.root", &ssh.root), ("deployment.programs", &ssh.programs), ("deployment.bundles", &ssh.bundles)];
    match paths.iter().find(|(_, path)| !path.starts_with('/')) {
        Some((key, _)) => Err(BoardError::Text { key, expected: "an absolute path" }),
        None => Ok(()),
    }
}

/// Each has bytes, lies in 32 bits, and shares none with another.
fn memory_regions_are_apart(memory_map: &Microcontroller) -> Result<(), BoardError> {
    const LIMIT: u64 = 1 << 32;
    let regions: [(&'static str, MemoryRegion); 4] = [
        ("microcontroller.firmware_flash", memory_map.firmware_flash.value),
        ("microcontroller.bundle_flash", memory_map.bundle_flash.value),
        ("microcontroller.main_ram", memory_map.main_ram.value),
        ("microcontroller.scratch_ram", memory_map.scratch_ram.value),
    ];
    for (index, (key, region)) in regions.iter().enumerate() {
        if region.bytes == 0 || region.end() > LIMIT {
            let expected = "1 or more bytes that end within 32-bit addresses";
            return Err(BoardError::Number { key, expected, found: f64::from(region.bytes) });
        }
        if let Some((other, _)) = regions[..index].iter().find(|(_, other)| other.overlaps(region)) {
            return Err(BoardError::Overlap { key, other });
        }
    }
    Ok(())
}

fn stack_fits(memory_map: &Microcontroller) -> Result<(), BoardError> {
    let (stack, ram) = (memory_map.stack_bytes.value, memory_map.main_ram.value.bytes);
    if stack == 0 || stack >= ram {
        let (lower, upper) = ("microcontroller.stack_bytes", "microcontroller.main_ram");
        return Err(BoardError::Order { lower, lower_found: f64::from(stack), upper, upper_found: f64::from(ram) });
    }
    Ok(())
}

fn rates_are_positive(chip: Option<&Chip>) -> Result<(), BoardError> {
    let Some(chip) = chip else { return Ok(()) };
    let rates = [
        ("deployment.sector_erase_milliseconds", chip.sector_erase_milliseconds.value),
        ("deployment.program_bytes_per_second", chip.program_bytes_per_second.value),
        ("deployment.transfer_bytes_per_second", chip.transfer_bytes_per_second.value),
    ];
    match rates.iter().find(|(_, value)| *value == 0) {
        Some((key, _)) => Err(BoardError::Number { key, expected: "more than 0", found: 0.0 }),
        None => Ok(()),
    }
}
