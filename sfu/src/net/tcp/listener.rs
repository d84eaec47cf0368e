//! A listening socket and what its connections are waited for with (epoll).

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 1_024;
/// What marks the listener among the connections.
pub(super) const LISTENER: u64 = u64::MAX;
/// Bytes that may wait in the kernel: what waits before that can still be dropped when it gets old.
const UNSENT_IN_KERNEL: u32 = 16 << 10;

/// A listener. Readable where something happened to it or to a connection of it.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    epoll: OwnedFd,
}

impl Listener {
    /// Listens, never blocking. The unspecified IPv6 address takes IPv4 too.
    ///
    /// # Errors
    /// Where the address is taken or not this machine's.
    pub fn open(bind: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(bind), Type::STREAM, Some(Protocol::TCP))?;
        if bind.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // Connections of a server that just ended are no reason not to listen.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&bind.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self { listener, epoll })
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// None that are known of on an open socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next connection, made ready for media: never blocking, nothing held back, little kept in the kernel.
    pub(super) fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, from) = self.listener.accept()?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        // Where the kernel does not know it, a slow reader's media is late before it is dropped.
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_IN_KERNEL);
        Ok((stream, SocketAddr::new(from.ip().to_canonical(), from.port())))
    }

    pub(super) const fn epoll(&self) -> &OwnedFd {
        &self.epoll
    }

    /// Whether newcomers are looked at.
    pub(super) fn set_accepting(&self, accepting: bool) {
        let flags = if accepting { EventFlags::IN } else { EventFlags::empty() };
        // Fails for a descriptor that is not there, and this one is as long as the value.
        let _ = epoll::modify(&self.epoll, &self.listener, EventData::new_u64(LISTENER), flags);
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
