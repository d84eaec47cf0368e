//! Offer and answer in their order (RFC 9429, section 3.2), and candidates held until they mean something.

use super::{
    chosen_pair,
    config::{self, Layout, LocalSources},
    error::WireError,
    events::Candidate,
    link::Link,
    sdp::{self, Description},
    tcp::StandIns,
};
use halloo_protocol::SourceKind;
use halloo_transport::session::MediaKind;
use rtc::peer_connection::configuration::RTCOfferOptions;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{runtime::Handle, task::JoinSet};
use webrtc::{
    media_stream::track_local::static_rtp::TrackLocalStaticRTP,
    peer_connection::{PeerConnection, RTCIceCandidateInit, RTCSessionDescription},
    rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit},
};

/// Remote candidates taken per ICE generation, waiting or not: more than the interfaces of any machine give.
const MAX_CANDIDATES: usize = 64;
/// How long UDP alone is tried: TCP, over which what is lost holds up what follows, is for networks that block UDP.
const TCP_AFTER: Duration = Duration::from_millis(250);
/// Addresses of a peer that are connected to over TCP, per ICE generation.
const MAX_TCP: usize = 8;

/// What a local candidate is labelled with: the bundle's section and the ICE generation of our newest description.
#[derive(Debug, Default)]
pub(super) struct LocalGeneration(Mutex<Candidate>);

impl LocalGeneration {
    /// Labels a candidate that was gathered now.
    pub(super) fn tag(&self, candidate: String) -> Candidate {
        Candidate { candidate, ..self.0.lock().unwrap_or_else(PoisonError::into_inner).clone() }
    }

    fn set(&self, local: &Description) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Candidate {
            candidate: String::new(),
            sdp_mid: local.sections.first().map(|section| section.mid.0.clone()),
            sdp_m_line_index: Some(0),
            username_fragment: Some(local.ice_ufrag.clone()),
        };
    }
}

/// See the module's text.
pub(super) struct Negotiation {
    connection: Arc<dyn PeerConnection>,
    link: Arc<Link>,
    generation: Arc<LocalGeneration>,
    sources: LocalSources,
    stream_id: String,
    layout: Layout,
    state: State,
    /// The peer's description that the connection has been given.
    remote: Option<Description>,
    /// Candidates that came before it.
    waiting: Vec<Candidate>,
    candidates_taken: usize,
    streams_added: bool,
    tcp_tries: TcpTries,
}

/// The peer's candidates over TCP of this ICE generation, which wait for [`TCP_AFTER`] to pass.
pub(super) struct TcpTries {
    runtime: Handle,
    stand_ins: Arc<StandIns>,
    waiting: JoinSet<()>,
}

impl TcpTries {
    /// Waits on `runtime`.
    pub(super) fn new(runtime: Handle, stand_ins: Arc<StandIns>) -> Self {
        Self { runtime, stand_ins, waiting: JoinSet::new() }
    }

    /// Gives the connection a candidate over TCP, to which it then connects at once, unless a path is found before.
    fn start(&mut self, connection: Arc<dyn PeerConnection>, candidate: RTCIceCandidateInit) {
        while self.waiting.try_join_next().is_some() {}
        let shown = self.stand_ins.replace(&candidate.candidate).filter(|_| self.waiting.len() < MAX_TCP);
        let Some(shown) = shown else {
            return tracing::debug!(candidate.candidate, "a candidate over TCP is not tried");
        };
        let candidate = RTCIceCandidateInit { candidate: shown, ..candidate };
        let connect = async move {
            tokio::time::sleep(TCP_AFTER).await;
            if chosen_pair(connection.as_ref()).await.is_some() {
                return;
            }
            if let Err(err) = connection.add_ice_candidate(candidate).await {
                tracing::debug!(%err, "a candidate over TCP");
            }
        };
        self.waiting.spawn_on(connect, &self.runtime);
    }

    fn stop(&mut self) {
        self.waiting.abort_all();
    }
}

#[derive(Debug)]
enum State {
    /// Nothing is pending: before the first negotiation, or after one.
    Stable,
    /// Our offer waits for its answer.
    Offered {
        local: Description,
    },
    /// The peer's offer waits for [`Negotiation::answer`].
    Ringing {
        text: String,
        remote: Description,
    },
    Closed,
}

impl State {
    fn name(&self) -> &'static str {
        match self {
            Self::Stable => "nothing is being negotiated",
            Self::Offered { .. } => "our offer waits for its answer",
            Self::Ringing { .. } => "the peer's offer waits to be answered",
            Self::Closed => "the connection is closed",
        }
    }
}

impl Negotiation {
    pub(super) fn new(
        connection: Arc<dyn PeerConnection>,
        link: Arc<Link>,
        generation: Arc<LocalGeneration>,
        sources: LocalSources,
        stream_id: String,
        layout: Layout,
        tcp_tries: TcpTries,
    ) -> Self {
        Self {
            connection,
            link,
            generation,
            sources,
            stream_id,
            layout,
            state: State::Stable,
            remote: None,
            waiting: Vec::new(),
            candidates_taken: 0,
            streams_added: false,
            tcp_tries,
        }
    }

    pub(super) async fn offer(&mut self) -> Result<String, WireError> {
        if !matches!(self.state, State::Stable) || self.remote.is_some() {
            return Err(self.wrong_state("make a first offer"));
        }
        match self.layout {
            Layout::Call { video } => {
                self.add_track(SourceKind::Microphone).await?;
                if video {
                    self.add_track(SourceKind::Camera).await?;
                }
            }
            Layout::Room { audio_slots, video_slots } => {
                self.add_track(SourceKind::Microphone).await?;
                if video_slots > 0 {
                    self.add_track(SourceKind::Camera).await?;
                    self.add_track(SourceKind::Screen).await?;
                }
                self.add_slots(MediaKind::Audio, audio_slots).await?;
                self.add_slots(MediaKind::Video, video_slots).await?;
            }
        }
        self.send_offer(None).await
    }

    pub(super) async fn restart_ice(&mut self) -> Result<String, WireError> {
        if !matches!(self.state, State::Stable) || self.remote.is_none() {
            return Err(self.wrong_state("restart ICE"));
        }
        self.send_offer(Some(RTCOfferOptions { ice_restart: true })).await
    }

    async fn send_offer(&mut self, options: Option<RTCOfferOptions>) -> Result<String, WireError> {
        let offer = self.connection.create_offer(options).await.map_err(failed("make an offer"))?;
        let text = offer.sdp.clone();
        let local = self.read(&text)?;
        self.generation.set(&local);
        self.connection.set_local_description(offer).await.map_err(failed("apply our offer"))?;
        self.state = State::Offered { local };
        Ok(text)
    }

    pub(super) fn accept_offer(&mut self, text: &str) -> Result<(), WireError> {
        if !matches!(self.state, State::Stable) {
            return Err(self.wrong_state("take an offer"));
        }
        let remote = self.read(text)?;
        require_audio(&remote)?;
        self.state = State::Ringing { text: text.to_owned(), remote };
        Ok(())
    }

    pub(super) async fn answer(&mut self) -> Result<String, WireError> {
        let State::Ringing { text, remote } = std::mem::replace(&mut self.state, State::Stable) else {
            return Err(self.wrong_state("answer"));
        };
        if self.remote.is_none() {
            self.add_track(SourceKind::Microphone).await?;
            // A section that has no codec in common, or that this side does not want, is left without a track: it is
            // answered with port zero.
            if self.layout.has_video() && remote.accepts(MediaKind::Video) {
                self.add_track(SourceKind::Camera).await?;
            }
        }
        let (text, over_tcp) = sdp::split_tcp_candidates(&sdp::without_tracks(&text));
        let offer = RTCSessionDescription::offer(text).map_err(|err| WireError::BadSdp(err.to_string()))?;
        self.connection.set_remote_description(offer).await.map_err(failed("apply the peer's offer"))?;
        let answer = self.connection.create_answer(None).await.map_err(failed("make an answer"))?;
        let answer_text = answer.sdp.clone();
        let local = self.read(&answer_text)?;
        self.generation.set(&local);
        self.add_streams(&local, &remote);
        self.connection.set_local_description(answer).await.map_err(failed("apply our answer"))?;
        self.settle(remote, over_tcp).await;
        Ok(answer_text)
    }

    pub(super) async fn accept_answer(&mut self, text: &str) -> Result<(), WireError> {
        let State::Offered { local } = &self.state else {
            return Err(self.wrong_state("take an answer"));
        };
        let local = local.clone();
        let remote = self.read(text)?;
        match self.layout {
            Layout::Call { .. } => require_audio(&remote)?,
            Layout::Room { .. } => require_any(&remote)?,
        }
        let (text, over_tcp) = sdp::split_tcp_candidates(&sdp::without_tracks(text));
        let answer = RTCSessionDescription::answer(text).map_err(|err| WireError::BadSdp(err.to_string()))?;
        // Streams first: packets may arrive as soon as the connection knows its peer.
        self.add_streams(&local, &remote);
        self.connection.set_remote_description(answer).await.map_err(failed("apply the peer's answer"))?;
        self.state = State::Stable;
        self.settle(remote, over_tcp).await;
        Ok(())
    }

    /// Both descriptions are applied: candidates that waited may follow, and those over TCP that the peer's names.
    async fn settle(&mut self, remote: Description, over_tcp: Vec<String>) {
        let restarted = self.remote.as_ref().is_some_and(|before| before.ice_ufrag != remote.ice_ufrag);
        if restarted {
            self.candidates_taken = self.waiting.len();
        }
        self.tcp_tries.stop();
        let (ufrag, mid) = (remote.ice_ufrag.clone(), remote.sections.first().map(|section| section.mid.0.clone()));
        self.waiting.extend(over_tcp.into_iter().map(|candidate| Candidate {
            candidate,
            sdp_mid: mid.clone(),
            sdp_m_line_index: Some(0),
            username_fragment: Some(ufrag.clone()),
        }));
        self.remote = Some(remote);
        for candidate in std::mem::take(&mut self.waiting) {
            if let Err(err) = self.apply_candidate(candidate).await {
                tracing::warn!(%err, "a candidate that came early");
            }
        }
    }

    /// Later negotiations restart ICE and change no stream.
    fn add_streams(&mut self, local: &Description, remote: &Description) {
        if !self.streams_added {
            self.streams_added = true;
            self.link.add_streams(sdp::negotiate(local, remote));
        }
    }

    pub(super) async fn add_candidate(&mut self, candidate: Candidate) -> Result<(), WireError> {
        if matches!(self.state, State::Closed) {
            return Err(WireError::Closed);
        }
        if candidate.candidate.is_empty() {
            return Ok(());
        }
        check_candidate(&candidate.candidate)?;
        if self.candidates_taken >= MAX_CANDIDATES {
            return Err(WireError::TooManyCandidates { limit: MAX_CANDIDATES });
        }
        self.candidates_taken += 1;
        // While a new offer or answer is awaited its candidates may already come: those of another generation wait.
        let applies = match (&self.remote, &candidate.username_fragment) {
            (None, _) => false,
            (Some(remote), Some(ufrag)) => *ufrag == remote.ice_ufrag,
            (Some(_), None) => matches!(self.state, State::Stable),
        };
        if !applies {
            self.waiting.push(candidate);
            return Ok(());
        }
        self.apply_candidate(candidate).await
    }

    async fn apply_candidate(&mut self, candidate: Candidate) -> Result<(), WireError> {
        let stale = match (&self.remote, &candidate.username_fragment) {
            (Some(remote), Some(ufrag)) => *ufrag != remote.ice_ufrag,
            _ => false,
        };
        if stale {
            tracing::debug!("a candidate of another ICE generation");
            return Ok(());
        }
        let init = RTCIceCandidateInit {
            candidate: candidate.candidate.clone(),
            sdp_mid: candidate.sdp_mid,
            sdp_mline_index: candidate.sdp_m_line_index,
            username_fragment: candidate.username_fragment,
            url: None,
        };
        if sdp::takes_tcp_connections(&candidate.candidate) {
            self.tcp_tries.start(Arc::clone(&self.connection), init);
            return Ok(());
        }
        self.connection
            .add_ice_candidate(init)
            .await
            .map_err(|err| bad_candidate(&candidate.candidate, err.to_string()))
    }

    pub(super) fn close(&mut self) {
        self.state = State::Closed;
        self.tcp_tries.stop();
        self.waiting.clear();
    }

    /// Reads a description, as far as this wire's layout goes.
    fn read(&self, text: &str) -> Result<Description, WireError> {
        let description = sdp::read(text)?;
        Ok(match self.layout {
            Layout::Call { .. } => description.first_of_each_kind(),
            Layout::Room { .. } => description,
        })
    }

    async fn add_track(&self, source: SourceKind) -> Result<(), WireError> {
        let (direction, stream_id) = match (self.layout, source) {
            (Layout::Call { .. }, _) => (RTCRtpTransceiverDirection::Sendrecv, self.stream_id.as_str()),
            // The forwarding unit knows a source by its stream's name.
            (Layout::Room { .. }, SourceKind::Microphone) => (RTCRtpTransceiverDirection::Sendonly, "microphone"),
            (Layout::Room { .. }, SourceKind::Camera) => (RTCRtpTransceiverDirection::Sendonly, "camera"),
            (Layout::Room { .. }, SourceKind::Screen) => (RTCRtpTransceiverDirection::Sendonly, "screen"),
        };
        let track = TrackLocalStaticRTP::new(config::track(source, self.sources, stream_id));
        let init = RTCRtpTransceiverInit { direction, ..Default::default() };
        self.connection
            .add_transceiver_from_track(Arc::new(track), Some(init))
            .await
            .map_err(failed("add a media section"))?;
        Ok(())
    }

    /// Sections that are only received.
    async fn add_slots(&self, kind: MediaKind, count: u8) -> Result<(), WireError> {
        for _ in 0..count {
            let init = RTCRtpTransceiverInit { direction: RTCRtpTransceiverDirection::Recvonly, ..Default::default() };
            self.connection
                .add_transceiver_from_kind(config::codec_kind(kind), Some(init))
                .await
                .map_err(failed("add a receive slot"))?;
        }
        Ok(())
    }

    fn wrong_state(&self, attempted: &'static str) -> WireError {
        match self.state {
            State::Closed => WireError::Closed,
            _ => WireError::WrongState { attempted, state: self.state.name() },
        }
    }
}

/// A call is at least heard; a peer without AV1 is called without pictures.
fn require_audio(remote: &Description) -> Result<(), WireError> {
    if remote.accepts(MediaKind::Audio) {
        return Ok(());
    }
    Err(WireError::NoCommonCodec { media: MediaKind::Audio })
}

/// In a room one may be there to listen, or to speak, only.
fn require_any(remote: &Description) -> Result<(), WireError> {
    if remote.sections.iter().any(sdp::Section::is_accepted) {
        return Ok(());
    }
    Err(WireError::NoCommonCodec { media: MediaKind::Audio })
}

fn check_candidate(text: &str) -> Result<(), WireError> {
    let line = text.strip_prefix("candidate:").unwrap_or(text);
    if text.len() > 1_024 {
        return Err(bad_candidate(text, "it is too long".into()));
    }
    rtc::ice::candidate::unmarshal_candidate(line).map(|_| ()).map_err(|err| bad_candidate(text, err.to_string()))
}

fn bad_candidate(text: &str, reason: String) -> WireError {
    WireError::BadCandidate { candidate: text.chars().take(120).collect(), reason }
}

fn failed(attempted: &'static str) -> impl Fn(rtc::shared::error::Error) -> WireError {
    move |err| WireError::Negotiation { attempted, reason: err.to_string() }
}
