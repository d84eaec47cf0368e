//! A UDP socket: many datagrams in with one call (recvmmsg, GRO), many to one receiver out with one call (GSO).
//!
//! Where the kernel or the network card cannot do GSO, packets leave one by one; that is found out by trying.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

/// Room for what GRO puts together.
const RECEIVE_BUFFER: usize = 1 << 16;

/// How to open a socket.
#[derive(Clone, Copy, Debug)]
pub struct SocketConfig {
    /// Address and port; port 0 lets the system choose. The unspecified IPv6 address takes IPv4 too.
    pub bind: SocketAddr,
    /// `SO_RCVBUF` in bytes; the kernel may give less.
    pub receive_buffer: usize,
    /// `SO_SNDBUF` in bytes; the kernel may give less.
    pub send_buffer: usize,
}

/// An open socket.
#[derive(Debug)]
pub struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
    /// IPv4 addresses are written as IPv6 ones.
    mapped: bool,
    /// Bound to all addresses: which one to send from has to be said.
    unspecified: bool,
}

/// What became of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// The kernel took it.
    Sent,
    /// The kernel had no room: what was left to send is lost.
    Full,
    /// The kernel refused it, say for want of a route.
    Refused,
}

impl Socket {
    /// Opens a socket, never blocking.
    ///
    /// # Errors
    /// Where the address is taken or not this machine's.
    pub fn open(config: SocketConfig) -> io::Result<Self> {
        let socket = RawSocket::new(Domain::for_address(config.bind), Type::DGRAM, Some(Protocol::UDP))?;
        if config.bind.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // The kernel clips to its limits; what it gave can be asked for.
        let _ = socket.set_recv_buffer_size(config.receive_buffer);
        let _ = socket.set_send_buffer_size(config.send_buffer);
        socket.bind(&config.bind.into())?;
        let socket = UdpSocket::from(socket);
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { socket, state, mapped: config.bind.is_ipv6(), unspecified: config.bind.ip().is_unspecified() })
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// None that are known of on an open socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Bytes of `SO_RCVBUF` that the kernel gave, its own bookkeeping included.
    ///
    /// # Errors
    /// None that are known of on an open socket.
    pub fn receive_buffer(&self) -> io::Result<usize> {
        self.state.recv_buffer_size((&self.socket).into())
    }

    /// How many segments one send may have; 1 where GSO does not work.
    pub fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// An address as the kernel wants it.
    pub(super) fn destination(&self, to: SocketAddr) -> SocketAddr {
        if self.mapped { mapped(to) } else { to }
    }

    /// Whether it is bound to all addresses.
    pub(super) const fn is_unspecified(&self) -> bool {
        self.unspecified
    }

    /// Sends the packets in `bytes`, each `segment` bytes long but the last, which may be shorter. `from` is the local address
    /// to send from, where there are several.
    pub fn send(&self, to: SocketAddr, from: Option<IpAddr>, bytes: &[u8], segment: usize) -> SendOutcome {
        let destination = self.destination(to);
        let from = from.filter(|_| self.unspecified);
        let one = |contents, segment_size| {
            let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: from };
            self.state.try_send((&self.socket).into(), &transmit)
        };
        let segments = bytes.len().div_ceil(segment.max(1));
        if segments > 1 && segments <= self.max_segments() {
            match one(bytes, Some(segment)) {
                Ok(()) => return SendOutcome::Sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return SendOutcome::Full,
                // Perhaps for the offload, so try without.
                Err(_) => {}
            }
        }
        for packet in bytes.chunks(segment.max(1)) {
            match one(packet, None) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return SendOutcome::Full,
                Err(_) => return SendOutcome::Refused,
            }
        }
        SendOutcome::Sent
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Buffers to receive into, allocated once.
#[derive(Debug)]
pub struct Receiver {
    bytes: Box<[u8]>,
    meta: [RecvMeta; BATCH_SIZE],
    filled: usize,
}

/// Datagrams of equal length from one sender, as they came; the last may be shorter.
#[derive(Debug)]
pub struct Received<'a> {
    /// Who sent them.
    pub from: SocketAddr,
    /// Which of this machine's addresses they came to.
    pub to: Option<IpAddr>,
    /// All of them, one behind the other.
    pub bytes: &'a mut [u8],
    /// Length of each; never zero.
    pub segment: usize,
}

/// How much of a batch was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// There is nothing.
    Nothing,
    /// All there was.
    Part,
    /// There may be more.
    Whole,
}

impl Receiver {
    /// Buffers for one batch: 2 MB.
    pub fn new() -> Self {
        let bytes = vec![0; BATCH_SIZE * RECEIVE_BUFFER].into_boxed_slice();
        Self { bytes, meta: [RecvMeta::default(); BATCH_SIZE], filled: 0 }
    }

    /// Receives what there is, up to a batch.
    ///
    /// # Errors
    /// Where the socket is broken. That a peer is unreachable is no error.
    pub fn receive(&mut self, socket: &Socket) -> io::Result<Filled> {
        let mut chunks = self.bytes.chunks_exact_mut(RECEIVE_BUFFER);
        let mut buffers: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        self.filled = 0;
        match socket.state.recv((&socket.socket).into(), &mut buffers, &mut self.meta) {
            Ok(filled) => self.filled = filled,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error),
        }
        Ok(match self.filled {
            0 => Filled::Nothing,
            BATCH_SIZE => Filled::Whole,
            _ => Filled::Part,
        })
    }

    /// What [`Receiver::receive`] got last.
    pub fn batches(&mut self) -> impl Iterator<Item = Received<'_>> {
        let buffers = self.bytes.chunks_exact_mut(RECEIVE_BUFFER);
        buffers.zip(&self.meta[..self.filled]).filter(|(_, meta)| meta.len > 0).map(|(bytes, meta)| Received {
            from: SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port()),
            to: meta.dst_ip,
            bytes: &mut bytes[..meta.len],
            segment: if meta.stride == 0 { meta.len } else { meta.stride },
        })
    }
}

impl Default for Receiver {
    fn default() -> Self {
        Self::new()
    }
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
        SocketAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LOOPBACK: &str = "127.0.0.1:0";

    fn open(bind: &str) -> Socket {
        let bind = bind.parse().unwrap();
        Socket::open(SocketConfig { bind, receive_buffer: 1 << 20, send_buffer: 1 << 20 }).unwrap()
    }

    fn peer() -> UdpSocket {
        let peer = UdpSocket::bind(LOOPBACK).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        peer
    }

    /// Waits until the socket has something, then receives it.
    fn receive(socket: &Socket, receiver: &mut Receiver) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut poll = [rustix::event::PollFd::new(socket, rustix::event::PollFlags::IN)];
        let timeout = rustix::time::Timespec { tv_sec: 5, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(&mut poll, Some(&timeout)), Ok(1));
        assert_eq!(receiver.receive(socket).unwrap(), Filled::Part);
        receiver
            .batches()
            .flat_map(|batch| batch.bytes.chunks(batch.segment).map(|d| (batch.from, d.to_vec())).collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn one_send_of_many_segments_arrives_as_many_datagrams() {
        let (socket, peer) = (open(LOOPBACK), peer());
        let bytes: Vec<u8> = [[1; 700], [2; 700], [3; 700]].concat().into_iter().chain([4; 90]).collect();
        assert_eq!(socket.send(peer.local_addr().unwrap(), None, &bytes, 700), SendOutcome::Sent);
        let mut buffer = [0; 2_000];
        let got: Vec<(usize, u8)> = (0..4).map(|_| (peer.recv(&mut buffer).unwrap(), buffer[0])).collect();
        assert_eq!(got, [(700, 1), (700, 2), (700, 3), (90, 4)]);
    }

    #[test]
    fn what_arrives_comes_out_with_its_sender() {
        let (socket, one, two) = (open(LOOPBACK), peer(), peer());
        let to = socket.local_addr().unwrap();
        one.send_to(b"from one", to).unwrap();
        two.send_to(b"from two, longer", to).unwrap();
        let mut receiver = Receiver::new();
        let mut got = receive(&socket, &mut receiver);
        while got.len() < 2 {
            got.extend(receive(&socket, &mut receiver));
        }
        let expected = [
            (one.local_addr().unwrap(), b"from one".to_vec()),
            (two.local_addr().unwrap(), b"from two, longer".to_vec()),
        ];
        assert_eq!(got, expected);
        assert_eq!(receiver.receive(&socket).unwrap(), Filled::Nothing);
        assert_eq!(receiver.batches().count(), 0);
    }

    #[test]
    fn segments_sent_at_once_are_received_apart() {
        let (socket, sender) = (open(LOOPBACK), open(LOOPBACK));
        let bytes: Vec<u8> = (0..10u8).flat_map(|n| [n; 500]).collect();
        assert_eq!(sender.send(socket.local_addr().unwrap(), None, &bytes, 500), SendOutcome::Sent);
        let mut receiver = Receiver::new();
        let mut got = Vec::new();
        while got.len() < 10 {
            got.extend(receive(&socket, &mut receiver).into_iter().map(|(_, datagram)| datagram));
        }
        assert_eq!(got, (0..10u8).map(|n| vec![n; 500]).collect::<Vec<_>>());
    }

    #[test]
    fn a_socket_of_both_families_shows_ipv4_peers_as_such() {
        let Ok(bind) = "[::]:0".parse() else { unreachable!() };
        let Ok(socket) = Socket::open(SocketConfig { bind, receive_buffer: 1 << 16, send_buffer: 1 << 16 }) else {
            return; // This machine has no IPv6.
        };
        let peer = peer();
        let port = socket.local_addr().unwrap().port();
        peer.send_to(b"hello", ("127.0.0.1", port)).unwrap();
        let got = receive(&socket, &mut Receiver::new());
        assert_eq!(got, [(peer.local_addr().unwrap(), b"hello".to_vec())]);
        assert_eq!(socket.send(got[0].0, None, b"back", 4), SendOutcome::Sent);
        let mut buffer = [0; 10];
        let (len, from) = peer.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], from.port()), (&b"back"[..], port));
    }
}
