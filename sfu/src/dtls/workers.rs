//! The threads that handshakes run on.
//!
//! Each connection stays on one thread. Queues are bounded both ways: a shard never waits (a datagram that finds the queue
//! full is dropped, and DTLS sends it again), a worker waits for its shard. Connections not yet complete are bounded, and one
//! that panics takes down itself only. A completed connection stays, to repeat its last flight and to notice the peer's
//! goodbye, until its [`Handshake`] is dropped.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use halloo_transport::Timestamp;

use super::{DtlsError, Endpoint, Fingerprint, POLL_BUFFER, Peer, peer};
use crate::{
    net::{Clock, Waker},
    srtp::{DtlsRole, SessionKeys},
};

/// Dropped handshakes are noticed this often.
const SWEEP: Duration = Duration::from_secs(1);
const LEAST_WAIT: Duration = Duration::from_millis(1);

/// How handshakes are spread over threads.
#[derive(Clone, Copy, Debug)]
pub struct WorkersConfig {
    /// Threads; at least one.
    pub threads: usize,
    /// Datagrams that wait for one thread before further ones are dropped.
    pub queue: usize,
    /// Incomplete connections of one thread; further ones are refused.
    pub max_half_open: usize,
}

impl Default for WorkersConfig {
    fn default() -> Self {
        Self { threads: 2, queue: 1_024, max_half_open: 4_096 }
    }
}

/// The pool. Its threads end when it and all its [`Handshakes`] are dropped.
#[derive(Debug)]
pub struct Workers {
    queues: Vec<SyncSender<Input>>,
    threads: Vec<JoinHandle<()>>,
    ids: Arc<AtomicU64>,
}

/// A shard's access to the pool.
#[derive(Clone, Debug)]
pub struct Handshakes {
    queues: Vec<SyncSender<Input>>,
    reports: SyncSender<Report>,
    waker: Waker,
    /// Counts connections of all shards.
    ids: Arc<AtomicU64>,
}

/// One connection as its shard holds it; dropping it ends the connection.
#[derive(Debug)]
pub struct Handshake {
    queue: SyncSender<Input>,
    token: Arc<Token>,
}

/// Alive as long as the shard wants the connection.
#[derive(Debug)]
struct Token {
    /// Unique in the process.
    id: u64,
}

/// The pool has no room. For a datagram this is a loss like any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the DTLS workers are busy or gone")]
pub struct Refused;

/// What became of a connection.
#[derive(Debug)]
pub struct Report {
    /// The shard's name for it.
    pub session: u64,
    /// What happened.
    pub outcome: Outcome,
}

/// What a worker reports.
#[derive(Debug)]
pub enum Outcome {
    /// Send this to the peer.
    Datagram(Vec<u8>),
    /// The handshake is complete.
    Connected(Box<SessionKeys>),
    /// The peer said goodbye.
    Closed,
    /// The connection is over.
    Failed(DtlsError),
}

#[derive(Debug)]
enum Input {
    Start { token: Weak<Token>, session: u64, expected: Vec<Fingerprint>, reports: SyncSender<Report>, waker: Waker },
    Datagram { token: Weak<Token>, bytes: Vec<u8> },
}

impl Workers {
    /// Starts the threads.
    ///
    /// # Errors
    /// Where the system has no thread left.
    pub fn start(endpoint: &Endpoint, clock: Clock, config: WorkersConfig) -> io::Result<Self> {
        let mut workers = Self { queues: Vec::new(), threads: Vec::new(), ids: Arc::default() };
        for n in 0..config.threads.max(1) {
            let (queue, inputs) = sync_channel(config.queue);
            let worker = Worker::new(endpoint.clone(), clock, config.max_half_open);
            workers.threads.push(Builder::new().name(format!("sfu-dtls-{n}")).spawn(move || worker.run(&inputs))?);
            workers.queues.push(queue);
        }
        Ok(workers)
    }

    /// Access for a shard: what happens to its connections goes to `reports`, and `waker` is called then.
    pub fn handshakes(&self, reports: SyncSender<Report>, waker: Waker) -> Handshakes {
        Handshakes { queues: self.queues.clone(), reports, waker, ids: Arc::clone(&self.ids) }
    }

    /// Waits for the threads to end, once all [`Handshakes`] and their [`Handshake`]s are dropped.
    pub fn join(self) {
        drop(self.queues);
        for thread in self.threads {
            // Its panic, if it had one, was reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Handshakes {
    /// Begins a connection in the server's role with a peer whose certificate has one of the `expected` fingerprints.
    /// `session` comes back in every [`Report`].
    ///
    /// # Errors
    /// [`Refused`]: try again at the peer's next datagram.
    pub fn start(&self, session: u64, expected: Vec<Fingerprint>) -> Result<Handshake, Refused> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let queue = self.queues[id as usize % self.queues.len()].clone();
        let token = Arc::new(Token { id });
        let input = Input::Start {
            token: Arc::downgrade(&token),
            session,
            expected,
            reports: self.reports.clone(),
            waker: self.waker.clone(),
        };
        send(&queue, input)?;
        Ok(Handshake { queue, token })
    }
}

impl Handshake {
    /// Passes a datagram from the peer on.
    ///
    /// # Errors
    /// [`Refused`]: the datagram is lost.
    pub fn datagram(&self, bytes: &[u8]) -> Result<(), Refused> {
        send(&self.queue, Input::Datagram { token: Arc::downgrade(&self.token), bytes: bytes.to_vec() })
    }
}

fn send(queue: &SyncSender<Input>, input: Input) -> Result<(), Refused> {
    queue.try_send(input).map_err(|error| match error {
        TrySendError::Full(_) | TrySendError::Disconnected(_) => Refused,
    })
}

/// One thread's connections.
struct Worker {
    endpoint: Endpoint,
    clock: Clock,
    max_half_open: usize,
    half_open: usize,
    connections: HashMap<u64, Connection>,
    timers: BTreeSet<(Timestamp, u64)>,
    next_sweep: Timestamp,
    buffer: Vec<u8>,
}

struct Connection {
    peer: Peer,
    token: Weak<Token>,
    session: u64,
    complete: bool,
    timer: Option<Timestamp>,
    reports: SyncSender<Report>,
    waker: Waker,
}

impl Worker {
    fn new(endpoint: Endpoint, clock: Clock, max_half_open: usize) -> Self {
        Self {
            endpoint,
            clock,
            max_half_open,
            half_open: 0,
            connections: HashMap::new(),
            timers: BTreeSet::new(),
            next_sweep: clock.now() + SWEEP,
            buffer: vec![0; POLL_BUFFER],
        }
    }

    fn run(mut self, inputs: &Receiver<Input>) {
        loop {
            let due = self.timers.first().map_or(self.next_sweep, |(at, _)| (*at).min(self.next_sweep));
            match inputs.recv_timeout(due.since(self.clock.now())) {
                Ok(input) => self.handle(input),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.handle_timeouts();
        }
    }

    fn handle(&mut self, input: Input) {
        let now = self.clock.now();
        match input {
            Input::Start { token, session, expected, reports, waker } => {
                let Some(id) = token.upgrade().map(|token| token.id) else { return };
                if self.half_open >= self.max_half_open {
                    let error = DtlsError::Handshake("too many handshakes at a time".to_owned());
                    report(&reports, &waker, session, Outcome::Failed(error));
                    return;
                }
                let peer = self.endpoint.peer(now, DtlsRole::Server, expected);
                let connection = Connection { peer, token, session, complete: false, timer: None, reports, waker };
                self.half_open += 1;
                self.connections.insert(id, connection);
            }
            Input::Datagram { token, bytes } => {
                let Some(id) = token.upgrade().map(|token| token.id) else { return };
                self.step(id, |peer| peer.handle_datagram(now, &bytes));
            }
        }
    }

    fn handle_timeouts(&mut self) {
        let now = self.clock.now();
        while let Some((at, id)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            self.step(id, |peer| peer.handle_timeout(now));
        }
        if self.next_sweep <= now {
            self.next_sweep = now + SWEEP;
            let dropped: Vec<u64> =
                self.connections.iter().filter(|(_, c)| c.token.strong_count() == 0).map(|(id, _)| *id).collect();
            dropped.into_iter().for_each(|id| self.remove(id));
        }
    }

    /// Lets a connection do something and passes on what it wants then.
    fn step(&mut self, id: u64, step: impl FnOnce(&mut Peer) -> Result<(), DtlsError>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let was_complete = connection.complete;
        let buffer = &mut self.buffer;
        let result = catch_unwind(AssertUnwindSafe(|| {
            step(&mut connection.peer)?;
            connection.drain(buffer)
        }));
        let failure = match result {
            Ok(Ok(Open::Yes)) => None,
            Ok(Ok(Open::No)) => Some(Outcome::Closed),
            Ok(Err(error)) => Some(Outcome::Failed(error)),
            Err(_) => Some(Outcome::Failed(DtlsError::Handshake("the library panicked".to_owned()))),
        };
        if let Some(outcome) = failure {
            report(&connection.reports, &connection.waker, connection.session, outcome);
            self.half_open -= usize::from(!was_complete && connection.complete);
            self.remove(id);
            return;
        }
        connection.timer.map(|at| self.timers.remove(&(at, id)));
        // Never at once again, whatever the library says.
        connection.timer = connection.peer.next_timeout().map(|at| at.max(self.clock.now() + LEAST_WAIT));
        connection.timer.map(|at| self.timers.insert((at, id)));
        self.half_open -= usize::from(!was_complete && connection.complete);
    }

    fn remove(&mut self, id: u64) {
        let Some(connection) = self.connections.remove(&id) else { return };
        connection.timer.map(|at| self.timers.remove(&(at, id)));
        self.half_open -= usize::from(!connection.complete);
    }
}

enum Open {
    Yes,
    No,
}

impl Connection {
    fn drain(&mut self, buffer: &mut [u8]) -> Result<Open, DtlsError> {
        while let Some(output) = self.peer.poll(buffer)? {
            let outcome = match output {
                peer::Output::Datagram(len) => Outcome::Datagram(buffer[..len].to_vec()),
                peer::Output::Connected(keys) => {
                    self.complete = true;
                    Outcome::Connected(keys)
                }
                peer::Output::Closed => return Ok(Open::No),
            };
            report(&self.reports, &self.waker, self.session, outcome);
        }
        Ok(Open::Yes)
    }
}

/// Waits where the shard is behind. A shard that is gone drops its handshakes too, which the next sweep notices.
fn report(reports: &SyncSender<Report>, waker: &Waker, session: u64, outcome: Outcome) {
    if reports.send(Report { session, outcome }).is_ok() {
        waker.wake();
    }
}

#[cfg(test)]
#[path = "workers_tests.rs"]
mod tests;
