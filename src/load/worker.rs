//! A thread that plays many clients: their sockets, their timers, nothing of what they say.
//!
//! One `epoll` for all sockets; each is emptied by `recvmmsg` with GRO, and what a client has to send leaves by GSO.

use super::{
    client::{Event, MediaClient, Outbox},
    figures::Figures,
};
use anyhow::{Context, Result};
use halloo_engine::load;
use halloo_sfu::net::{Clock, Filled, Receiver, SendOutcome, Socket, SocketConfig, Waker};
use halloo_transport::Timestamp;
use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    time::Timespec,
};
use std::{
    collections::{BTreeSet, HashMap},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver as Orders, Sender, TryRecvError, channel},
    },
    thread::JoinHandle,
    time::Duration,
};
use tokio::{runtime::Handle, sync::mpsc::UnboundedSender};

/// Kernel buffers of one client: a burst of key frames of all its tiles.
const BUFFER: usize = 1 << 20;
/// Longest wait when nothing is due.
const IDLE: Duration = Duration::from_secs(1);
/// Shortest wait for the same client.
const SHORTEST: Duration = Duration::from_micros(100);
/// Sockets that are told ready at once.
const READY: usize = 256;
/// Names the waker among the sockets.
const WAKER: u64 = u64::MAX;

/// What a client's media told, when, and whose it is.
#[derive(Clone, Debug)]
pub struct Told {
    /// Whose.
    pub person: u32,
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: What,
}

/// What a client's media tells.
#[derive(Clone, Debug)]
pub enum What {
    /// Something happened to the client.
    Event(Event),
    /// Its first picture was decoded, or why not.
    Decoded(Result<(), String>),
}

enum Order {
    Play { person: u32, client: Box<MediaClient>, server: SocketAddr },
    Film { person: u32, watched: bool },
    Stop { person: u32 },
    Quiet,
    Quit,
}

/// A handle on a thread.
#[derive(Debug)]
pub struct Worker {
    orders: Sender<Order>,
    waker: Waker,
    figures: Arc<Mutex<Figures>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread. What takes long is done by the tokio runtime that this is called on.
    ///
    /// # Errors
    /// Where the system gives no thread or file descriptor.
    pub fn start(number: usize, clock: Clock, told: UnboundedSender<Told>) -> Result<Self> {
        let (orders, receiver) = channel();
        let waker = Waker::new().context("no file descriptor for a thread")?;
        let figures = Arc::new(Mutex::new(Figures::default()));
        let poll = epoll::create(CreateFlags::CLOEXEC).context("no file descriptor for a thread")?;
        epoll::add(&poll, &waker, EventData::new_u64(WAKER), EventFlags::IN).context("cannot wait for orders")?;
        let stage = Stage {
            poll,
            clock,
            told,
            runtime: Handle::current(),
            waker: waker.clone(),
            orders: receiver,
            figures: Arc::clone(&figures),
            clients: Vec::new(),
            free: Vec::new(),
            by_person: HashMap::new(),
            timers: BTreeSet::new(),
            receiver: Some(Receiver::new()),
            outbox: Outbox::default(),
        };
        let thread = std::thread::Builder::new().name(format!("load-{number}")).spawn(move || stage.run());
        Ok(Self { orders, waker, figures, thread: Some(thread.context("no thread to play clients on")?) })
    }

    fn order(&self, order: Order) {
        // A thread that has ended needs no orders.
        let _ = self.orders.send(order);
        self.waker.wake();
    }

    /// Plays a client from now on.
    pub fn play(&self, person: u32, client: MediaClient, server: SocketAddr) {
        self.order(Order::Play { person, client: Box::new(client), server });
    }

    /// Whether anybody receives this client's camera.
    pub fn film(&self, person: u32, watched: bool) {
        self.order(Order::Film { person, watched });
    }

    /// Says goodbye for this client and forgets it.
    pub fn stop(&self, person: u32) {
        self.order(Order::Stop { person });
    }

    /// Lets nobody send media any more.
    pub fn quiet(&self) {
        self.order(Order::Quiet);
    }

    /// The counts so far; the spreads of times begin anew.
    pub fn take_figures(&self) -> Figures {
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = figures.clone();
        figures.delay.clear();
        figures.late.clear();
        taken
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.order(Order::Quit);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A client on its socket.
struct Playing {
    person: u32,
    client: Box<MediaClient>,
    socket: Socket,
    server: SocketAddr,
    due: Timestamp,
}

struct Stage {
    poll: OwnedFd,
    clock: Clock,
    told: UnboundedSender<Told>,
    runtime: Handle,
    waker: Waker,
    orders: Orders<Order>,
    figures: Arc<Mutex<Figures>>,
    clients: Vec<Option<Playing>>,
    free: Vec<usize>,
    by_person: HashMap<u32, usize>,
    timers: BTreeSet<(Timestamp, usize)>,
    /// There but while it is read from.
    receiver: Option<Receiver>,
    outbox: Outbox,
}

impl Stage {
    fn run(mut self) {
        let mut ready = Vec::with_capacity(READY);
        loop {
            if self.take_orders() {
                return;
            }
            let now = self.clock.now();
            let wait = self.timers.first().map_or(IDLE, |(due, _)| due.since(now).min(IDLE));
            let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
            ready.clear();
            // An interrupted wait is like one that ended early.
            let _ = epoll::wait(&self.poll, spare_capacity(&mut ready), Some(&timeout));
            let figures = Arc::clone(&self.figures);
            let mut figures = figures.lock().unwrap_or_else(PoisonError::into_inner);
            for event in &ready {
                match event.data.u64() {
                    WAKER => self.waker.reset(),
                    place => self.receive(place as usize, &mut figures),
                }
            }
            let until = self.clock.now();
            while let Some((due, place)) = self.timers.first().copied()
                && due <= until
            {
                self.with(place, &mut figures, |playing, now, figures, outbox| {
                    playing.client.handle_timeout(now, figures, outbox);
                });
            }
        }
    }

    /// Whether it is to end.
    fn take_orders(&mut self) -> bool {
        loop {
            let figures = Arc::clone(&self.figures);
            let order = match self.orders.try_recv() {
                Ok(order) => order,
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => return true,
            };
            let mut figures = figures.lock().unwrap_or_else(PoisonError::into_inner);
            match order {
                Order::Play { person, client, server } => self.play(person, client, server, &mut figures),
                Order::Film { person, watched } => {
                    if let Some(place) = self.by_person.get(&person).copied() {
                        self.with(place, &mut figures, |playing, _, _, _| playing.client.set_filming(watched));
                    }
                }
                Order::Stop { person } => self.stop(person, &mut figures),
                Order::Quiet => {
                    for place in 0..self.clients.len() {
                        self.with(place, &mut figures, |playing, _, _, _| playing.client.stop_publishing());
                    }
                }
                Order::Quit => return true,
            }
        }
    }

    fn play(&mut self, person: u32, client: Box<MediaClient>, server: SocketAddr, figures: &mut Figures) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.clients.push(None);
            self.clients.len() - 1
        });
        let socket = match open(server).and_then(|socket| {
            epoll::add(&self.poll, &socket, EventData::new_u64(place as u64), EventFlags::IN)?;
            Ok(socket)
        }) {
            Ok(socket) => socket,
            Err(error) => {
                self.free.push(place);
                let what = What::Event(Event::Failed(format!("no socket: {error}")));
                let _ = self.told.send(Told { person, at: self.clock.now(), what });
                return;
            }
        };
        if let Some(slot) = self.clients.get_mut(place) {
            *slot = Some(Playing { person, client, socket, server, due: Timestamp::ZERO });
        }
        self.timers.insert((Timestamp::ZERO, place));
        self.by_person.insert(person, place);
        self.with(place, figures, |playing, now, figures, outbox| playing.client.handle_timeout(now, figures, outbox));
    }

    fn stop(&mut self, person: u32, figures: &mut Figures) {
        let Some(place) = self.by_person.remove(&person) else { return };
        self.with(place, figures, |playing, now, _, outbox| playing.client.close(now, outbox));
        if let Some(playing) = self.clients.get_mut(place).and_then(Option::take) {
            self.timers.remove(&(playing.due, place));
            let _ = epoll::delete(&self.poll, &playing.socket);
            self.free.push(place);
        }
    }

    fn receive(&mut self, place: usize, figures: &mut Figures) {
        let (mut own, clock) = (self.receiver.take(), self.clock);
        let Some(receiver) = &mut own else { return };
        self.with(place, figures, |playing, mut now, figures, outbox| {
            // What arrives while it is read waits for the next round, so that nobody else is kept waiting.
            for _ in 0..4 {
                let filled = receiver.receive(&playing.socket).unwrap_or(Filled::Nothing);
                for batch in receiver.batches() {
                    for datagram in batch.bytes.chunks_mut(batch.segment) {
                        playing.client.handle_datagram(now, datagram, figures, outbox);
                    }
                }
                if filled != Filled::Whole {
                    break;
                }
                now = clock.now();
            }
        });
        self.receiver = own;
    }

    /// Does something with a client, sends what comes of it, and sets its timer.
    fn with(
        &mut self,
        place: usize,
        figures: &mut Figures,
        act: impl FnOnce(&mut Playing, Timestamp, &mut Figures, &mut Outbox),
    ) {
        let Some(Some(playing)) = self.clients.get_mut(place) else { return };
        let now = self.clock.now();
        act(playing, now, figures, &mut self.outbox);
        let (socket, server) = (&playing.socket, playing.server);
        self.outbox.drain(|bytes, segment| {
            if socket.send(server, None, bytes, segment) != SendOutcome::Sent {
                figures.counts.refused += 1;
            }
        });
        while let Some(event) = playing.client.poll_event() {
            let (person, told, clock) = (playing.person, self.told.clone(), self.clock);
            if let Event::FirstPicture(payloads) = &event {
                // Elsewhere: it takes longer than the other clients may be kept waiting.
                let (told, payloads) = (told.clone(), payloads.clone());
                self.runtime.spawn_blocking(move || {
                    let decoded = load::decode(&payloads).map(|_| ()).map_err(|error| error.to_string());
                    let _ = told.send(Told { person, at: clock.now(), what: What::Decoded(decoded) });
                });
            }
            let _ = told.send(Told { person, at: now, what: What::Event(event) });
        }
        // Never at once: the others have their turn first.
        let due = playing.client.next_timeout().max(now + SHORTEST);
        self.timers.remove(&(playing.due, place));
        playing.due = due;
        self.timers.insert((due, place));
    }
}

fn open(server: SocketAddr) -> std::io::Result<Socket> {
    let bind = match server {
        SocketAddr::V4(v4) if v4.ip().is_loopback() => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(v6) if v6.ip().is_loopback() => SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    Socket::open(SocketConfig { bind, receive_buffer: BUFFER, send_buffer: BUFFER })
}
