//! Sends to many receivers with one call (sendmmsg), each with segments of its own (GSO): the way into the kernel is a large
//! part of what a send costs.
//!
//! Invariant: pointers in the headers are set right before the call and point to what outlives it.

use std::{
    io,
    mem::size_of,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd},
    ptr,
};

use socket2::SockAddr;

use super::{SendOutcome, Socket};

/// Sends in one call.
const BATCH: usize = 32;
/// Room for a segment's length and the address to send from.
const CONTROL: usize = 64;

/// Packets for one receiver: each `segment` bytes long but the last, which may be shorter.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The receiver.
    pub to: SocketAddr,
    /// The local address to send from, where there are several.
    pub from: Option<IpAddr>,
    /// The packets, one behind the other.
    pub bytes: &'a [u8],
    /// Length of each packet but the last.
    pub segment: usize,
}

/// What the kernel is told of a batch, allocated once.
pub struct Sender {
    headers: Box<[libc::mmsghdr; BATCH]>,
    vectors: Box<[libc::iovec; BATCH]>,
    addresses: Box<[SockAddr; BATCH]>,
    controls: Box<[Control; BATCH]>,
}

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

impl Sender {
    /// Buffers for one batch.
    pub fn new() -> Self {
        let nowhere = SockAddr::from(SocketAddr::from(([0; 4], 0)));
        // SAFETY: all fields are integers and pointers, for which zeros are good values.
        let header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        let vector = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Self {
            headers: Box::new([header; BATCH]),
            vectors: Box::new([vector; BATCH]),
            addresses: Box::new(std::array::from_fn(|_| nowhere.clone())),
            controls: Box::new([Control([0; CONTROL]); BATCH]),
        }
    }

    /// Sends all, in order; gives how many the kernel did not take.
    pub fn send_all<'a>(&mut self, socket: &Socket, all: impl Iterator<Item = Outgoing<'a>>) -> u64 {
        let mut lost = 0;
        let mut all = all.peekable();
        while all.peek().is_some() {
            let mut batch = [const { None }; BATCH];
            let mut count = 0;
            for (place, outgoing) in batch.iter_mut().zip(&mut all) {
                *place = Some(outgoing);
                count += 1;
            }
            lost += self.send_batch(socket, batch.get(..count).unwrap_or_default());
        }
        lost
    }

    fn send_batch(&mut self, socket: &Socket, batch: &[Option<Outgoing<'_>>]) -> u64 {
        let mut rest = batch;
        let mut lost = 0;
        while let Some((first, others)) = rest.split_first() {
            let sent = if others.is_empty() { 0 } else { self.call(socket, rest) };
            if sent > 0 {
                rest = rest.get(sent..).unwrap_or_default();
                continue;
            }
            // Alone, or refused: by itself, which also finds out what does not work here.
            if let Some(one) = first
                && socket.send(one.to, one.from, one.bytes, one.segment) != SendOutcome::Sent
            {
                lost += 1;
            }
            rest = others;
        }
        lost
    }

    /// How many of the first the kernel took.
    fn call(&mut self, socket: &Socket, batch: &[Option<Outgoing<'_>>]) -> usize {
        let mut count = 0;
        let places = self.headers.iter_mut().zip(self.vectors.iter_mut()).zip(self.addresses.iter_mut());
        for (((header, vector), address), (control, outgoing)) in
            places.zip(self.controls.iter_mut().zip(batch.iter().flatten()))
        {
            *address = SockAddr::from(socket.destination(outgoing.to));
            *vector =
                libc::iovec { iov_base: outgoing.bytes.as_ptr().cast_mut().cast(), iov_len: outgoing.bytes.len() };
            let mut messages = Messages { control: &mut *control, used: 0 };
            if outgoing.bytes.len() > outgoing.segment {
                messages.push(libc::SOL_UDP, libc::UDP_SEGMENT, outgoing.segment as u16);
            }
            match outgoing.from.filter(|_| socket.is_unspecified()) {
                Some(IpAddr::V4(ip)) => messages.push(libc::IPPROTO_IP, libc::IP_PKTINFO, from_v4(ip)),
                Some(IpAddr::V6(ip)) => messages.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, from_v6(ip)),
                None => {}
            }
            let used = messages.used;
            let message = &mut header.msg_hdr;
            message.msg_name = address.as_ptr().cast_mut().cast();
            message.msg_namelen = address.len();
            message.msg_iov = vector;
            message.msg_iovlen = 1;
            message.msg_control = if used > 0 { control.0.as_mut_ptr().cast() } else { ptr::null_mut() };
            message.msg_controllen = used as _;
            count += 1;
        }
        loop {
            // SAFETY: the first `count` headers were set above; what they point to is in `self` and in `batch`, whose borrows
            // last until the call is over, and the kernel only reads it.
            let sent =
                unsafe { libc::sendmmsg(socket.as_fd().as_raw_fd(), self.headers.as_mut_ptr(), count as u32, 0) };
            match usize::try_from(sent) {
                Ok(sent) => return sent,
                Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return 0,
            }
        }
    }
}

impl Default for Sender {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

fn from_v4(ip: std::net::Ipv4Addr) -> libc::in_pktinfo {
    let address = libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
    libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: libc::in_addr { s_addr: 0 } }
}

fn from_v6(ip: std::net::Ipv6Addr) -> libc::in6_pktinfo {
    libc::in6_pktinfo { ipi6_ifindex: 0, ipi6_addr: libc::in6_addr { s6_addr: ip.octets() } }
}

/// Control messages of one send, one behind the other.
struct Messages<'a> {
    control: &'a mut Control,
    used: usize,
}

impl Messages<'_> {
    fn push<T: Copy>(&mut self, level: i32, kind: i32, value: T) {
        // SAFETY: both only compute.
        let (space, len) = unsafe { (libc::CMSG_SPACE(size_of::<T>() as u32), libc::CMSG_LEN(size_of::<T>() as u32)) };
        let Some(room) = self.control.0.get_mut(self.used..self.used + space as usize) else { return };
        // SAFETY: zeros are good values for integers.
        let mut header: libc::cmsghdr = unsafe { std::mem::zeroed() };
        (header.cmsg_len, header.cmsg_level, header.cmsg_type) = (len as _, level, kind);
        // SAFETY: `room` has the space of a header and a value behind it; unaligned writes ask for no alignment, and neither
        // type owns anything.
        unsafe {
            room.as_mut_ptr().cast::<libc::cmsghdr>().write_unaligned(header);
            room.as_mut_ptr().add(libc::CMSG_LEN(0) as usize).cast::<T>().write_unaligned(value);
        }
        self.used += space as usize;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::SocketConfig;
    use std::{net::UdpSocket, time::Duration};

    fn open(bind: &str) -> Socket {
        Socket::open(SocketConfig { bind: bind.parse().unwrap(), receive_buffer: 1 << 20, send_buffer: 1 << 20 })
            .unwrap()
    }

    fn peer() -> UdpSocket {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        peer
    }

    fn received(peer: &UdpSocket) -> Vec<u8> {
        let mut buffer = [0; 2_000];
        let len = peer.recv(&mut buffer).unwrap();
        buffer[..len].to_vec()
    }

    #[test]
    fn more_than_a_batch_reaches_each_receiver_in_order() {
        for bind in ["127.0.0.1:0", "0.0.0.0:0"] {
            let socket = open(bind);
            let peers: Vec<_> = (0..50).map(|_| peer()).collect();
            let bytes: Vec<Vec<u8>> =
                (0..50u8).map(|n| [vec![n; 900], vec![n + 100; 900], vec![7; 30]].concat()).collect();
            let all = peers.iter().zip(&bytes).map(|(peer, bytes)| Outgoing {
                to: peer.local_addr().unwrap(),
                from: Some([127, 0, 0, 1].into()),
                bytes,
                segment: 900,
            });
            assert_eq!(Sender::new().send_all(&socket, all), 0);
            for (n, peer) in peers.iter().enumerate() {
                assert_eq!(received(peer), vec![n as u8; 900]);
                assert_eq!(received(peer), vec![n as u8 + 100; 900]);
                assert_eq!(received(peer), vec![7; 30]);
            }
        }
    }

    #[test]
    fn one_that_the_kernel_refuses_is_counted_and_the_others_arrive() {
        let (socket, peer) = (open("127.0.0.1:0"), peer());
        let good = peer.local_addr().unwrap();
        let outgoing = |to, n: &'static [u8]| Outgoing { to, from: None, bytes: n, segment: 1 };
        // No IPv6 address can be reached from a socket of IPv4.
        let bad = "[::1]:9".parse().unwrap();
        let all = [outgoing(good, b"a"), outgoing(bad, b"b"), outgoing(good, b"c"), outgoing(bad, b"d")];
        assert_eq!(Sender::new().send_all(&socket, all.into_iter()), 2);
        assert_eq!((received(&peer), received(&peer)), (b"a".to_vec(), b"c".to_vec()));
        assert_eq!(Sender::new().send_all(&socket, std::iter::empty()), 0);
    }
}
