//! Datagrams over a TCP connection, for a client whose network blocks UDP: the opening side of RFC 6544, framed by RFC 4571.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::net::{Partial, StreamBuffer, frame};

/// A connection that waits as a [`std::net::UdpSocket`] does.
#[derive(Debug)]
pub struct FramedStream {
    stream: TcpStream,
    buffer: StreamBuffer,
    partial: Partial,
}

impl FramedStream {
    /// Connects to a passive candidate.
    ///
    /// # Errors
    /// Those of [`TcpStream::connect`].
    pub fn connect(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: StreamBuffer::new(), partial: Partial::default() })
    }

    /// The connection, for its addresses and options.
    pub const fn get_ref(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends a datagram whole.
    ///
    /// # Errors
    /// Where it cannot be framed, or the connection is broken.
    pub fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(datagram.len() + 2);
        if !frame(datagram, &mut bytes) {
            return Err(ErrorKind::InvalidInput.into());
        }
        self.stream.write_all(&bytes)
    }

    /// Waits for bytes, and gives each datagram that is whole to `take`, which may change it.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] or [`ErrorKind::TimedOut`] where nothing came in time, [`ErrorKind::UnexpectedEof`] where the
    /// server closed, [`ErrorKind::InvalidData`] where what came are no frames.
    pub fn receive(&mut self, wait: Duration, mut take: impl FnMut(&mut [u8])) -> io::Result<()> {
        self.stream.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
        let (stream, partial) = (&mut self.stream, &mut self.partial);
        if self.buffer.fill(partial, |room| stream.read(room))? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let mut frames = self.buffer.frames();
        while let Some(datagram) = frames.next_frame().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))? {
            take(datagram);
        }
        partial.keep(frames.rest());
        Ok(())
    }
}
