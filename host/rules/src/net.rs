//! Addresses and networks as rules write them: `10.0.0.0/8`, `::1`.

use std::net::IpAddr;

/// A network; a single address is one of full length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Net {
    address: IpAddr,
    length: u32,
}

impl Net {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let full = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            Some(length) => length.parse().ok().filter(|length| *length <= full)?,
            None => full,
        };
        Some(Self { address, length })
    }

    /// An IPv4 address inside IPv6 counts as IPv4: a dual-stack socket must not slip through.
    pub(crate) fn contains(self, address: IpAddr) -> bool {
        let address = if self.address.is_ipv4() { address.to_canonical() } else { address };
        let (net, other, full) = match (self.address, address) {
            (IpAddr::V4(net), IpAddr::V4(other)) => {
                (u128::from(net.to_bits()), u128::from(other.to_bits()), 32)
            }
            (IpAddr::V6(net), IpAddr::V6(other)) => (net.to_bits(), other.to_bits(), 128),
            _ => return false,
        };
        // Shifting by the whole width is not defined; a network of length 0 holds everything of its kind.
        let host_bits: u32 = full - self.length;
        host_bits == 128 || net >> host_bits == other >> host_bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(net: &str, address: &str) -> bool {
        Net::parse(net).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn networks_hold_their_addresses() {
        assert!(holds("127.0.0.0/8", "127.1.2.3"));
        assert!(!holds("127.0.0.0/8", "128.0.0.1"));
        assert!(holds("127.0.0.0/8", "::ffff:127.0.0.1"));
        assert!(holds("169.254.169.254", "169.254.169.254"));
        assert!(holds("0.0.0.0/0", "8.8.8.8"));
        assert!(holds("::/0", "2001:db8::1"));
        assert!(holds("fd00::/8", "fd12::1"));
        assert!(!holds("0.0.0.0/0", "2001:db8::1"));
    }

    #[test]
    fn what_is_no_network_is_none() {
        for text in ["", "localhost", "10.0.0.0/33", "10.0.0.0/", "::/129", "10.0.0/8"] {
            assert_eq!(Net::parse(text), None, "{text}");
        }
    }
}
