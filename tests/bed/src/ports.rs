//! Free loopback ports. The choice avoids conflicts between beds, and with outgoing connections.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use crate::error::{Doing, Error};
use crate::home::{Base, Home};

/// The range is below the kernel's range for outgoing connections, and above the well-known ports.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// Reserves `N` ports for a home, and records them in it until the removal of the home. The base is locked, so that no
/// other process reserves ports meanwhile.
pub(crate) fn take<const N: usize>(base: &Base, home: &Home) -> Result<[u16; N], Error> {
    let taken: Vec<u16> = fs::read_dir(base.path())
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("ports")).ok())
        .flat_map(|text| text.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<_>>())
        .collect();
    // Different processes begin at different ports, in case another program used a port shortly before.
    let begin = u16::try_from(std::process::id() % u32::from(RANGE.end - RANGE.start)).unwrap_or(0);
    let mut free = RANGE
        .cycle_from(begin)
        .filter(|port| !taken.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    let mut ports = [0; N];
    for port in &mut ports {
        *port = free.next().ok_or_else(|| Error::State(format!("no loopback port in {RANGE:?} is free")))?;
    }
    let text = ports.map(|port| port.to_string()).join(" ");
    let file = home.path().join("ports");
    fs::write(&file, text).doing(|| format!("writing {}", file.display()))?;
    Ok(ports)
}

trait CycleFrom {
    fn cycle_from(self, begin: u16) -> impl Iterator<Item = u16>;
}

impl CycleFrom for std::ops::Range<u16> {
    /// The whole range once, from its `begin`th number, with a wrap-around.
    fn cycle_from(self, begin: u16) -> impl Iterator<Item = u16> {
        let middle = self.start + begin;
        (middle..self.end).chain(self.start..middle)
    }
}
