//! Who may be asked at all.
//!
//! Invariant kept here: a question, and the token in it, goes to an address that a pod can have, never to the node
//! itself or to the cloud's metadata service. The address is taken from a pod's status, which others write.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where clouds answer with credentials, outside of the link-local addresses.
const METADATA: [IpAddr; 4] = [
    // AWS, by IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    // Google Cloud, by IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    // Alibaba Cloud.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Azure's channel to its agents.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

/// Whether a pod can have this address.
pub(super) fn may_ask(address: IpAddr) -> bool {
    // An IPv4 address that is written as one of IPv6 leads to the same place.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_asked_and_neither_the_node_itself_nor_the_clouds_metadata() {
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
