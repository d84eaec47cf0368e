//! Where rooms' media comes in: addresses to listen on and to announce, ports, shards.
//!
//! Invariant: media is not reachable from further away than the signaling is, except behind a proxy, which carries no media.

use crate::serve::tls::lan_addresses;
use anyhow::bail;
use halloo_sfu::SfuConfig;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    thread::available_parallelism,
};

/// The first shard's port where others are to reach it: firewalls want a fixed one.
const DEFAULT_PORT: u16 = 10_000;
/// More shards than this are of no use to one machine's network card.
const MAX_SHARDS: usize = 64;

/// What the operator said.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::serve) struct MediaSettings {
    pub(in crate::serve) port: Option<u16>,
    pub(in crate::serve) bind: Option<IpAddr>,
    pub(in crate::serve) announce: Vec<IpAddr>,
    pub(in crate::serve) shards: Option<usize>,
    pub(in crate::serve) pin: bool,
    pub(in crate::serve) no_tcp: bool,
}

/// What is decided before anything is opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::serve) struct MediaPlan {
    bind: SocketAddr,
    announce: Vec<IpAddr>,
    shards: usize,
    pin: bool,
    no_tcp: bool,
}

impl MediaPlan {
    /// Joins what was said with where signaling listens.
    ///
    /// # Errors
    /// In words, where it does not hold together.
    pub(in crate::serve) fn new(said: MediaSettings, signaling: IpAddr, behind_proxy: bool) -> anyhow::Result<Self> {
        let bind = said.bind.unwrap_or_else(|| default_bind(signaling, behind_proxy));
        let port = said.port.unwrap_or(if bind.is_loopback() { 0 } else { DEFAULT_PORT });
        let shards = said.shards.unwrap_or_else(|| available_parallelism().map_or(1, usize::from)).min(MAX_SHARDS);
        if shards == 0 {
            bail!("--media-shards is how many threads forward media: at least 1");
        }
        if port != 0 && usize::from(port) + shards - 1 > usize::from(u16::MAX) {
            bail!(
                "--media-port {port}: each of the {shards} shards takes a port from there on, and ports end at 65535"
            );
        }
        if let Some(address) = said.announce.iter().find(|address| address.is_unspecified() || address.is_multicast()) {
            bail!(
                "--media-address {address}: clients cannot send there; give the address that they reach this server at"
            );
        }
        let MediaSettings { announce, pin, no_tcp, .. } = said;
        Ok(Self { bind: SocketAddr::new(bind, port), announce, shards, pin, no_tcp })
    }

    /// Whether clients may come over TCP.
    pub(in crate::serve) const fn has_tcp(&self) -> bool {
        !self.no_tcp
    }

    /// The forwarding unit's configuration.
    ///
    /// # Errors
    /// In words, where the machine has no address to announce.
    pub(super) fn config(&self) -> anyhow::Result<SfuConfig> {
        let mut announce = self.announce.clone();
        if announce.is_empty() && self.bind.ip().is_unspecified() {
            announce = lan_addresses();
            announce.retain(|address| address.is_ipv4() || self.bind.is_ipv6());
            if announce.is_empty() {
                // No network: this machine's own browsers still reach it.
                announce.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
            }
        }
        let mut config =
            SfuConfig { shards: self.shards, bind: self.bind, announce, pin: self.pin, ..SfuConfig::default() };
        if self.no_tcp {
            config.tcp = None;
        }
        Ok(config)
    }
}

fn default_bind(signaling: IpAddr, behind_proxy: bool) -> IpAddr {
    let everywhere = signaling.is_unspecified() || (behind_proxy && signaling.is_loopback());
    if !everywhere {
        return signaling;
    }
    // The unspecified IPv6 address takes IPv4 too, where there is IPv6 at all.
    match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(_) => Ipv6Addr::UNSPECIFIED.into(),
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(said: MediaSettings, signaling: &str, behind_proxy: bool) -> anyhow::Result<MediaPlan> {
        MediaPlan::new(said, signaling.parse().unwrap(), behind_proxy)
    }

    #[test]
    fn media_stays_where_signaling_is_and_has_a_fixed_port_where_others_reach_it() {
        let own = plan(MediaSettings::default(), "127.0.0.1", false).unwrap();
        assert_eq!(own.bind, "127.0.0.1:0".parse::<SocketAddr>().unwrap());
        assert!(own.shards >= 1);
        let one = plan(MediaSettings::default(), "192.0.2.7", false).unwrap();
        assert_eq!(one.bind, "192.0.2.7:10000".parse::<SocketAddr>().unwrap());
        assert!(one.config().unwrap().announce.is_empty());
        for (signaling, behind_proxy) in [("0.0.0.0", false), ("127.0.0.1", true)] {
            let open = plan(MediaSettings::default(), signaling, behind_proxy).unwrap();
            assert!(open.bind.ip().is_unspecified() && open.bind.port() == 10_000);
            assert!(!open.config().unwrap().announce.is_empty());
        }
    }

    #[test]
    fn what_was_said_goes_first() {
        let announce = vec!["203.0.113.5".parse().unwrap()];
        let said = MediaSettings { port: Some(5), shards: Some(3), announce: announce.clone(), ..Default::default() };
        let config = plan(said, "0.0.0.0", false).unwrap().config().unwrap();
        assert_eq!((config.bind.port(), config.shards, config.announce), (5, 3, announce));
        let with_tcp = |no_tcp| {
            let said = MediaSettings { no_tcp, ..Default::default() };
            plan(said, "127.0.0.1", false).unwrap().config().unwrap().tcp.is_some()
        };
        assert!(with_tcp(false) && !with_tcp(true));
    }

    #[test]
    fn what_cannot_work_is_refused_by_the_flags_name() {
        let refused = |said| plan(said, "127.0.0.1", false).unwrap_err().to_string();
        let none = MediaSettings { shards: Some(0), ..Default::default() };
        assert!(refused(none).contains("--media-shards"));
        let high = MediaSettings { shards: Some(2), port: Some(65_535), ..Default::default() };
        assert!(refused(high).contains("--media-port"));
        let nowhere = MediaSettings { announce: vec!["0.0.0.0".parse().unwrap()], ..Default::default() };
        assert!(refused(nowhere).contains("--media-address"));
    }
}
