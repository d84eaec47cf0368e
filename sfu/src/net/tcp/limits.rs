//! How many connections there may be, in all and from one address.
//!
//! Invariant: what is counted here are exactly the open connections. IPv6 addresses count by their /64, which one host has whole.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

/// Bounds of one listener. A connection is *proven* once a connectivity check of a session came over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpLimits {
    /// Connections in all.
    pub connections: usize,
    /// Connections from one address: a whole office may share it.
    pub connections_per_address: usize,
    /// Connections that are not proven. Above it the one that has waited longest makes room.
    pub unproven: usize,
    /// Connections from one address that are not proven.
    pub unproven_per_address: usize,
    /// How long a connection may stay unproven.
    pub prove_within: Duration,
}

impl Default for TcpLimits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            connections_per_address: 1_024,
            unproven: 512,
            unproven_per_address: 64,
            prove_within: Duration::from_secs(5),
        }
    }
}

/// What becomes of a newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Welcome,
    /// Once an unproven connection was closed for it.
    InPlaceOfAnother,
    Refused,
}

/// The open connections.
#[derive(Debug)]
pub(super) struct Census {
    limits: TcpLimits,
    all: Count,
    by_address: HashMap<IpAddr, Count>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    open: usize,
    unproven: usize,
}

impl Census {
    pub(super) fn new(limits: TcpLimits) -> Self {
        Self { limits, all: Count::default(), by_address: HashMap::new() }
    }

    /// Whether somebody from this address may come in; does not count it yet.
    pub(super) fn admit(&self, from: IpAddr) -> Admission {
        let here = self.by_address.get(&block(from)).copied().unwrap_or_default();
        let limits = &self.limits;
        if here.open >= limits.connections_per_address || here.unproven >= limits.unproven_per_address {
            return Admission::Refused;
        }
        match (self.all.open >= limits.connections, self.all.unproven >= limits.unproven) {
            (false, false) => Admission::Welcome,
            (true, _) if self.all.unproven == 0 => Admission::Refused,
            _ => Admission::InPlaceOfAnother,
        }
    }

    /// A connection is there, unproven.
    pub(super) fn opened(&mut self, from: IpAddr) {
        for count in [&mut self.all, self.by_address.entry(block(from)).or_default()] {
            count.open += 1;
            count.unproven += 1;
        }
    }

    /// An unproven one is proven.
    pub(super) fn proven(&mut self, from: IpAddr) {
        self.change(from, |count| count.unproven -= 1);
    }

    /// A proven one is so no longer.
    pub(super) fn lapsed(&mut self, from: IpAddr) {
        self.change(from, |count| count.unproven += 1);
    }

    /// A proven one is gone.
    pub(super) fn closed(&mut self, from: IpAddr) {
        self.change(from, |count| count.open -= 1);
        if self.by_address.get(&block(from)).is_some_and(|count| count.open == 0) {
            self.by_address.remove(&block(from));
        }
    }

    pub(super) const fn open(&self) -> usize {
        self.all.open
    }

    fn change(&mut self, from: IpAddr, change: impl Fn(&mut Count)) {
        change(&mut self.all);
        if let Some(here) = self.by_address.get_mut(&block(from)) {
            change(here);
        }
    }
}

/// Addresses that one host can have as many of as it likes.
fn block(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TcpLimits = TcpLimits {
        connections: 6,
        connections_per_address: 4,
        unproven: 3,
        unproven_per_address: 2,
        prove_within: Duration::from_secs(5),
    };

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn one_address_has_its_share_and_others_theirs() {
        let mut census = Census::new(LIMITS);
        (0..2).for_each(|_| census.opened(ip(1)));
        assert_eq!(census.admit(ip(1)), Admission::Refused, "two have proved nothing");
        assert_eq!(census.admit(ip(2)), Admission::Welcome);
        (0..2).for_each(|_| census.proven(ip(1)));
        (0..2).for_each(|_| {
            assert_eq!(census.admit(ip(1)), Admission::Welcome);
            census.opened(ip(1));
            census.proven(ip(1));
        });
        assert_eq!(census.admit(ip(1)), Admission::Refused, "four are all it gets");
    }

    #[test]
    fn newcomers_displace_who_proved_nothing_but_nobody_else() {
        let mut census = Census::new(LIMITS);
        (1..4).for_each(|last| census.opened(ip(last)));
        assert_eq!(census.admit(ip(4)), Admission::InPlaceOfAnother);
        (1..4).for_each(|last| census.proven(ip(last)));
        (4..7).for_each(|last| census.opened(ip(last)));
        assert_eq!((census.open(), census.admit(ip(7))), (6, Admission::InPlaceOfAnother));
        (4..7).for_each(|last| census.proven(ip(last)));
        assert_eq!(census.admit(ip(7)), Admission::Refused);
        census.lapsed(ip(1));
        assert_eq!(census.admit(ip(7)), Admission::InPlaceOfAnother);
    }

    #[test]
    fn who_is_gone_leaves_nothing_behind() {
        let mut census = Census::new(LIMITS);
        for last in 0..200 {
            census.opened(ip(last));
            census.proven(ip(last));
            census.closed(ip(last));
        }
        assert_eq!((census.open(), census.by_address.len()), (0, 0));
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one() {
        let mut census = Census::new(LIMITS);
        (1..3).for_each(|host| census.opened(format!("2001:db8:0:1::{host}").parse().unwrap()));
        assert_eq!(census.admit("2001:db8:0:1:ffff::9".parse().unwrap()), Admission::Refused);
        assert_eq!(census.admit("2001:db8:0:2::9".parse().unwrap()), Admission::Welcome);
    }
}
