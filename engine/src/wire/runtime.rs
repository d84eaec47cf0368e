//! What the connection stack asks of its host: tasks on the given tokio handle, sockets with room for bursts, and a sleep that
//! a queued unit ends early.
//!
//! The driver sleeps until its next timer inside a `select!` with its sockets. Ending that sleep is how a unit queued on an
//! encoder's thread leaves at once: the driver then handles timers, which moves the unit into the session, and writes what
//! comes out, in one pass. Nothing of the unit crosses the stack's own channels. The stack sleeps nowhere else but while it
//! closes, when ending early does no harm.

use super::{
    tcp::{self, Listening, StandIns},
    watch::{PacketWatch, Verdict},
};
use std::{
    future::Future,
    io::{self, IoSliceMut},
    net::{SocketAddr, TcpListener, UdpSocket},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{runtime::Handle, sync::Notify};
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime, TokioRuntime,
    Transmit,
};

/// A key frame at high rate, and what arrives while the driver's thread is not scheduled.
const SOCKET_BUFFER: usize = 2 * 1024 * 1024;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// See the module's text. One per connection.
#[derive(Debug)]
pub(super) struct WireRuntime {
    handle: Handle,
    wake: Arc<Notify>,
    watch: Arc<PacketWatch>,
    listening: Listening,
    stand_ins: Arc<StandIns>,
    driver_spawned: AtomicBool,
    driver: Arc<Driver>,
}

impl WireRuntime {
    pub(super) fn new(
        handle: Handle,
        wake: Arc<Notify>,
        watch: Arc<PacketWatch>,
        listening: Listening,
        stand_ins: Arc<StandIns>,
    ) -> Self {
        let driver =
            Arc::new(Driver { watch: Arc::clone(&watch), opened: AtomicBool::default(), ended: AtomicBool::default() });
        Self { handle, wake, watch, listening, stand_ins, driver_spawned: AtomicBool::new(false), driver }
    }
}

impl WireRuntime {
    /// What is to be told that the connection is open.
    pub(super) fn driver(&self) -> Arc<Driver> {
        Arc::clone(&self.driver)
    }
}

impl Runtime for WireRuntime {
    fn spawn(&self, future: Boxed<'static, ()>) -> Box<dyn JoinHandle> {
        // The first task of a connection is its driver; how it ends is worth knowing, a panic included.
        if self.driver_spawned.swap(true, Ordering::AcqRel) {
            return Box::new(Task(self.handle.spawn(future)));
        }
        let ended = TellStopped(Arc::clone(&self.driver));
        Box::new(Task(self.handle.spawn(async move {
            let _ended = ended;
            future.await;
        })))
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let options = socket2::SockRef::from(&socket);
        // The system caps these at its own limit; less is not an error.
        let _ = options.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = options.set_send_buffer_size(SOCKET_BUFFER);
        let _entered = self.handle.enter();
        let inner = TokioRuntime.wrap_udp_socket(socket)?;
        Ok(Arc::new(WatchedSocket { inner, watch: Arc::clone(&self.watch) }))
    }

    fn wrap_tcp_listener(&self, listener: TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        let _entered = self.handle.enter();
        Ok(Arc::new(tcp::Listener::new(listener, self.listening, Arc::clone(&self.watch))?))
    }

    fn connect_tcp<'a>(&'a self, remote_addr: SocketAddr) -> Boxed<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        Box::pin(tcp::connect(remote_addr, Arc::clone(&self.stand_ins), Arc::clone(&self.watch)))
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<SocketAddr>>> {
        TokioRuntime.resolve_host(host)
    }

    fn sleep(&self, duration: Duration) -> Boxed<'static, ()> {
        let wake = Arc::clone(&self.wake);
        let _entered = self.handle.enter();
        let timer = tokio::time::sleep(duration);
        Box::pin(async move {
            tokio::select! {
                () = timer => {}
                () = wake.notified() => {}
            }
        })
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        let _entered = self.handle.enter();
        TokioRuntime.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.handle.block_on(future);
    }

    fn name(&self) -> &'static str {
        "halloo"
    }
}

/// Whether a network, or this machine's own rules for it, does not let a datagram through.
fn is_blocked(error: &io::Error) -> bool {
    use io::ErrorKind::{HostUnreachable, NetworkUnreachable, PermissionDenied};
    matches!(error.kind(), PermissionDenied | HostUnreachable | NetworkUnreachable)
}

/// A connection's driver. That it ends is the connection's end; while the connection is being opened it is a failure to open
/// it, which the stack reports by itself.
#[derive(Debug)]
pub(super) struct Driver {
    watch: Arc<PacketWatch>,
    opened: AtomicBool,
    ended: AtomicBool,
}

impl Driver {
    /// The connection is open.
    pub(super) fn opened(&self) {
        self.opened.store(true, Ordering::SeqCst);
        self.check();
    }

    fn check(&self) {
        if self.opened.load(Ordering::SeqCst) && self.ended.load(Ordering::SeqCst) {
            self.watch.driver_stopped();
        }
    }
}

struct TellStopped(Arc<Driver>);

impl Drop for TellStopped {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::SeqCst);
        self.0.check();
    }
}

struct Task(tokio::task::JoinHandle<()>);

impl JoinHandle for Task {
    fn detach(&self) {}

    fn abort(&self) {
        self.0.abort();
    }

    fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

/// A socket whose datagrams pass under the eyes of a [`PacketWatch`].
#[derive(Debug)]
struct WatchedSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    watch: Arc<PacketWatch>,
}

impl AsyncUdpSocket for WatchedSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let sent = self.inner.poll_send(cx, transmit);
        if let Poll::Ready(Err(error)) = &sent
            && is_blocked(error)
        {
            // Lost on its way like any other: the stack would say so for each, and checks find out what works.
            return Poll::Ready(Ok(transmit.contents.len()));
        }
        if let Poll::Ready(Ok(_)) = sent {
            self.watch.sent(transmit.destination, transmit.contents, transmit.segment_size);
        }
        sent
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let received = self.inner.poll_recv(cx, bufs, meta);
            // The driver asks for one message at a time.
            let (Poll::Ready(Ok(1)), Some(buf), Some(info)) = (&received, bufs.first(), meta.first()) else {
                return received;
            };
            let data = buf.get(..info.len).unwrap_or_default();
            match self.watch.received(info.addr, data, info.stride) {
                Verdict::Deliver => return received,
                Verdict::Answered(datagrams) => {
                    for contents in &datagrams {
                        let transmit =
                            Transmit { destination: info.addr, ecn: None, contents, segment_size: None, src_ip: None };
                        // A full socket buffer loses it; the peer asks again.
                        let _ = self.inner.poll_send(cx, &transmit);
                    }
                }
            }
        }
    }

    fn max_gso_segments(&self) -> usize {
        self.inner.max_gso_segments()
    }

    fn max_gro_segments(&self) -> usize {
        self.inner.max_gro_segments()
    }
}
