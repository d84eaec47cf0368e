//! ICE over TCP (RFC 6544), for networks that block UDP: each packet in a frame with its length before it (RFC 4571).
//!
//! The stack makes connections and frames packets. What it would do badly is done here: it writes on its driver, where a path
//! that is full would hold up everything else, so a stream has a queue of its own; and it takes any number of strangers.
//!
//! A queue holds [`QUEUE_BYTES`]; beyond that its oldest packets are dropped, which the receiver sees as loss. The system is told
//! to take little more than what it can send at once, so that what waits does so where it can still be dropped.

use super::watch::PacketWatch;
use rtc::shared::tcp_framing::{FRAMING_HEADER_LEN, TcpFrameDecoder};
use std::{
    collections::VecDeque,
    future::{Future, pending},
    io,
    net::SocketAddr,
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

/// Connects to a peer's passive candidate.
pub(super) async fn connect(to: SocketAddr, watch: Arc<PacketWatch>) -> io::Result<Arc<dyn AsyncTcpStream>> {
    let connected = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(to)).await;
    let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    Ok(Arc::new(Stream::new(stream, watch, None)?))
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
    queue: Arc<Queue>,
    local: SocketAddr,
    peer: SocketAddr,
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
        let queue = Arc::new(Queue::default());
        tokio::spawn(Arc::clone(&queue).write_to(writer));
        let frames = Mutex::new(Some(TcpFrameDecoder::new()));
        Ok(Self { reader, queue, local, peer, watch, frames, _accepted: accepted })
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
        self.queue.push(buf.to_vec());
        Box::pin(std::future::ready(Ok(())))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.queue.close();
        let dropped = self.queue.dropped.load(Ordering::Relaxed);
        tracing::debug!(dropped, "a connection for media over TCP ends");
    }
}

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
