//! The media of one stay in a room: what it publishes, and what it receives of each member.
//!
//! [`RoomTracks`] is the [`MediaInput`] of whatever connection there is to the forwarding unit. A packet belongs to the source
//! that its CSRC names (docs/protocol.md, "Packets"), whatever slot it came by; so tracks outlive slots and connections.

use super::{
    csrc_map::CsrcMap,
    events::{RoomEvent, RoomParticipant},
    members::MemberKey,
    wishes::is_published,
};
#[cfg(feature = "video")]
use crate::tracks::{Changed, KeyFrameRequest, RemoteVideo, RemoteVideoTrack, TrackKind};
use crate::{
    audio::{AudioConfig, AudioHandle, AudioThread},
    event_queue::EventQueue,
    media::MediaError,
    route::MediaInput,
    tracks::{ALL_LAYERS, LocalMedia, RemoteAudio, RemoteAudioTrack, RemoteTrack, Reporter, forward_audio_events},
    wire::{Wire, WireStats},
};
use halloo_protocol::{LeaveReason, Participant, ParticipantId, SourceKind};
use halloo_transport::{Bitrate, ReceivedPacket};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// See the module's text.
pub(crate) struct RoomTracks {
    audio: AudioHandle,
    local: Arc<LocalMedia>,
    events: EventQueue<RoomEvent>,
    #[cfg(feature = "video")]
    reporter: Reporter,
    /// Told when what sinks want changes.
    #[cfg(feature = "video")]
    wanted: Changed,
    wire: Arc<CurrentWire>,
    by_csrc: RwLock<CsrcMap<Track>>,
    members: Mutex<HashMap<MemberKey, Arc<MemberTracks>>>,
    /// Packets of sources that nobody here is known to have.
    strays: AtomicU64,
}

/// The connection that there is now.
#[derive(Default)]
pub(crate) struct CurrentWire(Mutex<Option<Wire>>);

impl CurrentWire {
    pub(crate) fn get(&self) -> Option<Wire> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, wire: Option<Wire>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = wire;
    }
}

/// What one member publishes.
pub(crate) struct MemberTracks {
    user: Arc<str>,
    microphone: Arc<RemoteAudio>,
    #[cfg(feature = "video")]
    camera: Arc<RemoteVideo>,
    #[cfg(feature = "video")]
    screen: Arc<RemoteVideo>,
    participant: Mutex<Participant>,
}

#[derive(Clone)]
enum Track {
    Audio(Arc<RemoteAudio>),
    #[cfg(feature = "video")]
    Video(Arc<RemoteVideo>),
}

impl MediaInput for RoomTracks {
    fn receive(&self, packet: ReceivedPacket) {
        let track = packet
            .csrcs
            .first()
            .and_then(|csrc| self.by_csrc.read().unwrap_or_else(PoisonError::into_inner).get(*csrc));
        match track {
            Some(Track::Audio(track)) => drop(track.receive(packet)),
            #[cfg(feature = "video")]
            Some(Track::Video(track)) => drop(track.receive(packet)),
            None => drop(self.strays.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

impl RoomTracks {
    /// Starts the threads. Must be called on a tokio runtime.
    pub(crate) fn new(
        max_bitrate: Bitrate,
        events: EventQueue<RoomEvent>,
        #[cfg(feature = "video")] wanted: Changed,
    ) -> Result<Arc<Self>, MediaError> {
        let spawned = AudioThread::spawn(AudioConfig::default());
        let (audio, audio_events) = spawned.map_err(|e| MediaError::new(e.to_string()))?;
        let to = events.clone();
        let reporter = Reporter::new(move |event| to.push(RoomEvent::Media(event)));
        tokio::spawn(forward_audio_events(audio_events, reporter.clone()));
        Ok(Arc::new(Self {
            local: Arc::new(LocalMedia::new(audio.clone(), max_bitrate, reporter.clone())),
            audio,
            events,
            #[cfg(feature = "video")]
            reporter,
            #[cfg(feature = "video")]
            wanted,
            wire: Arc::default(),
            by_csrc: RwLock::default(),
            members: Mutex::default(),
            strays: AtomicU64::new(0),
        }))
    }

    pub(crate) fn local(&self) -> &Arc<LocalMedia> {
        &self.local
    }

    pub(crate) fn wire(&self) -> Option<Wire> {
        self.wire.get()
    }

    /// Uses this connection from now on.
    pub(crate) fn use_wire(&self, wire: Option<Wire>) {
        if let Some(wire) = &wire {
            self.local.use_route(Arc::new(wire.clone()));
            // Nobody has said anything of the new connection's sources.
            self.local.set_wanted(SourceKind::Camera, ALL_LAYERS);
            self.local.set_wanted(SourceKind::Screen, ALL_LAYERS);
        }
        self.wire.set(wire);
    }

    /// Packets of sources that nobody here is known to have.
    pub(crate) fn strays(&self) -> u64 {
        self.strays.load(Ordering::Relaxed)
    }

    /// Somebody came.
    pub(crate) fn join(&self, key: MemberKey, participant: &Participant) {
        let member = Arc::new(self.make(key, participant));
        self.register(key, participant.participant, &member);
        self.lock().insert(key, Arc::clone(&member));
        self.events.push(RoomEvent::ParticipantJoined(RoomParticipant::new(key.0, participant)));
        for kind in SourceKind::ALL.into_iter().filter(|kind| is_published(&participant.media, *kind)) {
            self.tell_track(&member, kind, RoomEvent::TrackStarted);
        }
    }

    /// Somebody is different.
    pub(crate) fn change(&self, key: MemberKey, participant: &Participant) {
        let Some(member) = self.lock().get(&key).cloned() else { return };
        let before = std::mem::replace(&mut *member.participant(), participant.clone());
        if before.participant != participant.participant {
            self.release(key, before.participant);
            self.register(key, participant.participant, &member);
        }
        self.events.push(RoomEvent::ParticipantChanged(RoomParticipant::new(key.0, participant)));
        for kind in SourceKind::ALL {
            match (is_published(&before.media, kind), is_published(&participant.media, kind)) {
                (false, true) => self.tell_track(&member, kind, RoomEvent::TrackStarted),
                (true, false) => {
                    member.pause(kind);
                    self.tell_track(&member, kind, RoomEvent::TrackStopped);
                }
                _ => {}
            }
        }
    }

    /// Somebody is gone: their tracks end, and then the application is told. Waits for threads: not on an async task.
    pub(crate) fn leave(&self, key: MemberKey, reason: LeaveReason) {
        let Some(member) = self.lock().remove(&key) else { return };
        let participant = member.participant().clone();
        self.release(key, participant.participant);
        member.end();
        let participant = RoomParticipant::new(key.0, &participant);
        self.events.push(RoomEvent::ParticipantLeft { participant, reason });
    }

    /// Everybody who is there.
    pub(crate) fn all(&self) -> Vec<(MemberKey, Arc<MemberTracks>)> {
        let mut all: Vec<_> = self.lock().iter().map(|(key, member)| (*key, Arc::clone(member))).collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all
    }

    pub(crate) fn member(&self, key: MemberKey) -> Option<Arc<MemberTracks>> {
        self.lock().get(&key).cloned()
    }

    /// Lets encoders and decoders know how the path fares.
    pub(crate) fn feed_back(&self, stats: &WireStats) {
        self.local.feed_back(stats);
        #[cfg(feature = "video")]
        if let Some(time) = stats.session.round_trip_time {
            for (_, member) in self.all() {
                member.camera.set_round_trip_time(time);
                member.screen.set_round_trip_time(time);
            }
        }
    }

    /// Ends all threads and finishes all sinks. Blocks until that is done.
    pub(crate) fn stop(&self) {
        self.local.stop();
        self.by_csrc.write().unwrap_or_else(PoisonError::into_inner).clear();
        let members = std::mem::take(&mut *self.lock());
        members.into_values().for_each(|member| member.end());
        self.audio.stop();
        self.wire.set(None);
    }

    fn make(&self, key: MemberKey, participant: &Participant) -> MemberTracks {
        #[cfg(feature = "video")]
        let video = || {
            let wire = Arc::clone(&self.wire);
            let ask: KeyFrameRequest = Arc::new(move |ssrc| {
                if let Some(wire) = wire.get() {
                    wire.request_key_frame(ssrc);
                }
            });
            Arc::new(RemoteVideo::new(ask, self.reporter.clone(), self.wanted.clone()))
        };
        MemberTracks {
            user: participant.user.as_str().into(),
            microphone: Arc::new(RemoteAudio::new(self.audio.clone(), key.0)),
            #[cfg(feature = "video")]
            camera: video(),
            #[cfg(feature = "video")]
            screen: video(),
            participant: Mutex::new(participant.clone()),
        }
    }

    fn register(&self, key: MemberKey, number: ParticipantId, member: &MemberTracks) {
        let tracks = SourceKind::ALL.into_iter().filter_map(|kind| Some((kind, member.input(kind)?)));
        self.by_csrc.write().unwrap_or_else(PoisonError::into_inner).assign(key, number, tracks);
    }

    fn release(&self, key: MemberKey, number: ParticipantId) {
        self.by_csrc.write().unwrap_or_else(PoisonError::into_inner).release(key, number);
    }

    fn tell_track(&self, member: &MemberTracks, kind: SourceKind, event: fn(RemoteTrack) -> RoomEvent) {
        if let Some(track) = member.track(kind) {
            self.events.push(event(track));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MemberKey, Arc<MemberTracks>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemberTracks {
    pub(crate) fn participant(&self) -> MutexGuard<'_, Participant> {
        self.participant.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn microphone(&self) -> &RemoteAudio {
        &self.microphone
    }

    pub(crate) fn audio_track(&self) -> RemoteAudioTrack {
        RemoteAudioTrack::new(Arc::clone(&self.microphone), Arc::clone(&self.user))
    }

    /// The source of pictures of this kind; `None` for the microphone.
    #[cfg(feature = "video")]
    pub(crate) fn video(&self, kind: SourceKind) -> Option<&Arc<RemoteVideo>> {
        match kind {
            SourceKind::Microphone => None,
            SourceKind::Camera => Some(&self.camera),
            SourceKind::Screen => Some(&self.screen),
        }
    }

    #[cfg(feature = "video")]
    pub(crate) fn video_track(&self, kind: SourceKind) -> Option<RemoteVideoTrack> {
        let shows = if kind == SourceKind::Screen { TrackKind::Screen } else { TrackKind::Camera };
        Some(RemoteVideoTrack::new(Arc::clone(self.video(kind)?), Arc::clone(&self.user), shows))
    }

    /// Where packets of this kind go; `None` where pictures are not built in.
    fn input(&self, kind: SourceKind) -> Option<Track> {
        match kind {
            SourceKind::Microphone => Some(Track::Audio(Arc::clone(&self.microphone))),
            #[cfg(feature = "video")]
            SourceKind::Camera | SourceKind::Screen => self.video(kind).cloned().map(Track::Video),
            #[cfg(not(feature = "video"))]
            SourceKind::Camera | SourceKind::Screen => None,
        }
    }

    fn track(&self, kind: SourceKind) -> Option<RemoteTrack> {
        match kind {
            SourceKind::Microphone => Some(RemoteTrack::Audio(self.audio_track())),
            #[cfg(feature = "video")]
            SourceKind::Camera | SourceKind::Screen => self.video_track(kind).map(RemoteTrack::Video),
            #[cfg(not(feature = "video"))]
            SourceKind::Camera | SourceKind::Screen => None,
        }
    }

    /// Turned off on purpose: that is no freeze.
    fn pause(&self, kind: SourceKind) {
        #[cfg(feature = "video")]
        if let Some(video) = self.video(kind) {
            video.handle_pause();
        }
        #[cfg(not(feature = "video"))]
        let _ = kind;
    }

    fn end(&self) {
        // Where the audio thread has ended the sinks are finished.
        let _ = self.microphone.end();
        #[cfg(feature = "video")]
        {
            self.camera.end();
            self.screen.end();
        }
    }
}

impl std::fmt::Debug for RoomTracks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoomTracks").field("members", &self.lock().len()).finish_non_exhaustive()
    }
}
