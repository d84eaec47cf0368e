//! The connections to one listener: accepted, read, written, closed. The shell around the pure parts of this module.
//!
//! Invariant: at most one connection for each address of a peer; a later one takes its place.

use std::{
    collections::{BTreeSet, HashMap},
    io::{self, ErrorKind, Read, Write},
    mem::MaybeUninit,
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use halloo_transport::Timestamp;
use rustix::{
    event::epoll::{self, Event, EventData, EventFlags},
    time::Timespec,
};

use super::{
    framing::{FrameTooLong, Partial, StreamBuffer},
    limits::{Admission, Census, TcpLimits},
    listener::{LISTENER, Listener},
    outgoing::{Outgoing, Written},
};

/// Connections looked at in one turn; the others have the next.
const EVENTS: usize = 64;
/// Newcomers in one turn: who floods with connections does not hold up media.
const ACCEPTS: usize = 8;
/// Whether sessions still know their connections is asked this often.
const SWEEP: Duration = Duration::from_secs(1);
/// Newcomers are left alone for this long where the process has no file descriptor left.
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes that an unproven connection may send: many times what checks need.
const MAX_UNPROVEN_BYTES: usize = 16 << 10;

/// What a listener's connections count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpStats {
    /// Connections now.
    pub connections: u64,
    /// Connections that were taken in.
    pub accepted: u64,
    /// Connections that were closed at once, for there were too many.
    pub refused: u64,
    /// Connections that were closed because no session's check came over them in time, or to make room.
    pub unproven_closed: u64,
    /// Connections that were closed for bytes that are no frames.
    pub misframed: u64,
    /// Frames that slow readers lost.
    pub frames_dropped: u64,
}

/// All connections to a listener.
#[derive(Debug)]
pub struct Connections<'a> {
    listener: &'a Listener,
    limits: TcpLimits,
    places: Vec<Place>,
    free: Vec<u32>,
    by_peer: HashMap<SocketAddr, u32>,
    census: Census,
    /// Unproven ones, by when they have to be proven.
    unproven: BTreeSet<(Timestamp, u32)>,
    next_sweep: Timestamp,
    /// When newcomers are looked at again, after a pause.
    accept_again: Option<Timestamp>,
    /// Those with something new to write.
    unwritten: Vec<u32>,
    /// Those that have something to read.
    readable: Vec<u64>,
    /// Peers whose connection ended.
    ended: Vec<SocketAddr>,
    stats: TcpStats,
}

#[derive(Debug)]
struct Place {
    generation: u32,
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    state: State,
    partial: Partial,
    /// Bytes received while unproven.
    unproven_bytes: usize,
    outgoing: Outgoing,
    /// Whether it is in [`Connections::unwritten`].
    is_unwritten: bool,
    /// Whether the kernel has to say before more is written.
    blocked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Until when it has to be proven.
    Unproven(Timestamp),
    Proven,
}

/// A connection that something was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Who sent it.
    pub peer: SocketAddr,
    index: u32,
    len: usize,
}

/// Why a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    Gone,
    Unproven,
    Misframed,
}

impl<'a> Connections<'a> {
    /// None yet.
    pub fn new(now: Timestamp, listener: &'a Listener, limits: TcpLimits) -> Self {
        listener.set_accepting(true);
        Self {
            listener,
            limits,
            places: Vec::new(),
            free: Vec::new(),
            by_peer: HashMap::new(),
            census: Census::new(limits),
            unproven: BTreeSet::new(),
            next_sweep: now + SWEEP,
            accept_again: None,
            unwritten: Vec::new(),
            readable: Vec::with_capacity(EVENTS),
            ended: Vec::new(),
            stats: TcpStats::default(),
        }
    }

    /// Finds out what happened: takes newcomers in, writes what waited. Then [`Connections::receive`] gives what came in.
    pub fn poll(&mut self, now: Timestamp) {
        self.readable.clear();
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut events = [MaybeUninit::uninit(); EVENTS];
        // Interrupted: the next turn looks again.
        let Ok((events, _)) = epoll::wait(self.listener.epoll(), &mut events, Some(&at_once)) else { return };
        for Event { flags, data, .. } in events.iter().copied() {
            let key = data.u64();
            if key == LISTENER {
                self.accept(now);
                continue;
            }
            if flags.contains(EventFlags::OUT) {
                self.write_again(now, key);
            }
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                self.readable.push(key);
            }
        }
    }

    /// Reads from the next connection that has something; the frames are in `buffer`. [`Connections::received`] is to be
    /// called after they were looked at.
    pub fn receive(&mut self, buffer: &mut StreamBuffer) -> Option<Incoming> {
        while let Some(key) = self.readable.pop() {
            let Some((index, connection)) = self.by_key(key) else { continue };
            let Connection { stream, peer, partial, .. } = connection;
            let peer = *peer;
            match buffer.fill(partial, |room| stream.read(room)) {
                Ok(len @ 1..) => return Some(Incoming { peer, index, len }),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Ok(0) | Err(_) => self.close(index, Why::Gone),
            }
        }
        None
    }

    /// Says what came of what was received: what follows the last whole frame is kept, a stream that has no frames is closed.
    /// `known` is whether a session knows the peer.
    pub fn received(&mut self, incoming: Incoming, rest: Result<&[u8], FrameTooLong>, known: bool) {
        let Some(connection) = self.get_mut(incoming.index).filter(|connection| connection.peer == incoming.peer)
        else {
            return;
        };
        match rest {
            Ok(rest) => connection.partial.keep(rest),
            Err(FrameTooLong(_)) => return self.close(incoming.index, Why::Misframed),
        }
        let State::Unproven(until) = connection.state else { return };
        if known {
            connection.state = State::Proven;
            connection.unproven_bytes = 0;
            self.unproven.remove(&(until, incoming.index));
            self.census.proven(incoming.peer.ip());
            return;
        }
        connection.unproven_bytes += incoming.len;
        if connection.unproven_bytes > MAX_UNPROVEN_BYTES {
            self.close(incoming.index, Why::Unproven);
        }
    }

    /// Takes datagrams for a peer, each `segment` bytes long but the last, which may be shorter; they leave at
    /// [`Connections::flush`]. `false` where there is no connection to it.
    pub fn send(&mut self, now: Timestamp, to: SocketAddr, bytes: &[u8], segment: usize) -> bool {
        let Some(index) = self.by_peer.get(&to).copied() else { return false };
        let Some(connection) = self.places.get_mut(index as usize).and_then(|place| place.connection.as_mut()) else {
            return false;
        };
        for datagram in bytes.chunks(segment.max(1)) {
            self.stats.frames_dropped += connection.outgoing.push(now, datagram);
        }
        if !connection.is_unwritten {
            connection.is_unwritten = true;
            self.unwritten.push(index);
        }
        true
    }

    /// Writes what was taken since the last time, with one system call for each connection.
    pub fn flush(&mut self, now: Timestamp) {
        while let Some(index) = self.unwritten.pop() {
            let Some(connection) = self.get_mut(index) else { continue };
            connection.is_unwritten = false;
            if connection.blocked {
                let dropped = connection.outgoing.expire(now);
                self.stats.frames_dropped += dropped;
            } else {
                self.write(index);
            }
        }
    }

    /// Does what is due: closes connections that are not proven in time. `known` is whether a session knows a peer.
    pub fn handle_timeout(&mut self, now: Timestamp, known: impl Fn(SocketAddr) -> bool) {
        if self.accept_again.is_some_and(|at| at <= now) {
            self.accept_again = None;
            self.listener.set_accepting(true);
        }
        if self.next_sweep <= now {
            self.next_sweep = now + SWEEP;
            self.sweep(now, known);
        }
        while let Some((until, index)) = self.unproven.first().copied()
            && until <= now
        {
            self.close(index, Why::Unproven);
        }
    }

    /// When [`Connections::handle_timeout`] is next wanted.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        let sweep = (self.census.open() > 0).then_some(self.next_sweep);
        let unproven = self.unproven.first().map(|(until, _)| *until);
        [sweep, unproven, self.accept_again].into_iter().flatten().min()
    }

    /// The next peer whose connection ended, whoever ended it.
    pub fn poll_ended(&mut self) -> Option<SocketAddr> {
        self.ended.pop()
    }

    /// Counters since the start, and how many connections there are.
    pub fn stats(&self) -> TcpStats {
        TcpStats { connections: self.census.open() as u64, ..self.stats }
    }

    fn accept(&mut self, now: Timestamp) {
        for _ in 0..ACCEPTS {
            match self.listener.accept() {
                Ok((stream, peer)) => self.take_in(now, stream, peer),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if is_exhausted(&error) => {
                    self.listener.set_accepting(false);
                    self.accept_again = Some(now + PAUSE);
                    return;
                }
                // Of the newcomer, who is gone already.
                Err(_) => {}
            }
        }
    }

    fn take_in(&mut self, now: Timestamp, stream: TcpStream, peer: SocketAddr) {
        if let Some(earlier) = self.by_peer.get(&peer).copied() {
            self.close(earlier, Why::Gone);
        }
        match self.census.admit(peer.ip()) {
            Admission::Welcome => {}
            Admission::InPlaceOfAnother => {
                if let Some((_, longest)) = self.unproven.first().copied() {
                    self.close(longest, Why::Unproven);
                }
            }
            Admission::Refused => {
                self.stats.refused += 1;
                return;
            }
        }
        let until = now + self.limits.prove_within;
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, connection: None });
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[index as usize];
        let key = u64::from(place.generation) << 32 | u64::from(index);
        if epoll::add(self.listener.epoll(), &stream, EventData::new_u64(key), EventFlags::IN).is_err() {
            self.free.push(index);
            self.stats.refused += 1;
            return;
        }
        place.connection = Some(Connection {
            stream,
            peer,
            state: State::Unproven(until),
            partial: Partial::default(),
            unproven_bytes: 0,
            outgoing: Outgoing::default(),
            is_unwritten: false,
            blocked: false,
        });
        self.by_peer.insert(peer, index);
        self.unproven.insert((until, index));
        self.census.opened(peer.ip());
        self.stats.accepted += 1;
    }

    fn get_mut(&mut self, index: u32) -> Option<&mut Connection> {
        self.places.get_mut(index as usize)?.connection.as_mut()
    }

    /// The connection that an event is about, unless it ended since.
    fn by_key(&mut self, key: u64) -> Option<(u32, &mut Connection)> {
        let (index, generation) = (key as u32, (key >> 32) as u32);
        let place = self.places.get_mut(index as usize).filter(|place| place.generation == generation)?;
        Some((index, place.connection.as_mut()?))
    }

    fn write_again(&mut self, now: Timestamp, key: u64) {
        let Some((index, connection)) = self.by_key(key) else { return };
        let dropped = connection.outgoing.expire(now);
        self.stats.frames_dropped += dropped;
        self.write(index);
    }

    fn write(&mut self, index: u32) {
        let Some(place) = self.places.get_mut(index as usize) else { return };
        let Some(connection) = &mut place.connection else { return };
        let mut stream = &connection.stream;
        let Ok(written) = connection.outgoing.write(|slices| stream.write_vectored(slices)) else {
            return self.close(index, Why::Gone);
        };
        let blocked = written == Written::Part;
        if blocked == connection.blocked {
            return;
        }
        connection.blocked = blocked;
        let key = EventData::new_u64(u64::from(place.generation) << 32 | u64::from(index));
        let flags = if blocked { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        if epoll::modify(self.listener.epoll(), &connection.stream, key, flags).is_err() {
            self.close(index, Why::Gone);
        }
    }

    /// Connections whose session ended have to be proven anew.
    fn sweep(&mut self, now: Timestamp, known: impl Fn(SocketAddr) -> bool) {
        let until = now + self.limits.prove_within;
        for (index, place) in (0u32..).zip(&mut self.places) {
            let Some(connection) = &mut place.connection else { continue };
            if connection.state == State::Proven && !known(connection.peer) {
                connection.state = State::Unproven(until);
                self.unproven.insert((until, index));
                self.census.lapsed(connection.peer.ip());
            }
        }
    }

    fn close(&mut self, index: u32, why: Why) {
        let Some(place) = self.places.get_mut(index as usize) else { return };
        // Closing takes it out of the epoll too.
        let Some(connection) = place.connection.take() else { return };
        place.generation = place.generation.wrapping_add(1);
        self.free.push(index);
        let peer = connection.peer;
        self.by_peer.remove(&peer);
        if let State::Unproven(until) = connection.state {
            self.unproven.remove(&(until, index));
            self.census.proven(peer.ip());
        }
        self.census.closed(peer.ip());
        self.ended.push(peer);
        match why {
            Why::Gone => {}
            Why::Unproven => self.stats.unproven_closed += 1,
            Why::Misframed => self.stats.misframed += 1,
        }
    }
}

/// Readable where [`Connections::poll`] would find something.
impl AsFd for Connections<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// Whether nobody can be taken in for now, as opposed to a newcomer who cannot.
fn is_exhausted(error: &io::Error) -> bool {
    let exhausted =
        [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE, rustix::io::Errno::NOBUFS, rustix::io::Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| exhausted.iter().any(|errno| errno.raw_os_error() == code))
}
