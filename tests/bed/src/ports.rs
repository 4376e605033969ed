//! Free loopback ports, chosen so that two beds, or a bed and a passing connection, do not meet on one.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use crate::error::{Doing, Error};
use crate::home::{Base, Home};

/// Below the range from which the kernel takes the ports of outgoing connections, above the well-known ones.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// Takes `N` ports for a home, which notes them; they are its own until it is removed. The base is locked,
/// so nobody else chooses meanwhile.
pub(crate) fn take<const N: usize>(base: &Base, home: &Home) -> Result<[u16; N], Error> {
    let taken: Vec<u16> = fs::read_dir(base.path())
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("ports")).ok())
        .flat_map(|text| text.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<_>>())
        .collect();
    // Different processes begin at different places, in case something else took a port and left it.
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
    /// The whole range once, from its `begin`th number on and around.
    fn cycle_from(self, begin: u16) -> impl Iterator<Item = u16> {
        let middle = self.start + begin;
        (middle..self.end).chain(self.start..middle)
    }
}
