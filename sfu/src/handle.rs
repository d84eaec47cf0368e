//! A running forwarding unit, as the program that embeds it holds it.
//!
//! ```text
//!  offer -> sdp::negotiate with SfuHandle::local_transport -> answer
//!                      \-> SfuHandle::join -> events: Connected, Room, Left
//! ```
//!
//! Calls never wait for a shard: what wants an answer takes a closure for it, which the shard's thread calls. Rooms are
//! spread over shards by their names.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ring::rand::SystemRandom;

use crate::{
    config::SfuConfig,
    dtls::{Certificate, CertificateError, Endpoint, Fingerprint, Workers},
    ice::{Credentials, CredentialsError},
    net::{Clock, Listener, Socket, SocketConfig, TcpLimits, TcpStats},
    room::{Command, ParticipantConfig, ParticipantId, ReceiveSlot, RoomConfig, RoomSnapshot},
    sdp::{Candidate, LocalTransport, Protocol, RemoteTransport},
    shard::{
        self, Admission, Control, EventSink, IceRestart, JoinError, RoomEntry, Running, Shell, Stats, ThreadStats,
    },
};

/// The forwarding unit.
#[derive(Clone, Copy, Debug)]
pub struct Sfu;

/// A running unit. Dropping it ends all rooms.
#[derive(Debug)]
pub struct SfuHandle {
    shards: Vec<Shard>,
    fingerprint: [u8; 32],
    random: SystemRandom,
    /// Ends after the shards, whose handshakes it runs.
    workers: Option<Workers>,
}

#[derive(Debug)]
struct Shard {
    running: Running,
    candidates: Vec<Candidate>,
}

/// Why a unit does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket could not be opened.
    #[error("cannot listen on {protocol} {address}: {error}")]
    Listen {
        /// UDP or TCP.
        protocol: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The unit listens on all addresses and was not told which of them to tell clients.
    #[error("listening on all addresses ({address}) needs an address to announce to clients")]
    NothingToAnnounce {
        /// Where it listens.
        address: SocketAddr,
    },
    /// No thread, or no file descriptor.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// No certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// The shard has more to do than it can: the message was dropped, try again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the forwarding unit is overloaded or stopped")]
pub struct Overloaded;

/// What a shard counts, with what its socket lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// Counters of the shard.
    pub core: Stats,
    /// Sends that the kernel had no room for or refused.
    pub sends_lost: u64,
    /// Its TCP connections.
    pub tcp: TcpStats,
}

/// Somebody to let in, as negotiated.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// The room, which is opened if need be.
    pub room: Arc<str>,
    /// The room's bounds, where this opens it.
    pub room_config: RoomConfig,
    /// What was negotiated.
    pub participant: ParticipantConfig,
    /// The client's end, from its offer.
    pub remote: RemoteTransport,
    /// Our end, which the answer was made with.
    pub local: LocalTransport,
}

impl Sfu {
    /// Starts a unit; what happens in its rooms goes to `events`.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(config: &SfuConfig, events: impl EventSink + Clone) -> Result<SfuHandle, StartError> {
        let clock = Clock::start();
        let endpoint = Endpoint::new(Certificate::generate()?, clock.origin())?;
        let workers = Workers::start(&endpoint, clock, config.workers).map_err(StartError::Thread)?;
        let mut handle = SfuHandle {
            shards: Vec::new(),
            fingerprint: endpoint.sha256(),
            random: SystemRandom::new(),
            workers: None,
        };
        for number in 0..config.shards.max(1) {
            handle.shards.push(start_shard(config, number, clock, &workers, events.clone())?);
        }
        handle.workers = Some(workers);
        Ok(handle)
    }
}

fn start_shard(
    config: &SfuConfig,
    number: usize,
    clock: Clock,
    workers: &Workers,
    events: impl EventSink,
) -> Result<Shard, StartError> {
    let mut bind = config.bind;
    if bind.port() != 0 {
        bind.set_port(bind.port().saturating_add(u16::try_from(number).unwrap_or(u16::MAX)));
    }
    let Sockets { socket, tcp, address } = listen(config, bind)?;
    let candidates = candidates(address, &config.announce, tcp.is_some())?;
    let shell = Shell {
        socket,
        tcp,
        clock,
        config: shard::ShardConfig {
            ntp_at_zero: config.ntp_now.saturating_sub(clock.now().since(halloo_transport::Timestamp::ZERO)),
            ..config.shard
        },
        pin: config.pin.then_some(number),
        control_queue: config.control_queue,
    };
    let running = shard::start(shell, number, workers, events).map_err(StartError::Thread)?;
    Ok(Shard { running, candidates })
}

/// A shard's sockets, both at the same port.
struct Sockets {
    socket: Socket,
    tcp: Option<(Listener, TcpLimits)>,
    address: SocketAddr,
}

/// Ports that the system chose for UDP and that may turn out to be taken for TCP.
const PORTS_TO_TRY: usize = 16;

fn listen(config: &SfuConfig, bind: SocketAddr) -> Result<Sockets, StartError> {
    let failed = |protocol| move |error| StartError::Listen { protocol, address: bind, error };
    let sizes = SocketConfig { bind, receive_buffer: config.receive_buffer, send_buffer: config.send_buffer };
    let mut left = if bind.port() == 0 { PORTS_TO_TRY } else { 1 };
    loop {
        left -= 1;
        let socket = Socket::open(sizes).map_err(failed("UDP"))?;
        let address = socket.local_addr().map_err(failed("UDP"))?;
        let Some(limits) = config.tcp else { return Ok(Sockets { socket, tcp: None, address }) };
        match Listener::open(address) {
            Ok(listener) => return Ok(Sockets { socket, tcp: Some((listener, limits)), address }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && left > 0 => {}
            Err(error) => return Err(failed("TCP")(error)),
        }
    }
}

/// UDP at all addresses, then TCP.
fn candidates(address: SocketAddr, announce: &[IpAddr], with_tcp: bool) -> Result<Vec<Candidate>, StartError> {
    let own = [address.ip()];
    let announced = if announce.is_empty() { &own[..] } else { announce };
    if announced.iter().any(IpAddr::is_unspecified) {
        return Err(StartError::NothingToAnnounce { address });
    }
    let protocols = if with_tcp { &[Protocol::Udp, Protocol::TcpPassive][..] } else { &[Protocol::Udp] };
    let candidate = |protocol, ip| Candidate { address: SocketAddr::new(ip, address.port()), protocol };
    Ok(protocols.iter().flat_map(|protocol| announced.iter().map(|ip| candidate(*protocol, *ip))).collect())
}

impl SfuHandle {
    /// Our end of a new participant's transport, for its answer: fresh ICE credentials, the certificate, and where the shard
    /// of the room listens.
    ///
    /// # Errors
    /// [`CredentialsError::Randomness`].
    pub fn local_transport(&self, room: &str) -> Result<LocalTransport, CredentialsError> {
        let credentials = Credentials::generate(&self.random)?;
        Ok(LocalTransport {
            ufrag: credentials.ufrag().to_owned(),
            pwd: credentials.pwd().to_owned(),
            fingerprint: self.fingerprint,
            candidates: self.shard(room).candidates.clone(),
        })
    }

    /// Lets a participant in. `reply` is called on the shard's thread and must not wait.
    ///
    /// # Errors
    /// [`Overloaded`]: `reply` is not called.
    pub fn join(
        &self,
        request: JoinRequest,
        reply: impl FnOnce(Result<ParticipantId, JoinError>) + Send + 'static,
    ) -> Result<(), Overloaded> {
        let Ok(local) = Credentials::new(request.local.ufrag, request.local.pwd) else {
            reply(Err(JoinError::Credentials));
            return Ok(());
        };
        let shard = self.shard(&request.room);
        let admission = Box::new(Admission {
            room: request.room,
            room_config: request.room_config,
            participant: request.participant,
            local,
            remote_ufrag: request.remote.ufrag,
            fingerprints: request.remote.fingerprints.into_iter().map(Fingerprint::Sha256).collect(),
        });
        shard.send(Control::Join { admission, reply: Box::new(reply) })
    }

    /// Takes a participant out of its room. Unknown ones are ignored.
    ///
    /// # Errors
    /// [`Overloaded`].
    pub fn leave(&self, room: Arc<str>, participant: ParticipantId) -> Result<(), Overloaded> {
        self.shard(&room).send(Control::Leave { room, participant })
    }

    /// Passes a command on to a room: what somebody shows, mutes, publishes.
    ///
    /// # Errors
    /// [`Overloaded`].
    pub fn command(&self, room: Arc<str>, command: Command) -> Result<(), Overloaded> {
        self.shard(&room).send(Control::Command { room, command })
    }

    /// Adds receive slots that a later offer brought.
    ///
    /// # Errors
    /// [`Overloaded`]: nothing was added.
    pub fn add_slots(
        &self,
        room: Arc<str>,
        participant: ParticipantId,
        slots: Vec<ReceiveSlot>,
    ) -> Result<(), Overloaded> {
        self.shard(&room).send(Control::AddSlots { room, participant, slots })
    }

    /// Begins an ICE restart, for an offer with new ICE credentials; `local` is what its answer was made with.
    ///
    /// # Errors
    /// [`Overloaded`]: `reply` is not called.
    pub fn restart_ice(
        &self,
        room: Arc<str>,
        participant: ParticipantId,
        local: LocalTransport,
        remote: &RemoteTransport,
        reply: impl FnOnce(Result<(), JoinError>) + Send + 'static,
    ) -> Result<(), Overloaded> {
        let Ok(local) = Credentials::new(local.ufrag, local.pwd) else {
            reply(Err(JoinError::Credentials));
            return Ok(());
        };
        let shard = self.shard(&room);
        let (remote_ufrag, reply) = (remote.ufrag.clone(), Box::new(reply));
        shard.send(Control::RestartIce(IceRestart { room, participant, local, remote_ufrag, reply }))
    }

    /// Takes everybody out of a room.
    ///
    /// # Errors
    /// [`Overloaded`].
    pub fn close_room(&self, room: Arc<str>) -> Result<(), Overloaded> {
        self.shard(&room).send(Control::CloseRoom { room })
    }

    /// Asks each shard for its counters. `reply` is called once per shard, on its thread, with its number, and must not wait.
    ///
    /// # Errors
    /// [`Overloaded`]: not all shards will reply.
    pub fn stats(&self, reply: impl Fn(usize, ShardStats) + Clone + Send + 'static) -> Result<(), Overloaded> {
        for (number, shard) in self.shards.iter().enumerate() {
            let reply = reply.clone();
            let one = move |stats: ThreadStats| {
                reply(number, ShardStats { core: stats.core, sends_lost: stats.lost_in_kernel, tcp: stats.tcp });
            };
            shard.send(Control::Stats { reply: Box::new(one) })?;
        }
        Ok(())
    }

    /// Asks each shard for its rooms. `reply` is called once per shard, on its thread, and must not wait.
    ///
    /// # Errors
    /// [`Overloaded`]: not all shards will reply.
    pub fn rooms(&self, reply: impl Fn(Vec<RoomEntry>) + Clone + Send + 'static) -> Result<(), Overloaded> {
        for shard in &self.shards {
            shard.send(Control::Rooms { reply: Box::new(reply.clone()) })?;
        }
        Ok(())
    }

    /// Asks for a room as it is now: who sends what, and who gets which of it. `reply` is called on the shard's thread, with
    /// `None` where there is no such room, and must not wait. Its cost is for operators: a room of a hundred takes about a
    /// millisecond of its shard.
    ///
    /// # Errors
    /// [`Overloaded`]: `reply` is not called.
    pub fn snapshot(
        &self,
        room: Arc<str>,
        reply: impl FnOnce(Option<RoomSnapshot>) + Send + 'static,
    ) -> Result<(), Overloaded> {
        self.shard(&room).send(Control::Snapshot { room, reply: Box::new(reply) })
    }

    /// Ends all rooms and waits for the threads. Clients notice by silence: tell them first.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        self.shards.iter_mut().for_each(|shard| shard.running.stop());
        self.shards.clear();
        if let Some(workers) = self.workers.take() {
            workers.join();
        }
    }

    /// Where clients are told to send: every shard's addresses, one shard after the other. They are the same for TCP.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let candidates = self.shards.iter().flat_map(|shard| &shard.candidates);
        candidates.filter(|candidate| candidate.protocol == Protocol::Udp).map(|candidate| candidate.address)
    }

    /// Which shard a room is on, whether it is open or not.
    pub fn shard_of(&self, room: &str) -> usize {
        let mut hasher = DefaultHasher::new();
        room.hash(&mut hasher);
        (hasher.finish() % self.shards.len() as u64) as usize
    }

    fn shard(&self, room: &str) -> &Shard {
        &self.shards[self.shard_of(room)]
    }
}

impl Drop for SfuHandle {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl Shard {
    fn send(&self, control: Control) -> Result<(), Overloaded> {
        self.running.send(control).map_err(|shard::Full| Overloaded)
    }
}
