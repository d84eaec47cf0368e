//! ICE over TCP (RFC 6544), for networks that block UDP: each packet in a frame with its length before it (RFC 4571).
//!
//! The stack makes connections and frames packets. What it would do badly is done here: it writes on its driver, where a path
//! that is full would hold up everything else, so a stream has a queue of its own; and it takes any number of strangers.
//!
//! The stack also tells a peer's candidates apart by their address alone, and a server that takes UDP and TCP at one port is a pair
//! of candidates with the same. So each address over TCP gets a stand-in of its own ([`StandIns`]), which only the stack sees.
//!
//! A queue holds [`QUEUE_BYTES`]; beyond that its oldest packets are dropped, which the receiver sees as loss. The system is told
//! to take little more than what it can send at once, so that what waits does so where it can still be dropped.

use super::watch::PacketWatch;
use rtc::shared::tcp_framing::{FRAMING_HEADER_LEN, TcpFrameDecoder};
use std::{
    collections::VecDeque,
    future::{Future, pending},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
};
use webrtc::runtime::{AsyncTcpListener, AsyncTcpStream};

/// Framed packets that wait for the system to take them: half a second at 2 Mbit/s.
const QUEUE_BYTES: usize = 128 * 1024;
/// Bytes that the system takes beyond those on their way.
const UNSENT_BYTES: u32 = 16 * 1024;
/// How long a connection may take to come about.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Connections of strangers open at once, per local address.
const MAX_ACCEPTED: usize = 8;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listening {
    /// The peer is another client: whichever side can be reached is connected to.
    ForPeer,
    /// The peer is a server: only this side connects, and no port is open.
    Never,
}

/// The addresses that stand for a peer's candidates over TCP in what the stack is told. They are of the blocks for documentation
/// (RFC 5737, RFC 3849), where no peer is.
#[derive(Debug, Default)]
pub(super) struct StandIns(Mutex<Vec<SocketAddr>>);

impl StandIns {
    /// The candidate with its stand-in; `None` where it has no address to connect to, or there are too many.
    pub(super) fn replace(&self, candidate: &str) -> Option<String> {
        let mut fields: Vec<&str> = candidate.split(' ').collect();
        let real = SocketAddr::new(fields.get(4)?.parse().ok()?, fields.get(5)?.parse().ok()?);
        let address = self.stand_in(real)?.ip().to_string();
        *fields.get_mut(4)? = &address;
        Some(fields.join(" "))
    }

    /// The same one for the same address.
    fn stand_in(&self, real: SocketAddr) -> Option<SocketAddr> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.iter().position(|each| *each == real);
        let number = u8::try_from(known.unwrap_or(all.len()) + 1).ok()?;
        if known.is_none() {
            all.push(real);
        }
        let ip = match real.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(192, 0, 2, number)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into())),
        };
        Some(SocketAddr::new(ip, real.port()))
    }

    /// What an address stands for; any other stands for itself.
    pub(super) fn real(&self, address: SocketAddr) -> SocketAddr {
        let number = match address.ip() {
            IpAddr::V4(ip) if ip.octets()[..3] == [192, 0, 2] => ip.octets()[3],
            IpAddr::V6(ip) if ip.octets()[..4] == [0x20, 0x01, 0x0d, 0xb8] => ip.octets()[15],
            _ => return address,
        };
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let real = usize::from(number).checked_sub(1).and_then(|place| all.get(place));
        real.copied().filter(|real| real.port() == address.port()).unwrap_or(address)
    }
}

/// Connects to what `stand_in` stands for.
pub(super) async fn connect(
    stand_in: SocketAddr,
    stand_ins: Arc<StandIns>,
    watch: Arc<PacketWatch>,
) -> io::Result<Arc<dyn AsyncTcpStream>> {
    let to = stand_ins.real(stand_in);
    let connected = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(to)).await;
    let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    Ok(Arc::new(Stream { shown_peer: stand_in, ..Stream::new(stream, watch, None)? }))
}

/// Where peers connect to. The stack has candidates of its own for connecting only where it also has a listener: one that
/// listens [`Listening::Never`] exists for that alone.
#[derive(Debug)]
pub(super) struct Listener {
    inner: Option<TcpListener>,
    local: SocketAddr,
    watch: Arc<PacketWatch>,
    /// One share for each connection that is open.
    accepted: Arc<()>,
}

impl Listener {
    /// Must run on the runtime.
    pub(super) fn new(
        listener: std::net::TcpListener,
        listening: Listening,
        watch: Arc<PacketWatch>,
    ) -> io::Result<Self> {
        let local = listener.local_addr()?;
        let inner = match listening {
            Listening::ForPeer => Some(TcpListener::from_std(listener)?),
            Listening::Never => None,
        };
        Ok(Self { inner, local, watch, accepted: Arc::new(()) })
    }

    async fn next(&self) -> io::Result<(Arc<dyn AsyncTcpStream>, SocketAddr)> {
        let Some(listener) = &self.inner else { return pending().await };
        loop {
            let (stream, from) = listener.accept().await?;
            if Arc::strong_count(&self.accepted) > MAX_ACCEPTED {
                continue;
            }
            // One that is gone already is nothing to report.
            if let Ok(stream) = Stream::new(stream, Arc::clone(&self.watch), Some(Arc::clone(&self.accepted))) {
                return Ok((Arc::new(stream), from));
            }
        }
    }
}

impl AsyncTcpListener for Listener {
    fn accept<'a>(&'a self) -> Boxed<'a, io::Result<(Arc<dyn AsyncTcpStream>, SocketAddr)>> {
        Box::pin(self.next())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

/// One connection, its packets passing under the eyes of a [`PacketWatch`].
#[derive(Debug)]
struct Stream {
    reader: OwnedReadHalf,
    queue: Outgoing,
    local: SocketAddr,
    peer: SocketAddr,
    /// The peer as the stack knows it.
    shown_peer: SocketAddr,
    watch: Arc<PacketWatch>,
    /// What has come so far of a packet, while there is a handshake to look at.
    frames: Mutex<Option<TcpFrameDecoder>>,
    _accepted: Option<Arc<()>>,
}

impl Stream {
    fn new(stream: TcpStream, watch: Arc<PacketWatch>, accepted: Option<Arc<()>>) -> io::Result<Self> {
        // Both only make it quicker.
        let _ = stream.set_nodelay(true);
        #[cfg(target_os = "linux")]
        let _ = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES);
        let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
        let (reader, writer) = stream.into_split();
        let queue = Outgoing(Arc::default());
        tokio::spawn(Arc::clone(&queue.0).write_to(writer));
        let frames = Mutex::new(Some(TcpFrameDecoder::new()));
        Ok(Self { reader, queue, local, peer, shown_peer: peer, watch, frames, _accepted: accepted })
    }

    fn watch(&self, bytes: &[u8]) {
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        if self.watch.is_handshake_over() {
            *frames = None;
        }
        let Some(frames) = &mut *frames else { return };
        frames.extend_from_slice(bytes);
        while let Some(packet) = frames.next_packet() {
            // Nothing is lost here, so nothing has to be sent again.
            let _ = self.watch.received(self.peer, &packet, packet.len());
        }
    }
}

impl AsyncTcpStream for Stream {
    fn read<'a, 'b>(&'a self, buf: &'b mut [u8]) -> Boxed<'b, io::Result<usize>>
    where
        'a: 'b,
    {
        Box::pin(async move {
            loop {
                self.reader.readable().await?;
                match self.reader.try_read(buf) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                    Ok(len) => {
                        self.watch(buf.get(..len).unwrap_or_default());
                        return Ok(len);
                    }
                }
            }
        })
    }

    /// Takes one framed packet. A connection that has ended swallows it: connectivity checks find that out.
    fn write_all<'a, 'b>(&'a self, buf: &'b [u8]) -> Boxed<'b, io::Result<()>>
    where
        'a: 'b,
    {
        self.watch.sent(self.peer, buf.get(FRAMING_HEADER_LEN..).unwrap_or_default(), None);
        self.queue.0.push(buf.to_vec());
        Box::pin(std::future::ready(Ok(())))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.shown_peer)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.0.close();
        let dropped = self.0.dropped.load(Ordering::Relaxed);
        tracing::debug!(dropped, "a connection for media over TCP ends");
    }
}

/// A stream's end of its queue, which closes it.
#[derive(Debug)]
struct Outgoing(Arc<Queue>);

/// Framed packets on their way to the system.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    filled: Notify,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    packets: VecDeque<Vec<u8>>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    fn push(&self, packet: Vec<u8>) {
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.closed {
                return;
            }
            waiting.bytes += packet.len();
            waiting.packets.push_back(packet);
            while waiting.bytes > QUEUE_BYTES {
                let Some(oldest) = waiting.packets.pop_front() else { break };
                waiting.bytes -= oldest.len();
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.filled.notify_one();
    }

    fn close(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.filled.notify_one();
    }

    /// The next packets together; none where it is closed and empty.
    async fn next(&self) -> Option<Vec<u8>> {
        loop {
            {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if !waiting.packets.is_empty() {
                    // No more than what the system takes anyway: the rest may still be dropped.
                    let mut together = Vec::new();
                    while let Some(packet) = waiting.packets.pop_front() {
                        waiting.bytes -= packet.len();
                        together.extend_from_slice(&packet);
                        if together.len() >= UNSENT_BYTES as usize {
                            break;
                        }
                    }
                    return Some(together);
                }
                if waiting.closed {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    async fn write_to(self: Arc<Self>, mut writer: OwnedWriteHalf) {
        while let Some(packets) = self.next().await {
            if let Err(error) = writer.write_all(&packets).await {
                tracing::debug!(%error, "a connection for media over TCP broke");
                return self.close();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_over_tcp_has_one_stand_in_and_stands_for_itself_over_udp() {
        let stand_ins = StandIns::default();
        let candidate = |ip: &str| format!("candidate:1 1 tcp 2105458942 {ip} 7001 typ host tcptype passive");
        assert_eq!(stand_ins.replace(&candidate("10.0.0.1")), Some(candidate("192.0.2.1")));
        assert_eq!(stand_ins.replace(&candidate("2001:41d0::5")), Some(candidate("2001:db8::2")));
        assert_eq!(stand_ins.replace(&candidate("10.0.0.1")), Some(candidate("192.0.2.1")));
        assert_eq!(stand_ins.replace(&candidate("f00d.local")), None);
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(stand_ins.real(address("192.0.2.1:7001")), address("10.0.0.1:7001"));
        assert_eq!(stand_ins.real(address("[2001:db8::2]:7001")), address("[2001:41d0::5]:7001"));
        for other in ["192.0.2.1:7002", "192.0.2.0:7001", "192.0.2.77:7001", "10.0.0.1:7001"] {
            assert_eq!(stand_ins.real(address(other)), address(other));
        }
    }

    #[tokio::test]
    async fn a_full_queue_drops_its_oldest_packets() {
        let queue = Queue::default();
        for n in 0..200u8 {
            queue.push(vec![n; 1_024]);
        }
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 200 - 128);
        assert_eq!(queue.next().await.unwrap()[0], 200 - 128);
        queue.close();
        let mut last = 0;
        while let Some(packets) = queue.next().await {
            last = packets[packets.len() - 1];
        }
        assert_eq!(last, 199);
        queue.push(vec![1; 10]);
        assert!(queue.next().await.is_none());
    }
}
