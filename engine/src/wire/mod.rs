//! One connection to a peer: ICE, DTLS and SRTP from the `webrtc` crates, and above them [`halloo_transport::Session`].
//!
//! ```text
//!  encoder threads -> MediaOutput::send -> outbox --+            +-> MediaInput::receive -> tracks
//!                                       (wake)      v            |
//!                                      driver task: interceptor <-> Session
//!                                                   |  plain RTP and RTCP
//!                                                   v
//!                                      SRTP <- DTLS <- ICE <- sockets (watched)
//! ```
//!
//! The only module that names a type of those crates. Negotiation is JSEP (RFC 9429) with trickle ICE (RFC 8838): media
//! sections are fixed from the first offer (see [`Layout`]). A wire that was given an offer sends nothing at all until [`Wire::answer`]:
//! ringing must not tell a stranger one's address.

mod clock;
mod config;
mod error;
mod events;
mod interceptor;
mod link;
mod negotiation;
mod outbox;
mod runtime;
pub(crate) mod sdp;
mod stats;
mod tcp;
mod watch;

pub(crate) use config::{BindPolicy, IceServer, Layout, WireConfig};
pub(crate) use error::WireError;
pub(crate) use events::{Candidate, Failure, WireEvent, WireState};
pub(crate) use stats::{PathEnd, WireStats};

use crate::route::Route;
use async_trait::async_trait;
use clock::Clock;
use config::{BindAddresses, LocalSources};
use events::EventQueue;
use halloo_protocol::SourceKind;
use halloo_transport::{SessionConfig, Ssrc, session::MediaUnit};
use interceptor::LinkInterceptor;
use link::Link;
use negotiation::{LocalGeneration, Negotiation, TcpTries};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rtc::{ice::mdns::MulticastDnsMode, interceptor::Slot, peer_connection::transport::RTCIceCandidatePair};
use runtime::WireRuntime;
use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};
use tcp::{Listening, StandIns};
use tokio::{runtime::Handle, sync::Notify};
use watch::PacketWatch;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder, RTCIceConnectionState,
    RTCIceGatheringState, RTCPeerConnectionIceEvent, RTCPeerConnectionState, Registry, StatsSelector,
};

/// How long the handshake may take once ICE has a path: five of its retransmissions.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(8);

/// A connection to one peer. Cloning shares it; the last clone dropped closes it.
#[derive(Clone)]
pub(crate) struct Wire {
    inner: Arc<Inner>,
}

struct Inner {
    connection: Arc<dyn PeerConnection>,
    negotiation: tokio::sync::Mutex<Negotiation>,
    link: Arc<Link>,
    events: Arc<EventQueue>,
    watch: Arc<PacketWatch>,
    stand_ins: Arc<StandIns>,
    runtime: Handle,
}

impl Wire {
    /// Binds sockets and starts the connection's task. Sends nothing.
    ///
    /// # Errors
    /// [`WireError::Open`] where no socket could be bound.
    pub(crate) async fn new(config: WireConfig) -> Result<Self, WireError> {
        let mut random = StdRng::seed_from_u64(config.seed);
        let sources = LocalSources::draw(|| Ssrc(random.random_range(1..=u32::MAX)));
        let cname = format!("{:016x}", random.random::<u64>());
        let clock = Clock::start();
        let session = SessionConfig {
            feedback_ssrc: sources.microphone,
            cname: cname.clone(),
            start_bitrate: config.start_bitrate,
            min_bitrate: config.min_bitrate,
            max_bitrate: config.max_bitrate,
            seed: random.random(),
            ntp_at_zero: clock.ntp_at_zero(),
        };
        let events = Arc::new(EventQueue::default());
        let wake = Arc::new(Notify::new());
        let watch = Arc::new(PacketWatch::new(Arc::clone(&events)));
        let link =
            Arc::new(Link::new(session, clock, Arc::clone(&wake), Arc::clone(&config.input), Arc::clone(&events)));
        watch.watch_for(&link);
        let generation = Arc::new(LocalGeneration::default());
        let stand_ins = Arc::new(StandIns::default());
        let parts = Parts {
            link: &link,
            events: &events,
            watch: &watch,
            wake: &wake,
            generation: &generation,
            stand_ins: &stand_ins,
        };
        let connection = open(&config, parts).await?;
        let pump = Arc::clone(&events);
        let to = config.events.clone();
        config.runtime.spawn(async move { pump.pump(to).await });
        Ok(Self {
            inner: Arc::new(Inner {
                connection: Arc::clone(&connection),
                negotiation: tokio::sync::Mutex::new(Negotiation::new(
                    connection,
                    Arc::clone(&link),
                    generation,
                    sources,
                    cname,
                    config.layout,
                    TcpTries::new(config.runtime.clone(), Arc::clone(&stand_ins)),
                )),
                link,
                stand_ins,
                events,
                watch,
                runtime: config.runtime,
            }),
        })
    }

    /// Makes the offer and starts gathering: candidates follow as events.
    ///
    /// # Errors
    /// [`WireError::WrongState`] where an offer or answer is already there; [`WireError::Negotiation`].
    pub(crate) async fn offer(&self) -> Result<String, WireError> {
        self.inner.negotiation.lock().await.offer().await
    }

    /// Takes the peer's offer, at ringing time: checks it and keeps it. Nothing is sent, gathered or told to the peer.
    ///
    /// # Errors
    /// Where the offer is malformed, cannot be authenticated, or has no codec in common; the wire is then as before.
    pub(crate) async fn accept_offer(&self, sdp: &str) -> Result<(), WireError> {
        self.inner.negotiation.lock().await.accept_offer(sdp)
    }

    /// Answers the offer taken before, and starts gathering and connecting.
    ///
    /// # Errors
    /// [`WireError::WrongState`] without an offer; [`WireError::Negotiation`].
    pub(crate) async fn answer(&self) -> Result<String, WireError> {
        self.inner.negotiation.lock().await.answer().await
    }

    /// Takes the peer's answer to our offer and starts connecting.
    ///
    /// # Errors
    /// As [`Wire::accept_offer`].
    pub(crate) async fn accept_answer(&self, sdp: &str) -> Result<(), WireError> {
        self.inner.negotiation.lock().await.accept_answer(sdp).await
    }

    /// Takes a candidate of the peer. Before the peer's description is applied it waits; the empty candidate, which ends
    /// them, says nothing that is needed here.
    ///
    /// # Errors
    /// [`WireError::BadCandidate`], [`WireError::TooManyCandidates`].
    pub(crate) async fn add_candidate(&self, candidate: Candidate) -> Result<(), WireError> {
        self.inner.negotiation.lock().await.add_candidate(candidate).await
    }

    /// Makes an offer with new ICE credentials on newly bound sockets (RFC 8445, section 9). Keys and streams stay.
    ///
    /// # Errors
    /// [`WireError::WrongState`] before a first negotiation is finished.
    pub(crate) async fn restart_ice(&self) -> Result<String, WireError> {
        self.inner.negotiation.lock().await.restart_ice().await
    }

    /// Whether media flows, as far as is known.
    pub(crate) fn is_connected(&self) -> bool {
        self.inner.events.state() == Some(WireState::Connected)
    }

    /// Asks the peer for a key frame of a stream that it sends.
    pub(crate) fn request_key_frame(&self, ssrc: Ssrc) {
        self.inner.link.request_key_frame(ssrc);
    }

    /// The counters and the path.
    pub(crate) async fn stats(&self) -> WireStats {
        let report = self.inner.connection.get_stats(Instant::now(), StatsSelector::None).await;
        let pair = chosen_pair(self.inner.connection.as_ref()).await;
        stats::read(&report, pair.as_ref(), &self.inner.stand_ins, self.inner.link.stats(), self.inner.link.dropped())
    }

    /// Tells the peer and frees the sockets. [`WireState::Closed`] is the last event. A second call does nothing.
    pub(crate) async fn close(&self) {
        self.inner.watch.closing();
        self.inner.negotiation.lock().await.close();
        close(&self.inner.connection).await;
        self.inner.events.push(WireEvent::State(WireState::Closed));
    }
}

impl Route for Wire {
    fn carry(&self, source: SourceKind, unit: MediaUnit) {
        self.inner.link.send(source, unit);
    }

    fn carries_layers(&self, source: SourceKind) -> bool {
        self.inner.link.carries_layers(source)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("state", &self.inner.events.state()).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The driver keeps itself alive until it is told to stop.
        self.watch.closing();
        self.events.push(WireEvent::State(WireState::Closed));
        let connection = Arc::clone(&self.connection);
        self.runtime.spawn(async move { close(&connection).await });
    }
}

/// The ICE pair in use. All sections share one transport, so any sender leads to it.
async fn chosen_pair(connection: &dyn PeerConnection) -> Option<RTCIceCandidatePair> {
    let sender = connection.get_senders().await.into_iter().next()?;
    let dtls = sender.transport().await.ok()??;
    dtls.ice_transport().get_selected_candidate_pair().await.ok()?
}

async fn close(connection: &Arc<dyn PeerConnection>) {
    if let Err(err) = connection.close().await {
        tracing::debug!(%err, "closing a connection");
    }
}

/// What the connection's callbacks need.
struct Parts<'a> {
    link: &'a Arc<Link>,
    events: &'a Arc<EventQueue>,
    watch: &'a Arc<PacketWatch>,
    wake: &'a Arc<Notify>,
    generation: &'a Arc<LocalGeneration>,
    stand_ins: &'a Arc<StandIns>,
}

/// Opens the connection; where the multicast socket that resolves browsers' `.local` candidates cannot be had, without it.
async fn open(config: &WireConfig, parts: Parts<'_>) -> Result<Arc<dyn PeerConnection>, WireError> {
    let bind = BindAddresses(config.bind.clone());
    let mut last = None;
    for mdns in [MulticastDnsMode::QueryOnly, MulticastDnsMode::Disabled] {
        let handler = Handler {
            link: Arc::clone(parts.link),
            events: Arc::clone(parts.events),
            watch: Arc::clone(parts.watch),
            generation: Arc::clone(parts.generation),
            runtime: config.runtime.clone(),
        };
        let registry = Registry::new().with(Slot::from(1_000), LinkInterceptor::new(Arc::clone(parts.link)));
        let listening = match config.layout {
            Layout::Call { .. } => Listening::ForPeer,
            Layout::Room { .. } => Listening::Never,
        };
        let runtime = WireRuntime::new(
            config.runtime.clone(),
            Arc::clone(parts.wake),
            Arc::clone(parts.watch),
            listening,
            Arc::clone(parts.stand_ins),
        );
        let driver = runtime.driver();
        let built = PeerConnectionBuilder::new()
            .with_configuration(
                RTCConfigurationBuilder::default().with_ice_servers(config::ice_servers(&config.ice_servers)).build(),
            )
            .with_media_engine(config::media_engine(config.layout)?)
            .with_setting_engine(config::setting_engine(mdns))
            .with_interceptor_registry(registry)
            .with_runtime(Arc::new(runtime))
            .with_handler(Arc::new(handler))
            .with_udp_addrs(vec![bind.clone()])
            .with_tcp_addrs(vec![bind.clone()])
            .build()
            .await;
        match built {
            Ok(connection) => {
                driver.opened();
                return Ok(Arc::new(connection));
            }
            Err(err) => {
                tracing::debug!(%err, ?mdns, "opening a connection");
                last = Some(err.to_string());
            }
        }
    }
    Err(WireError::Open { bind: bind.to_string(), reason: last.unwrap_or_default() })
}

/// Turns the stack's callbacks, which run on the driver, into events.
struct Handler {
    link: Arc<Link>,
    events: Arc<EventQueue>,
    watch: Arc<PacketWatch>,
    generation: Arc<LocalGeneration>,
    runtime: Handle,
}

impl Handler {
    fn state(&self, state: WireState) {
        self.events.push(WireEvent::State(state));
    }

    /// The stack does not report a handshake that never finishes.
    fn limit_handshake(&self) {
        let events = Arc::clone(&self.events);
        self.runtime.spawn(async move {
            tokio::time::sleep(HANDSHAKE_LIMIT).await;
            if matches!(events.state(), None | Some(WireState::Connecting)) {
                events.push(WireEvent::State(WireState::Failed(Failure::HandshakeTimeout)));
            }
        });
    }
}

#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        match event.candidate.to_json() {
            Ok(init) => self.events.push(WireEvent::LocalCandidate(self.generation.tag(init.candidate))),
            Err(err) => tracing::warn!(%err, "a local ICE candidate cannot be written down"),
        }
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.events.push(WireEvent::EndOfCandidates);
        }
    }

    async fn on_ice_connection_state_change(&self, state: RTCIceConnectionState) {
        if state == RTCIceConnectionState::Connected && self.events.state() != Some(WireState::Connected) {
            self.limit_handshake();
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        match state {
            RTCPeerConnectionState::Connecting => self.state(WireState::Connecting),
            RTCPeerConnectionState::Connected => {
                self.watch.handshake_done();
                self.link.secured();
                self.state(WireState::Connected);
            }
            RTCPeerConnectionState::Disconnected => self.state(WireState::Disconnected),
            RTCPeerConnectionState::Failed => self.state(WireState::Failed(Failure::NoPath)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
