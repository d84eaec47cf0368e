//! The thread that runs a [`Core`]: waits for datagrams, handshakes, control and timers, with bounded work per turn, and reads
//! the clock once per batch.

use std::{
    io,
    os::fd::AsFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver as Queue, SyncSender, TrySendError, sync_channel},
    },
    thread::{Builder, JoinHandle, sleep},
    time::Duration,
};

use halloo_transport::Timestamp;
use rustix::{
    event::{PollFd, PollFlags, poll},
    thread::{CpuSet, sched_setaffinity},
    time::Timespec,
};

use super::{
    command::{Admission, Event, EventSink, JoinError, RoomEntry},
    core::{Core, ShardConfig},
    stats::Stats,
    wire::{Path, Wire},
};
use crate::{
    dtls::{Handshakes, Report, Workers},
    ice::{Credentials, Protocol},
    net::{
        Clock, Connections, Filled, Listener, Outgoing, Receiver, Run, SendOutcome, Sender, Socket, StreamBuffer,
        TcpLimits, TcpStats, Waker,
    },
    room::{Command, ParticipantId, ReceiveSlot, Room, RoomSnapshot},
};

/// Batches of datagrams in one turn.
const BATCHES: usize = 8;
/// Control messages in one turn.
const CONTROLS: usize = 64;
/// Reports of handshakes in one turn, and how many may wait.
const REPORTS: usize = 256;
/// Between two looks for the rest of a picture.
const PAUSE: Duration = Duration::from_micros(150);
/// Events that could not be passed on are offered again after this.
const RETRY_EVENTS: Duration = Duration::from_millis(10);
/// A thread that never waits looks at its TCP connections this often.
const LOOK_AT_CONNECTIONS: Duration = Duration::from_millis(1);

type Reply<T> = Box<dyn FnOnce(T) + Send>;

/// What control says to the thread.
pub(crate) enum Control {
    Join {
        admission: Box<Admission>,
        reply: Reply<Result<ParticipantId, JoinError>>,
    },
    Leave {
        room: Arc<str>,
        participant: ParticipantId,
    },
    Command {
        room: Arc<str>,
        command: Command,
    },
    AddSlots {
        room: Arc<str>,
        participant: ParticipantId,
        slots: Vec<ReceiveSlot>,
    },
    RestartIce(IceRestart),
    CloseRoom {
        room: Arc<str>,
    },
    Stats {
        reply: Reply<ThreadStats>,
    },
    Rooms {
        reply: Reply<Vec<RoomEntry>>,
    },
    Snapshot {
        room: Arc<str>,
        reply: Reply<Option<RoomSnapshot>>,
    },
    Stop,
    #[cfg(test)]
    Panic,
}

/// New ICE credentials of both ends.
pub(crate) struct IceRestart {
    pub(crate) room: Arc<str>,
    pub(crate) participant: ParticipantId,
    pub(crate) local: Credentials,
    pub(crate) remote_ufrag: String,
    pub(crate) reply: Reply<Result<(), JoinError>>,
}

/// Counters of a shard and of its sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ThreadStats {
    pub(crate) core: Stats,
    pub(crate) lost_in_kernel: u64,
    pub(crate) tcp: TcpStats,
}

/// What a shard's thread works with.
pub(crate) struct Shell {
    pub(crate) socket: Socket,
    /// For clients whose network blocks UDP.
    pub(crate) tcp: Option<(Listener, TcpLimits)>,
    pub(crate) clock: Clock,
    pub(crate) config: ShardConfig,
    /// The processor to stay on, where possible.
    pub(crate) pin: Option<usize>,
    /// Control messages that may wait.
    pub(crate) control_queue: usize,
}

/// A shard's thread, as its owner holds it.
#[derive(Debug)]
pub(crate) struct Running {
    control: SyncSender<Control>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

/// The control queue is full, or the thread is gone.
#[derive(Debug)]
pub(crate) struct Full;

impl Running {
    /// Passes a message on, never waiting.
    pub(crate) fn send(&self, control: Control) -> Result<(), Full> {
        self.control.try_send(control).map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => Full,
        })?;
        self.waker.wake();
        Ok(())
    }

    /// Stops the thread and waits for its end.
    pub(crate) fn stop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // Waits where the queue is full; the thread takes from it.
            let _ = self.control.send(Control::Stop);
            self.waker.wake();
            let _ = thread.join();
        }
    }
}

/// Starts a shard's thread.
///
/// # Errors
/// Where the system has no thread or file descriptor left.
pub(crate) fn start(shell: Shell, number: usize, workers: &Workers, events: impl EventSink) -> io::Result<Running> {
    let waker = Waker::new()?;
    let (report_sender, reports) = sync_channel(REPORTS);
    let (control, controls) = sync_channel(shell.control_queue);
    let handshakes = workers.handshakes(report_sender, waker.clone());
    let own_waker = waker.clone();
    let mut events = events;
    let thread = Builder::new().name(format!("sfu-shard-{number}")).spawn(move || {
        if let Some(processor) = shell.pin {
            pin(processor);
        }
        // A panic outside of any room ends all rooms of the shard; it goes on without them.
        while catch_unwind(AssertUnwindSafe(|| {
            Thread::new(&shell, &own_waker, handshakes.clone(), &mut events).run(&controls, &reports);
        }))
        .is_err()
        {
            pass_on(&mut events, Event::ShardFailed { shard: number });
        }
    })?;
    Ok(Running { control, waker, thread: Some(thread) })
}

/// Passes on an event that must not be lost, however long that takes.
fn pass_on(events: &mut impl EventSink, mut event: Event) {
    while let Err(refused) = events.offer(event) {
        event = refused;
        sleep(RETRY_EVENTS);
    }
}

/// Keeps the calling thread on one processor; where that is not allowed it goes where the system puts it.
fn pin(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor % CpuSet::MAX_CPU);
    let _ = sched_setaffinity(None, &set);
}

struct Thread<'a, E> {
    core: Core<Room, Handshakes>,
    outlet: Outlet<'a>,
    receiver: Receiver,
    stream: StreamBuffer,
    /// When TCP connections are next looked at, at the latest.
    look_at_connections: Timestamp,
    clock: Clock,
    waker: &'a Waker,
    events: &'a mut E,
    event_waits: bool,
}

/// The sockets as a core sees them.
struct Outlet<'a> {
    socket: &'a Socket,
    sender: Sender,
    connections: Option<Connections<'a>>,
    now: Timestamp,
    lost: u64,
}

impl Wire for Outlet<'_> {
    fn send(&mut self, path: Path, bytes: &[u8], segment: usize) {
        let outcome = match path.remote.protocol {
            Protocol::Udp => self.socket.send(path.remote.address, path.local, bytes, segment),
            Protocol::Tcp => {
                let (to, now) = (path.remote.address, self.now);
                let taken = self.connections.as_mut().is_some_and(|tcp| tcp.send(now, to, bytes, segment));
                if taken { SendOutcome::Sent } else { SendOutcome::Refused }
            }
        };
        if outcome != SendOutcome::Sent {
            self.lost += 1;
        }
    }

    fn send_all<'a>(&mut self, sends: impl Iterator<Item = (Path, Run<'a>)>) {
        let outgoing = |(path, run): (Path, Run<'a>)| Outgoing {
            to: path.remote.address,
            from: path.local,
            bytes: run.bytes,
            segment: run.segment,
        };
        self.lost += self.sender.send_all(self.socket, sends.map(outgoing));
    }

    fn max_segments(&self) -> usize {
        self.socket.max_segments()
    }
}

enum Turn {
    Continue,
    Stop,
}

impl<'a, E: EventSink> Thread<'a, E> {
    fn new(shell: &'a Shell, waker: &'a Waker, handshakes: Handshakes, events: &'a mut E) -> Self {
        let now = shell.clock.now();
        let connections = shell.tcp.as_ref().map(|(listener, limits)| Connections::new(now, listener, *limits));
        Self {
            core: Core::new(now, shell.config, handshakes),
            outlet: Outlet { socket: &shell.socket, sender: Sender::new(), connections, now, lost: 0 },
            receiver: Receiver::new(),
            stream: StreamBuffer::new(),
            look_at_connections: now,
            clock: shell.clock,
            waker,
            events,
            event_waits: false,
        }
    }

    fn run(mut self, controls: &Queue<Control>, reports: &Queue<Report>) {
        loop {
            let received = self.receive();
            self.take_reports(reports);
            if let Turn::Stop = self.take_controls(controls) {
                return;
            }
            let now = self.now();
            if self.look_at_connections <= now {
                self.serve_connections(now);
            }
            self.take_note_of_ended(now);
            if self.core.next_timeout() <= now {
                self.core.handle_timeout(now, &mut self.outlet);
            }
            self.end_batch(now);
            self.pass_events_on();
            if received {
                continue;
            }
            if self.core.lingers() {
                // Not woken by each packet: they come together.
                sleep(PAUSE);
            } else {
                self.wait();
            }
        }
    }

    /// Receives and forwards; `true` where there may be more.
    fn receive(&mut self) -> bool {
        for _ in 0..BATCHES {
            // An error of the socket that lasts would show as silence; it is not worth ending all rooms for.
            let filled = self.receiver.receive(self.outlet.socket).unwrap_or(Filled::Nothing);
            if filled == Filled::Nothing {
                return false;
            }
            let now = self.now();
            for batch in self.receiver.batches() {
                self.core.handle_datagrams(now, batch.from, batch.to, batch.bytes, batch.segment, &mut self.outlet);
            }
            self.end_batch(now);
            if filled == Filled::Part {
                return false;
            }
        }
        true
    }

    fn now(&mut self) -> Timestamp {
        self.outlet.now = self.clock.now();
        self.outlet.now
    }

    fn end_batch(&mut self, now: Timestamp) {
        self.core.end_batch(now, &mut self.outlet);
        if let Some(connections) = &mut self.outlet.connections {
            connections.flush(now);
        }
    }

    /// Takes newcomers in, and what came over TCP.
    fn serve_connections(&mut self, now: Timestamp) {
        self.look_at_connections = now + LOOK_AT_CONNECTIONS;
        let core = &mut self.core;
        let Some(connections) = &mut self.outlet.connections else { return };
        connections.poll(now);
        if connections.next_timeout().is_some_and(|at| at <= now) {
            connections.handle_timeout(now, |peer| core.knows(peer));
        }
        // Before anything is received: a peer may be back already.
        self.take_note_of_ended(now);
        while let Some(incoming) = self.outlet.connections.as_mut().and_then(|tcp| tcp.receive(&mut self.stream)) {
            let mut frames = self.stream.frames();
            let rest = loop {
                match frames.next_frame() {
                    Ok(Some(datagram)) => self.core.handle_frame(now, incoming.peer, datagram, &mut self.outlet),
                    Ok(None) => break Ok(frames.rest()),
                    Err(error) => break Err(error),
                }
            };
            let known = self.core.knows(incoming.peer);
            if let Some(connections) = &mut self.outlet.connections {
                connections.received(incoming, rest, known);
            }
        }
    }

    /// Tells the core of connections that ended, be it by what was read or by what could not be written.
    fn take_note_of_ended(&mut self, now: Timestamp) {
        while let Some(peer) = self.outlet.connections.as_mut().and_then(Connections::poll_ended) {
            self.core.handle_disconnected(now, peer, &mut self.outlet);
        }
    }

    fn take_reports(&mut self, reports: &Queue<Report>) {
        for report in reports.try_iter().take(REPORTS) {
            let now = self.now();
            self.core.handle_report(now, report, &mut self.outlet);
        }
    }

    fn take_controls(&mut self, controls: &Queue<Control>) -> Turn {
        for control in controls.try_iter().take(CONTROLS) {
            let now = self.now();
            if let Turn::Stop = self.obey(now, control) {
                return Turn::Stop;
            }
        }
        Turn::Continue
    }

    fn obey(&mut self, now: Timestamp, control: Control) -> Turn {
        let (core, wire) = (&mut self.core, &mut self.outlet);
        match control {
            Control::Join { admission, reply } => reply(core.join(now, *admission)),
            Control::Leave { room, participant } => core.leave(now, &room, participant, wire),
            Control::Command { room, command } => core.command(now, &room, command, wire),
            Control::AddSlots { room, participant, slots } => core.add_slots(now, &room, participant, &slots, wire),
            Control::RestartIce(IceRestart { room, participant, local, remote_ufrag, reply }) => {
                reply(core.restart_ice(&room, participant, local, &remote_ufrag));
            }
            Control::CloseRoom { room } => core.close_room(now, &room, wire),
            Control::Stats { reply } => {
                let tcp = wire.connections.as_ref().map(Connections::stats).unwrap_or_default();
                reply(ThreadStats { core: core.stats(), lost_in_kernel: wire.lost, tcp });
            }
            Control::Rooms { reply } => reply(core.rooms()),
            Control::Snapshot { room, reply } => reply(core.snapshot(now, &room)),
            Control::Stop => return Turn::Stop,
            #[cfg(test)]
            Control::Panic => panic!("as told"),
        }
        Turn::Continue
    }

    fn pass_events_on(&mut self) {
        self.event_waits = false;
        while let Some(event) = self.core.poll_event() {
            if let Err(event) = self.events.offer(event) {
                self.core.unpoll_event(event);
                self.event_waits = true;
                return;
            }
        }
    }

    fn wait(&mut self) {
        let connections = self.outlet.connections.as_ref();
        let timeout =
            connections.and_then(Connections::next_timeout).into_iter().fold(self.core.next_timeout(), Ord::min);
        let mut until = timeout.since(self.clock.now());
        if self.event_waits {
            until = until.min(RETRY_EVENTS);
        }
        let timeout = Timespec { tv_sec: until.as_secs() as i64, tv_nsec: i64::from(until.subsec_nanos()) };
        let (socket, waker) = (self.outlet.socket, self.waker);
        // Without a listener the waker stands in its place, where it is not looked at.
        let of_connections = connections.map_or_else(|| waker.as_fd(), AsFd::as_fd);
        let mut sources = [
            PollFd::new(socket, PollFlags::IN),
            PollFd::new(waker, PollFlags::IN),
            PollFd::from_borrowed_fd(of_connections, PollFlags::IN),
        ];
        let polled = if connections.is_some() { 3 } else { 2 };
        // Interrupted or not, the next turn looks at everything.
        let _ = poll(&mut sources[..polled], Some(&timeout));
        if sources[1].revents().contains(PollFlags::IN) {
            self.waker.reset();
        }
        let happened = !sources[2].revents().is_empty();
        let now = self.clock.now();
        let is_due = connections.and_then(Connections::next_timeout).is_some_and(|at| at <= now);
        self.look_at_connections = if happened || is_due { now } else { now + LOOK_AT_CONNECTIONS };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dtls::{Certificate, Endpoint, WorkersConfig},
        net::SocketConfig,
    };

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn a_shard_that_panics_says_so_and_goes_on() {
        let clock = Clock::start();
        let endpoint = Endpoint::new(Certificate::generate().unwrap(), clock.origin()).unwrap();
        let workers = Workers::start(&endpoint, clock, WorkersConfig::default()).unwrap();
        let bind = "127.0.0.1:0".parse().unwrap();
        let socket = Socket::open(SocketConfig { bind, receive_buffer: 1 << 16, send_buffer: 1 << 16 }).unwrap();
        let (sender, events) = sync_channel(1);
        let tcp = Some((Listener::open(bind).unwrap(), TcpLimits::default()));
        let shell = Shell { socket, tcp, clock, config: ShardConfig::default(), pin: Some(0), control_queue: 8 };
        let mut running = start(shell, 3, &workers, sender).unwrap();
        running.send(Control::Panic).unwrap();
        assert_eq!(events.recv_timeout(PATIENCE), Ok(Event::ShardFailed { shard: 3 }));
        let (reply, answer) = sync_channel(1);
        running.send(Control::Stats { reply: Box::new(move |stats| reply.send(stats).unwrap()) }).unwrap();
        assert_eq!(answer.recv_timeout(PATIENCE), Ok(ThreadStats::default()));
        running.stop();
        workers.join();
    }
}
