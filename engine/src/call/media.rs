//! The media of one call: what it sends, what it receives, and the threads between.
//!
//! [`CallMedia`] is the [`MediaInput`] of the call's route; what it publishes goes there by [`LocalMedia`].

use super::{CallEvent, CallOptions};
use crate::{
    audio::{AudioConfig, AudioHandle, AudioStats, AudioThread},
    event_queue::EventQueue,
    media::MediaError,
    route::MediaInput,
    tracks::{First, LocalMedia, RemoteAudio, RemoteAudioTrack, RemoteTrack, Reporter, forward_audio_events},
    wire::{Wire, WireStats},
};
#[cfg(feature = "video")]
use crate::{
    tracks::{Changed, KeyFrameRequest, RemoteVideo, RemoteVideoTrack, TrackKind},
    video::{Content, VideoReceiverStats, VideoSenderStats},
};
#[cfg(feature = "video")]
use halloo_protocol::SourceKind;
use halloo_protocol::{MediaState, VideoState};
use halloo_transport::{Bitrate, ReceivedPacket, session::MediaKind};
use std::sync::{Arc, Mutex, PoisonError};

/// The audio thread's name for the one track that is received.
const TRACK: u32 = 0;

/// See the module's text.
pub(crate) struct CallMedia {
    peer: Arc<str>,
    audio: AudioHandle,
    local: Arc<LocalMedia>,
    remote_audio: Arc<RemoteAudio>,
    #[cfg(feature = "video")]
    remote_video: Arc<RemoteVideo>,
    events: EventQueue<CallEvent>,
    /// What the other side was told of our picture before one was published.
    announced: Mutex<VideoState>,
}

impl MediaInput for CallMedia {
    fn receive(&self, packet: ReceivedPacket) {
        let first = match packet.kind {
            MediaKind::Audio => self.remote_audio.receive(packet).map(|first| (first, self.audio_track())),
            #[cfg(feature = "video")]
            MediaKind::Video => self.remote_video.receive(packet).map(|first| (first, self.video_track())),
            #[cfg(not(feature = "video"))]
            MediaKind::Video => None,
        };
        if let Some((First::Yes, track)) = first {
            self.events.push(CallEvent::TrackStarted(track));
        }
    }
}

impl CallMedia {
    /// Starts the threads of a call. Must be called on a tokio runtime. `ask_key_frame` asks the other side for one.
    pub(crate) fn new(
        peer: String,
        options: &CallOptions,
        events: EventQueue<CallEvent>,
        #[cfg(feature = "video")] ask_key_frame: KeyFrameRequest,
    ) -> Result<Arc<Self>, MediaError> {
        let spawned = AudioThread::spawn(AudioConfig::default());
        let (audio, audio_events) = spawned.map_err(|e| MediaError::new(e.to_string()))?;
        let to = events.clone();
        let reporter = Reporter::new(move |event| to.push(CallEvent::Media(event)));
        tokio::spawn(forward_audio_events(audio_events, reporter.clone()));
        let media = Arc::new(Self {
            peer: peer.into(),
            local: Arc::new(LocalMedia::new(audio.clone(), options.max_bitrate, reporter.clone())),
            remote_audio: Arc::new(RemoteAudio::new(audio.clone(), TRACK)),
            #[cfg(feature = "video")]
            remote_video: Arc::new(RemoteVideo::new(ask_key_frame, reporter, Changed::new(|| {}))),
            audio,
            events,
            announced: Mutex::new(options.video),
        });
        media.configure(options);
        Ok(media)
    }

    /// Takes over what the application wants, for a call that rang before it was asked.
    pub(crate) fn configure(&self, options: &CallOptions) {
        *self.announced.lock().unwrap_or_else(PoisonError::into_inner) = options.video;
        #[cfg(feature = "devices")]
        if options.playout != crate::audio::Playout::None {
            self.local.set_playout(options.playout.clone());
        }
    }

    pub(crate) fn local(&self) -> &Arc<LocalMedia> {
        &self.local
    }

    pub(crate) fn audio_track(&self) -> RemoteTrack {
        RemoteTrack::Audio(self.remote_audio())
    }

    pub(crate) fn remote_audio(&self) -> RemoteAudioTrack {
        RemoteAudioTrack::new(Arc::clone(&self.remote_audio), Arc::clone(&self.peer))
    }

    /// What goes out now.
    pub(crate) fn local_state(&self) -> MediaState {
        MediaState { audio_muted: self.local.is_muted(), video: self.local_video_state() }
    }

    fn announced(&self) -> VideoState {
        *self.announced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends over this route.
    pub(crate) fn attach_route(&self, wire: &Wire) {
        self.local.use_route(Arc::new(wire.clone()));
    }

    pub(crate) fn audio_stats(&self) -> AudioStats {
        self.local.audio_stats()
    }

    pub(crate) fn set_target(&self, target: Bitrate) {
        self.local.set_target(target);
    }

    /// Lets encoders and decoders know how the path fares.
    pub(crate) fn feed_back(&self, stats: &WireStats) {
        self.local.feed_back(stats);
        #[cfg(feature = "video")]
        if let Some(time) = stats.session.round_trip_time {
            self.remote_video.set_round_trip_time(time);
        }
    }

    /// Ends all threads and finishes all sinks. Blocks until that is done.
    pub(crate) fn stop(&self) {
        self.local.stop();
        #[cfg(feature = "video")]
        self.remote_video.end();
        self.audio.stop();
    }
}

#[cfg(feature = "video")]
impl CallMedia {
    pub(crate) fn video_track(&self) -> RemoteTrack {
        RemoteTrack::Video(self.remote_video())
    }

    pub(crate) fn remote_video(&self) -> RemoteVideoTrack {
        RemoteVideoTrack::new(Arc::clone(&self.remote_video), Arc::clone(&self.peer), TrackKind::Camera)
    }

    fn local_video_state(&self) -> VideoState {
        match self.local.published_video(SourceKind::Camera) {
            None => self.announced(),
            Some((_, false)) => VideoState::Off,
            Some((Content::Camera, true)) => VideoState::Camera,
            Some((Content::Screen, true)) => VideoState::Screen,
        }
    }

    /// The other side turned its camera off or on: a pause is not a freeze.
    pub(crate) fn set_peer_video(&self, state: VideoState) {
        if state == VideoState::Off {
            self.remote_video.handle_pause();
        }
    }

    pub(crate) fn video_send_stats(&self) -> VideoSenderStats {
        self.local.video_stats(SourceKind::Camera)
    }

    pub(crate) fn video_receive_stats(&self) -> VideoReceiverStats {
        self.remote_video.stats()
    }
}

#[cfg(not(feature = "video"))]
impl CallMedia {
    fn local_video_state(&self) -> VideoState {
        self.announced()
    }

    pub(crate) fn set_peer_video(&self, _state: VideoState) {}
}

impl std::fmt::Debug for CallMedia {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallMedia").field("peer", &self.peer).finish_non_exhaustive()
    }
}
