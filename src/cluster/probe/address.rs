//! The addresses that may be probed.
//!
//! Invariant kept here: a probe with its token goes only to an address that a pod can have, never to the node itself
//! or to the metadata service of the cloud. The address comes from the status of the pod, which other clients can
//! write.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::ListParams;
use kube::{Api, Client};

/// Metadata services that return credentials, outside of the link-local addresses.
const METADATA: [IpAddr; 4] = [
    // AWS, by IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    // Google Cloud, by IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    // Alibaba Cloud.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // The channel of Azure to its agents.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

/// Whether a pod can have this address.
pub(super) fn may_ask(address: IpAddr) -> bool {
    // An IPv4 address in IPv6 notation leads to the same host.
    let address = address.to_canonical();
    let one_machine = match address {
        IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_broadcast(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    };
    one_machine
        && !address.is_loopback()
        && !address.is_unspecified()
        && !address.is_multicast()
        && !METADATA.contains(&address)
}

/// A range of addresses, in notation like `10.244.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

impl Cidr {
    /// The range with only this address.
    fn of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, bits: if address.is_ipv4() { 32 } else { 128 } }
    }

    fn contains(&self, address: IpAddr) -> bool {
        let bits = u32::from(self.bits);
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(one), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                one.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(one), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                one.to_bits() & mask == other.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(address, bits)| {
            let address: IpAddr = address.parse().ok()?;
            let bits: u8 = bits.parse().ok()?;
            (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some(Self { address, bits })
        });
        parsed.ok_or_else(|| format!("'{text}' is not a range of addresses like 10.244.0.0/16"))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// The addresses of a cluster that a probe may use.
#[derive(Debug, Default)]
pub(super) struct Reach {
    allowed: Vec<Cidr>,
    refused: Vec<(Cidr, &'static str)>,
}

impl Reach {
    pub(super) fn new(allowed: Vec<Cidr>, refused: Vec<(Cidr, &'static str)>) -> Self {
        Self { allowed, refused }
    }

    /// The reason why no pod may be probed at this address. `hosts` are the addresses of the node of the pod.
    pub(super) fn refusal(&self, address: IpAddr, hosts: &[String]) -> Option<String> {
        let of_node = hosts.iter().filter_map(|host| host.parse::<IpAddr>().ok());
        if of_node.map(|host| host.to_canonical()).any(|host| host == address.to_canonical()) {
            return Some(format!("address {address} is not probed: it is an address of the pod's node"));
        }
        if let Some((_, what)) = self.refused.iter().find(|(range, _)| range.contains(address)) {
            return Some(format!("address {address} is not probed: it belongs to {what}"));
        }
        let outside = !self.allowed.is_empty() && !self.allowed.iter().any(|range| range.contains(address));
        outside.then(|| format!("address {address} is not probed: it is outside of --probe-cidrs"))
    }
}

/// The addresses of the API server and the ranges of Services, as far as they can be read. If the API server does not
/// serve one of these kinds, or does not let the operator read it, that kind adds no address.
pub(super) async fn of_cluster(client: &Client) -> Vec<(Cidr, &'static str)> {
    let mut refused = Vec::new();
    let mut add = |text: &str, what| {
        let range = text.parse::<Cidr>().ok().or_else(|| text.parse().ok().map(Cidr::of));
        refused.extend(range.map(|range| (range, what)));
    };
    match Api::<ServiceCIDR>::all(client.clone()).list(&ListParams::default()).await {
        Ok(all) => {
            let ranges = all.items.iter().filter_map(|range| range.spec.as_ref()?.cidrs.as_ref()).flatten();
            ranges.for_each(|range| add(range, "a range of Services (ServiceCIDR)"));
        }
        Err(error) => tracing::info!(%error, "the ranges of Services are not known"),
    }
    match Api::<Service>::namespaced(client.clone(), "default").get_opt("kubernetes").await {
        Ok(service) => {
            let ips = service.and_then(|service| service.spec?.cluster_ips).unwrap_or_default();
            for ip in &ips {
                add(ip, "the API server");
            }
        }
        Err(error) => tracing::info!(%error, "the Service of the API server is not known"),
    }
    match Api::<EndpointSlice>::namespaced(client.clone(), "default").get_opt("kubernetes").await {
        Ok(slice) => {
            let addresses = slice.and_then(|slice| slice.endpoints).unwrap_or_default();
            addresses
                .iter()
                .flat_map(|endpoint| &endpoint.addresses)
                .for_each(|ip| add(ip, "the API server"));
        }
        Err(error) => tracing::info!(%error, "the addresses of the API server are not known"),
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    // Review sec:S9.
    #[test]
    fn address_of_the_node_the_api_server_and_services_is_refused() {
        let refused = vec![
            ("10.96.0.0/12".parse().unwrap(), "a range of Services (ServiceCIDR)"),
            (Cidr::of("192.168.3.9".parse().unwrap()), "the API server"),
        ];
        let reach = Reach::new(Vec::new(), refused);
        let hosts = ["192.168.3.4".to_owned(), "fd00::4".to_owned()];
        for (address, why) in [
            ("10.244.1.7", None),
            ("10.112.0.1", None),
            ("10.96.0.1", Some("Services")),
            ("10.111.255.255", Some("Services")),
            ("::ffff:10.96.0.1", Some("Services")),
            ("192.168.3.9", Some("the API server")),
            ("192.168.3.4", Some("the pod's node")),
            ("::ffff:192.168.3.4", Some("the pod's node")),
            ("fd00::4", Some("the pod's node")),
            ("fd00::5", None),
        ] {
            let refusal = reach.refusal(address.parse().unwrap(), &hosts);
            assert_eq!(refusal.is_some(), why.is_some(), "{address}: {refusal:?}");
            assert!(refusal.unwrap_or_default().contains(why.unwrap_or_default()), "{address}");
        }
    }

    #[test]
    fn address_outside_of_the_allowed_ranges_is_refused() {
        let allowed = ["10.244.0.0/16", "fd00:10:244::/56"].map(|range| range.parse().unwrap()).to_vec();
        let reach = Reach::new(allowed, Vec::new());
        for (address, may) in [
            ("10.244.255.1", true),
            ("10.245.0.1", false),
            ("fd00:10:244::7", true),
            ("fd00:10:245::7", false),
        ] {
            assert_eq!(reach.refusal(address.parse().unwrap(), &[]).is_none(), may, "{address}");
        }
    }

    #[test]
    fn cidr_is_parsed_only_when_it_is_valid() {
        for text in ["0.0.0.0/0", "10.0.0.0/8", "::/0", "fd00::/128"] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
        for text in ["", "10.0.0.0", "10.0.0.0/33", "fd00::/129", "a/8", "10.0.0.0/-1"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
        assert!("0.0.0.0/0".parse::<Cidr>().unwrap().contains("8.8.8.8".parse().unwrap()));
    }

    #[test]
    fn probe_refuses_loopback_link_local_multicast_and_metadata_addresses() {
        for (address, may) in [
            ("10.244.1.7", true),
            ("192.168.3.4", true),
            ("100.64.0.9", true),
            ("8.8.4.4", true),
            ("fd00:10:244::7", true),
            ("2001:db8::7", true),
            ("::ffff:10.244.1.7", true),
            ("127.0.0.1", false),
            ("127.8.8.8", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("0.0.0.0", false),
            ("::", false),
            ("169.254.169.254", false),
            ("169.254.170.2", false),
            ("::ffff:169.254.169.254", false),
            ("fe80::1", false),
            ("febf::1", false),
            ("224.0.0.1", false),
            ("ff02::1", false),
            ("255.255.255.255", false),
            ("fd00:ec2::254", false),
            ("fd20:ce::254", false),
            ("100.100.100.200", false),
            ("168.63.129.16", false),
        ] {
            assert_eq!(may_ask(address.parse().unwrap()), may, "{address}");
        }
    }
}
