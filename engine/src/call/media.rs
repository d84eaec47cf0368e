//! The media of one call: what it sends, what it receives, and the threads between.
//!
//! Tracks live here, above any route: [`CallMedia`] is the [`MediaInput`] of every route and feeds the [`MediaOutput`]s of
//! those that are attached. Sources wait until the call goes live, so that a file starts at its beginning.

#[cfg(feature = "video")]
use super::tracks::{RemoteVideoTrack, shows};
use super::{
    CallEvent, CallOptions, EventQueue, MediaEvent,
    tracks::{RemoteAudioTrack, RemoteTrack},
};
use crate::{
    audio::{
        AudioConfig, AudioEvent, AudioHandle, AudioSettings, AudioStats, AudioThread, Muted, RemoteAudioInput, SinkId,
    },
    media::{AudioSink, AudioSource, MediaError},
    route::{MediaInput, MediaOutput},
    wire::{Wire, WireStats},
};
use halloo_protocol::{MediaState, VideoState};
use halloo_transport::{
    Bitrate, ReceivedPacket,
    session::{MediaKind, MediaUnit},
};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::mpsc;

#[cfg(feature = "devices")]
use crate::audio::{DeviceEvent, DeviceKind};
#[cfg(feature = "video")]
use crate::{
    media::{VideoSink, VideoSource},
    video::{
        self, Content, Enabled, VideoReceiverStats, VideoSenderStats, VideoSettings,
        receiver::{VideoInput, VideoReceiver, VideoReceiverEvent},
        sender::{VideoSender, VideoSenderEvent},
    },
};

/// The audio thread's name for the one track that is sent, and for the one that is received.
const TRACK: u32 = 0;
/// What sound costs on the wire: 32 kbit/s of Opus and 50 packets' headers a second.
#[cfg(feature = "video")]
const AUDIO_SHARE: Bitrate = Bitrate::from_kbps(60);
/// Share of what is left that pictures' payloads may have; the rest is their headers and retransmissions.
#[cfg(feature = "video")]
const VIDEO_SHARE: f64 = 0.94;

/// See the module's text.
pub(crate) struct CallMedia {
    peer: String,
    audio: AudioHandle,
    audio_input: RemoteAudioInput,
    routes: Arc<Routes>,
    events: EventQueue,
    audio_started: AtomicBool,
    parts: Mutex<Parts>,
    /// For tracks that events carry.
    itself: Weak<Self>,
    #[cfg(feature = "video")]
    video_started: AtomicBool,
    #[cfg(feature = "video")]
    video_input: VideoInput,
}

struct Parts {
    live: bool,
    stopped: bool,
    state: MediaState,
    /// Published before the call went live.
    audio: Option<(Box<dyn AudioSource>, AudioSettings)>,
    published: bool,
    #[cfg(feature = "video")]
    video: Option<(Box<dyn VideoSource>, VideoSettings)>,
    #[cfg(feature = "video")]
    sender: Option<VideoSender>,
    #[cfg(feature = "video")]
    receiver: Option<VideoReceiver>,
    #[cfg(feature = "video")]
    target: Bitrate,
    /// The last counters, once the threads have ended.
    #[cfg(feature = "video")]
    last_stats: (VideoSenderStats, VideoReceiverStats),
}

/// The routes that an encoder's output goes to.
#[derive(Default)]
struct Routes(RwLock<Vec<Arc<dyn MediaOutput>>>);

impl MediaOutput for Routes {
    fn send(&self, kind: MediaKind, unit: MediaUnit) {
        let routes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((last, others)) = routes.split_last() {
            for route in others {
                route.send(kind, unit.clone());
            }
            last.send(kind, unit);
        }
    }
}

impl MediaInput for CallMedia {
    fn receive(&self, packet: ReceivedPacket) {
        match packet.kind {
            MediaKind::Audio => {
                self.audio_input.push(packet);
                if !self.audio_started.swap(true, Ordering::Relaxed)
                    && let Some(media) = self.itself.upgrade()
                {
                    self.events.push(CallEvent::TrackStarted(RemoteTrack::Audio(RemoteAudioTrack::new(media))));
                }
            }
            #[cfg(feature = "video")]
            MediaKind::Video => {
                self.video_input.push(packet);
                if !self.video_started.swap(true, Ordering::Relaxed)
                    && let Some(media) = self.itself.upgrade()
                {
                    self.events.push(CallEvent::TrackStarted(RemoteTrack::Video(RemoteVideoTrack::new(media))));
                }
            }
            #[cfg(not(feature = "video"))]
            MediaKind::Video => {}
        }
    }
}

impl CallMedia {
    /// Starts the threads of a call. Must be called on a tokio runtime. `ask_key_frame` asks the other side for one.
    pub(crate) fn new(
        peer: String,
        options: &CallOptions,
        events: EventQueue,
        ask_key_frame: impl Fn() + Send + 'static,
    ) -> Result<Arc<Self>, MediaError> {
        let broken = |e: crate::audio::AudioError| MediaError::new(e.to_string());
        let (audio, audio_events) = AudioThread::spawn(AudioConfig::default()).map_err(broken)?;
        let audio_input = audio.add_remote(TRACK).map_err(broken)?;
        tokio::spawn(forward_audio_events(audio_events, events.clone()));
        #[cfg(feature = "video")]
        let receiver = {
            let events = events.clone();
            VideoReceiver::spawn(Box::new(ask_key_frame), Box::new(move |event| tell_receiver_event(&events, event)))?
        };
        #[cfg(not(feature = "video"))]
        drop(ask_key_frame);
        let media = Arc::new_cyclic(|itself| Self {
            peer,
            audio,
            audio_input,
            routes: Arc::default(),
            events,
            audio_started: AtomicBool::new(false),
            itself: itself.clone(),
            #[cfg(feature = "video")]
            video_started: AtomicBool::new(false),
            #[cfg(feature = "video")]
            video_input: receiver.input(),
            parts: Mutex::new(Parts {
                live: false,
                stopped: false,
                state: MediaState { audio_muted: false, video: options.video },
                audio: None,
                published: false,
                #[cfg(feature = "video")]
                video: None,
                #[cfg(feature = "video")]
                sender: None,
                #[cfg(feature = "video")]
                receiver: Some(receiver),
                #[cfg(feature = "video")]
                target: options.max_bitrate,
                #[cfg(feature = "video")]
                last_stats: Default::default(),
            }),
        });
        media.configure(options);
        Ok(media)
    }

    /// Takes over what the application wants, for a call that rang before it was asked.
    pub(crate) fn configure(&self, options: &CallOptions) {
        self.lock().state.video = options.video;
        #[cfg(feature = "devices")]
        if options.playout != crate::audio::Playout::None {
            self.set_playout(options.playout.clone());
        }
    }

    pub(crate) fn peer(&self) -> &str {
        &self.peer
    }

    /// What goes out now.
    pub(crate) fn local_state(&self) -> MediaState {
        self.lock().state
    }

    /// Sends over this route, too.
    pub(crate) fn attach_route(&self, wire: &Wire) {
        self.routes.0.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(wire.clone()));
    }

    /// Packets flow: starts what was published.
    pub(crate) fn go_live(&self) {
        let mut parts = self.lock();
        if parts.stopped || std::mem::replace(&mut parts.live, true) {
            return;
        }
        self.start_audio(&mut parts);
        #[cfg(feature = "video")]
        self.start_video(&mut parts);
    }

    pub(crate) fn publish_audio(&self, source: Box<dyn AudioSource>, settings: AudioSettings) {
        let mut parts = self.lock();
        if parts.stopped {
            return;
        }
        parts.audio = Some((source, settings));
        if parts.live {
            self.start_audio(&mut parts);
        }
    }

    fn start_audio(&self, parts: &mut Parts) {
        let Some((source, mut settings)) = parts.audio.take() else { return };
        settings.muted = if parts.state.audio_muted { Muted::Yes } else { Muted::No };
        let started = self.audio.publish(TRACK, source, &settings, self.routes.clone());
        parts.published = started.is_ok();
        self.report(started);
    }

    /// Goes on with another source on the same encoder.
    pub(crate) fn replace_audio(&self, source: Box<dyn AudioSource>) {
        let mut parts = self.lock();
        if parts.published {
            self.report(self.audio.replace_source(TRACK, source));
        } else if let Some((waiting, _)) = &mut parts.audio {
            *waiting = source;
        }
    }

    pub(crate) fn set_muted(&self, muted: bool) {
        let mut parts = self.lock();
        parts.state.audio_muted = muted;
        if parts.published {
            self.report(self.audio.set_muted(TRACK, if muted { Muted::Yes } else { Muted::No }));
        }
    }

    pub(crate) fn attach_audio(&self, sink: Box<dyn AudioSink>) -> Result<SinkId, MediaError> {
        self.audio.attach(TRACK, sink).map_err(|e| MediaError::new(e.to_string()))
    }

    pub(crate) fn detach_audio(&self, sink: SinkId) {
        self.report(self.audio.detach(sink));
    }

    /// Opens the device on a thread of its own, since drivers block; a failure becomes an event.
    #[cfg(feature = "devices")]
    pub(crate) fn set_playout(&self, playout: crate::audio::Playout) {
        let (audio, events) = (self.audio.clone(), self.events.clone());
        std::thread::spawn(move || {
            if let Err(error) = audio.set_playout(playout) {
                events.push(CallEvent::Media(MediaEvent::Problem(error.to_string())));
            }
        });
    }

    pub(crate) fn local_level(&self) -> f32 {
        self.audio.levels().published.first().map_or(0.0, |(_, level)| *level)
    }

    pub(crate) fn remote_level(&self) -> f32 {
        self.audio.levels().remotes.first().map_or(0.0, |(_, level)| *level)
    }

    pub(crate) fn audio_stats(&self) -> AudioStats {
        self.audio.stats()
    }

    /// Lets the encoders know how the path fares.
    pub(crate) fn feed_back(&self, stats: &WireStats) {
        let audio = stats.session.send.iter().find(|(_, stream)| stream.kind == MediaKind::Audio);
        if let Some((_, audio)) = audio {
            self.report(self.audio.set_expected_loss(audio.stats.fraction_lost));
        }
        #[cfg(feature = "video")]
        if let Some(time) = stats.session.round_trip_time
            && let Some(receiver) = &self.lock().receiver
        {
            receiver.set_round_trip_time(time);
        }
    }

    /// Ends all threads and finishes all sinks. Blocks until that is done.
    pub(crate) fn stop(&self) {
        self.routes.0.write().unwrap_or_else(PoisonError::into_inner).clear();
        let mut parts = self.lock();
        parts.stopped = true;
        parts.audio = None;
        #[cfg(feature = "video")]
        let (sender, receiver) = {
            parts.video = None;
            let sent = parts.sender.as_ref().map(VideoSender::stats).unwrap_or_default();
            let received = parts.receiver.as_ref().map(VideoReceiver::stats).unwrap_or_default();
            parts.last_stats = (sent, received);
            (parts.sender.take(), parts.receiver.take())
        };
        drop(parts);
        #[cfg(feature = "video")]
        {
            sender.into_iter().for_each(VideoSender::stop);
            receiver.into_iter().for_each(VideoReceiver::stop);
        }
        self.audio.stop();
    }

    fn report(&self, outcome: Result<(), crate::audio::AudioError>) {
        match outcome {
            Ok(()) | Err(crate::audio::AudioError::Stopped) => {}
            Err(error) => self.events.push(CallEvent::Media(MediaEvent::Problem(error.to_string()))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(feature = "video")]
impl CallMedia {
    pub(crate) fn publish_video(&self, source: Box<dyn VideoSource>, settings: VideoSettings) {
        let mut parts = self.lock();
        if parts.stopped {
            return;
        }
        parts.state.video = shows(settings.content);
        parts.video = Some((source, settings));
        if parts.live {
            self.start_video(&mut parts);
        }
    }

    /// Goes on with another source on the same encoder.
    pub(crate) fn replace_video(&self, source: Box<dyn VideoSource>, content: Content) {
        let mut parts = self.lock();
        if let Some(sender) = &parts.sender {
            sender.replace_source(source, content);
        } else if let Some((waiting, settings)) = &mut parts.video {
            *waiting = source;
            settings.content = content;
        }
        parts.state.video = shows(content);
    }

    fn start_video(&self, parts: &mut Parts) {
        let Some((source, settings)) = parts.video.take() else { return };
        if let Some(sender) = parts.sender.take() {
            sender.stop();
        }
        let events = self.events.clone();
        let told = Box::new(move |event| tell_sender_event(&events, event));
        match VideoSender::spawn(source, settings, self.routes.clone(), told) {
            Ok(sender) => {
                sender.set_target(video_share(parts.target));
                if parts.state.video == VideoState::Off {
                    sender.set_enabled(Enabled::Off);
                }
                parts.sender = Some(sender);
            }
            Err(error) => self.events.push(CallEvent::Media(MediaEvent::Problem(error.to_string()))),
        }
    }

    pub(crate) fn set_video_state(&self, state: VideoState) {
        let mut parts = self.lock();
        parts.state.video = state;
        if let Some(sender) = &parts.sender {
            sender.set_enabled(if state == VideoState::Off { Enabled::Off } else { Enabled::On });
        }
    }

    pub(crate) fn attach_video(&self, sink: Box<dyn VideoSink>) -> Result<video::SinkId, MediaError> {
        match &self.lock().receiver {
            Some(receiver) => Ok(receiver.attach(sink)),
            None => Err(MediaError::new("the call is over: a sink cannot be attached to its tracks")),
        }
    }

    pub(crate) fn detach_video(&self, sink: video::SinkId) {
        if let Some(receiver) = &self.lock().receiver
            && let Err(error) = receiver.detach(sink)
        {
            self.events.push(CallEvent::Media(MediaEvent::Problem(error.to_string())));
        }
    }

    /// The path carries this much in all.
    pub(crate) fn set_target(&self, target: Bitrate) {
        let mut parts = self.lock();
        parts.target = target;
        if let Some(sender) = &parts.sender {
            sender.set_target(video_share(target));
        }
    }

    /// The other side cannot go on without a key frame.
    pub(crate) fn send_key_frame(&self) {
        if let Some(sender) = &self.lock().sender {
            sender.request_key_frame();
        }
    }

    /// The other side turned its camera off or on: a pause is not a freeze.
    pub(crate) fn set_peer_video(&self, state: VideoState) {
        if state == VideoState::Off
            && let Some(receiver) = &self.lock().receiver
        {
            receiver.handle_pause();
        }
    }

    pub(crate) fn video_send_stats(&self) -> VideoSenderStats {
        let parts = self.lock();
        parts.sender.as_ref().map_or(parts.last_stats.0, VideoSender::stats)
    }

    pub(crate) fn video_receive_stats(&self) -> VideoReceiverStats {
        let parts = self.lock();
        parts.receiver.as_ref().map_or(parts.last_stats.1, VideoReceiver::stats)
    }
}

#[cfg(not(feature = "video"))]
impl CallMedia {
    pub(crate) fn set_target(&self, _target: Bitrate) {}

    pub(crate) fn send_key_frame(&self) {}

    pub(crate) fn set_peer_video(&self, _state: VideoState) {}
}

impl std::fmt::Debug for CallMedia {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallMedia").field("peer", &self.peer).finish_non_exhaustive()
    }
}

#[cfg(feature = "video")]
fn video_share(target: Bitrate) -> Bitrate {
    let left = target.as_bps().saturating_sub(AUDIO_SHARE.as_bps());
    Bitrate::from_bps(left).scale(VIDEO_SHARE)
}

async fn forward_audio_events(mut from: mpsc::Receiver<AudioEvent>, to: EventQueue) {
    while let Some(event) = from.recv().await {
        let event = match event {
            AudioEvent::SourceEnded { .. } => MediaEvent::SourceEnded,
            AudioEvent::SourceBroken { error, .. } => {
                MediaEvent::Problem(format!("the sound source broke, silence is sent instead: {error}"))
            }
            AudioEvent::SinkBroken { error, .. } => {
                MediaEvent::Problem(format!("a sound sink broke and was detached: {error}"))
            }
            AudioEvent::EncoderFailed { error, .. } => MediaEvent::Problem(error.to_string()),
            #[cfg(feature = "devices")]
            AudioEvent::Device { kind, event } => MediaEvent::DeviceChanged(device_text(kind, &event)),
        };
        to.push(CallEvent::Media(event));
    }
}

#[cfg(feature = "devices")]
fn device_text(kind: DeviceKind, event: &DeviceEvent) -> String {
    match event {
        DeviceEvent::Lost { name, reason } => format!("the {kind} '{name}' is gone ({reason}); looking for another"),
        DeviceEvent::Changed { name } => format!("the {kind} is now '{name}'"),
        DeviceEvent::Unavailable { reason } => format!("there is no {kind} to use: {reason}; the call goes on without"),
    }
}

#[cfg(feature = "video")]
fn tell_sender_event(events: &EventQueue, event: VideoSenderEvent) {
    events.push(CallEvent::Media(match event {
        VideoSenderEvent::SourceEnded => MediaEvent::SourceEnded,
        VideoSenderEvent::SourceFailed(error) => {
            MediaEvent::Problem(format!("the picture source broke, the last picture stays: {error}"))
        }
        VideoSenderEvent::EncoderFailed(error) => MediaEvent::Problem(error),
    }));
}

#[cfg(feature = "video")]
fn tell_receiver_event(events: &EventQueue, event: VideoReceiverEvent) {
    match event {
        VideoReceiverEvent::FirstFrame | VideoReceiverEvent::Resized { .. } => {}
        VideoReceiverEvent::SinkFailed(_, error) => {
            events
                .push(CallEvent::Media(MediaEvent::Problem(format!("a picture sink broke and was detached: {error}"))));
        }
        VideoReceiverEvent::Unsupported(what) => events.push(CallEvent::Media(MediaEvent::Problem(what))),
    }
}
