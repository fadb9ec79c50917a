//! Finding the one debug probe to use.

use nusb::MaybeFuture;
use probe_rs::probe::list::{Accessibility, Lister, ProbeListItem};
use probe_rs::probe::{DebugProbeInfo, DebugProbeSelector, Probe};

use super::error::ProbeError;

/// The probe that is plugged in; of several the one that `wanted` names.
///
/// # Errors
/// If there is none, not exactly one, or this user may not use it.
pub fn find(wanted: Option<&str>) -> Result<DebugProbeInfo, ProbeError> {
    choose(Lister::new().list_all_with_access(), wanted, usb_devices)
}

fn choose(
    found: Vec<ProbeListItem>,
    wanted: Option<&str>,
    usb: impl Fn() -> Vec<String>,
) -> Result<DebugProbeInfo, ProbeError> {
    let names = |items: &[ProbeListItem]| items.iter().map(|item| item.info.to_string()).collect();
    if found.is_empty() {
        return Err(ProbeError::NoProbe { usb: usb() });
    }
    let selector: Option<DebugProbeSelector> = wanted.and_then(|wanted| wanted.parse().ok());
    let is_wanted = |item: &&ProbeListItem| selector.as_ref().is_none_or(|selector| selector.matches_probe(&item.info));
    let chosen: Vec<ProbeListItem> = found.iter().filter(is_wanted).cloned().collect();
    match (&chosen[..], wanted) {
        ([only], _) if only.accessibility == Accessibility::PermissionDenied => {
            Err(ProbeError::NotPermitted { probe: only.info.to_string() })
        }
        ([only], _) => Ok(only.info.clone()),
        ([], Some(wanted)) => Err(ProbeError::OtherProbes { wanted: wanted.to_owned(), found: names(&found) }),
        _ => Err(ProbeError::SeveralProbes { found: names(&chosen) }),
    }
}

/// Every device on USB, so that a probe that is not recognised can be seen. Nothing where USB cannot be listed.
fn usb_devices() -> Vec<String> {
    let Ok(devices) = nusb::list_devices().wait() else { return Vec::new() };
    let text = |device: nusb::DeviceInfo| {
        let name = device.product_string().unwrap_or("a device without a name");
        format!("{:04x}:{:04x} {name}", device.vendor_id(), device.product_id())
    };
    devices.map(text).collect()
}

/// Opens a probe and sets its clock.
///
/// # Errors
/// If it cannot be opened or does not know the clock.
pub fn open(info: &DebugProbeInfo, kilohertz: Option<u32>) -> Result<Probe, ProbeError> {
    let probe = || info.to_string();
    let mut opened = info.open().map_err(|source| ProbeError::Open { probe: probe(), source: source.into() })?;
    if let Some(kilohertz) = kilohertz {
        let refused = |source| ProbeError::Speed { probe: probe(), kilohertz, source };
        opened.set_speed(kilohertz).map_err(|source| refused(source.into()))?;
    }
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use probe_rs::probe::stlink::StLinkFactory;

    use super::*;

    fn probe(serial: &str) -> ProbeListItem {
        let serial = Some(serial.to_owned());
        ProbeListItem::accessible(DebugProbeInfo::new("STLink V3", 0x0483, 0x374e, serial, &StLinkFactory, None, false))
    }

    fn refusal(found: Vec<ProbeListItem>, wanted: Option<&str>) -> ProbeError {
        choose(found, wanted, || vec!["1d6b:0002 root hub".into()]).unwrap_err()
    }

    #[test]
    fn the_only_probe_needs_no_name_and_several_do() {
        let none = || -> Vec<String> { panic!("nobody needs the list of USB devices") };
        let serial = |found, wanted| choose(found, wanted, none).unwrap().serial_number;
        assert_eq!(serial(vec![probe("A")], None).as_deref(), Some("A"));
        assert_eq!(serial(vec![probe("A"), probe("B")], Some("0483:374e:B")).as_deref(), Some("B"));

        let several = refusal(vec![probe("A"), probe("B")], None);
        assert!(several.to_string().starts_with("there are 2 debug probes: "), "{several}");
        assert!(several.to_string().contains("0483:374e:B") && several.hint().unwrap().contains("--probe"));
        assert!(matches!(refusal(vec![probe("A"), probe("B")], Some("0483:374e")), ProbeError::SeveralProbes { .. }));
        let other = refusal(vec![probe("A")], Some("0483:374e:C"));
        assert!(other.to_string().contains("no debug probe `0483:374e:C`; found: STLink V3"), "{other}");
    }

    #[test]
    fn none_and_a_forbidden_one_are_told_with_the_udev_hint() {
        let none = refusal(Vec::new(), Some("0483:374e"));
        assert_eq!(none.to_string(), "no debug probe was found; on USB: 1d6b:0002 root hub");
        let mut forbidden = probe("A");
        forbidden.accessibility = Accessibility::PermissionDenied;
        let forbidden = refusal(vec![forbidden], None);
        assert!(matches!(forbidden, ProbeError::NotPermitted { .. }));
        for error in [none, forbidden] {
            let hint = error.hint().unwrap();
            assert!(hint.contains("probe.rs/docs/getting-started/probe-setup") && hint.contains("plugdev"), "{hint}");
        }
    }
}
