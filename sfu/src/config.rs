//! How a forwarding unit is set up.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::{dtls::WorkersConfig, net::TcpLimits, shard::ShardConfig};

/// A unit's settings.
#[derive(Clone, Debug)]
pub struct SfuConfig {
    /// Shards: threads that forward, each with a port of its own. At least one; more than processors are of no use.
    pub shards: usize,
    /// Where the first shard listens; each further one takes the next port. Port 0 lets the system choose all. The unspecified
    /// IPv6 address takes IPv4 too.
    pub bind: SocketAddr,
    /// Addresses that clients are told: those of a NAT or load balancer in front. Empty: the one in `bind`.
    pub announce: Vec<IpAddr>,
    /// Bounds of the TCP connections of each shard, which come to the same port number as its UDP datagrams; without, there is
    /// no TCP.
    pub tcp: Option<TcpLimits>,
    /// Bounds of each shard. `ntp_at_zero` is set at start.
    pub shard: ShardConfig,
    /// Handshake threads.
    pub workers: WorkersConfig,
    /// Whether each shard keeps to one processor, where that is allowed.
    pub pin: bool,
    /// Bytes of each socket's receive buffer; the kernel's limit (`net.core.rmem_max`) applies.
    pub receive_buffer: usize,
    /// Bytes of each socket's send buffer; the kernel's limit (`net.core.wmem_max`) applies.
    pub send_buffer: usize,
    /// Control messages that may wait for a shard before further ones are refused.
    pub control_queue: usize,
    /// Wall-clock time now, since 1900 (NTP era 0): sender reports carry it.
    pub ntp_now: Duration,
}

impl Default for SfuConfig {
    fn default() -> Self {
        Self {
            shards: 1,
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            announce: Vec::new(),
            tcp: Some(TcpLimits::default()),
            shard: ShardConfig::default(),
            workers: WorkersConfig::default(),
            pin: false,
            receive_buffer: 8 << 20,
            send_buffer: 8 << 20,
            control_queue: 1_024,
            ntp_now: Duration::ZERO,
        }
    }
}
