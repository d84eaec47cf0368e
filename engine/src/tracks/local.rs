//! What this side publishes: sources, encoders, and the routes that they feed.
//!
//! Sources wait until the call goes live, so that a file starts at its beginning.

#[cfg(feature = "video")]
use super::local_video::LocalVideo;
use super::{MediaEvent, Reporter};
use crate::{
    audio::{AudioHandle, AudioSettings, AudioStats, Muted},
    media::AudioSource,
    route::{MediaOutput, Route},
    wire::WireStats,
};
use halloo_protocol::SourceKind;
use halloo_transport::{
    Bitrate,
    session::{MediaKind, MediaUnit},
};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

/// The audio thread's name for the one track that is sent.
const TRACK: u32 = 0;

/// For [`LocalMedia::set_wanted`]: however many there are.
pub(crate) const ALL_LAYERS: u8 = u8::MAX;

/// See the module's text.
pub(crate) struct LocalMedia {
    audio: AudioHandle,
    pub(super) routes: Arc<Routes>,
    pub(super) reporter: Reporter,
    parts: Mutex<Parts>,
}

pub(super) struct Parts {
    pub(super) live: bool,
    pub(super) stopped: bool,
    muted: bool,
    /// Published before the call went live.
    waiting: Option<(Box<dyn AudioSource>, AudioSettings)>,
    published: bool,
    #[cfg(feature = "video")]
    pub(super) camera: LocalVideo,
    #[cfg(feature = "video")]
    pub(super) screen: LocalVideo,
    /// What the path carries in all.
    #[cfg(feature = "video")]
    pub(super) target: Bitrate,
    /// What may be sent in all.
    #[cfg(feature = "video")]
    pub(super) limit: Bitrate,
}

/// The routes that encoders' output goes to.
#[derive(Default)]
pub(super) struct Routes(RwLock<Vec<Arc<dyn Route>>>);

impl Routes {
    fn carry(&self, source: SourceKind, unit: MediaUnit) {
        let routes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((last, others)) = routes.split_last() {
            for route in others {
                route.carry(source, unit.clone());
            }
            last.carry(source, unit);
        }
    }

    fn carry_layers(&self, source: SourceKind) -> bool {
        let routes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        !routes.is_empty() && routes.iter().all(|route| route.carries_layers(source))
    }

    fn replace(&self, routes: Vec<Arc<dyn Route>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = routes;
    }
}

/// Where the encoder of one source puts what it makes.
pub(super) struct SourceOutput {
    pub(super) routes: Arc<Routes>,
    pub(super) source: SourceKind,
}

impl MediaOutput for SourceOutput {
    fn send(&self, _: MediaKind, unit: MediaUnit) {
        self.routes.carry(self.source, unit);
    }

    fn carries_layers(&self) -> bool {
        self.routes.carry_layers(self.source)
    }
}

impl LocalMedia {
    /// Nothing is published. `target` is what the path is believed to carry until it is known.
    pub(crate) fn new(audio: AudioHandle, target: Bitrate, reporter: Reporter) -> Self {
        #[cfg(not(feature = "video"))]
        let _ = target;
        Self {
            audio,
            routes: Arc::default(),
            reporter,
            parts: Mutex::new(Parts {
                live: false,
                stopped: false,
                muted: false,
                waiting: None,
                published: false,
                #[cfg(feature = "video")]
                camera: LocalVideo::new(SourceKind::Camera),
                #[cfg(feature = "video")]
                screen: LocalVideo::new(SourceKind::Screen),
                #[cfg(feature = "video")]
                target,
                #[cfg(feature = "video")]
                limit: Bitrate::from_bps(u64::MAX),
            }),
        }
    }

    /// Sends over this route from now on, and over no other.
    pub(crate) fn use_route(&self, route: Arc<dyn Route>) {
        self.routes.replace(vec![route]);
    }

    /// Packets flow: starts what was published.
    pub(crate) fn go_live(&self) {
        let mut parts = self.lock();
        if parts.stopped || std::mem::replace(&mut parts.live, true) {
            return;
        }
        self.start_audio(&mut parts);
        #[cfg(feature = "video")]
        self.start_videos(&mut parts);
    }

    pub(crate) fn publish_audio(&self, source: Box<dyn AudioSource>, settings: AudioSettings) {
        let mut parts = self.lock();
        if parts.stopped {
            return;
        }
        parts.waiting = Some((source, settings));
        if parts.live {
            self.start_audio(&mut parts);
        }
    }

    fn start_audio(&self, parts: &mut Parts) {
        let Some((source, mut settings)) = parts.waiting.take() else { return };
        settings.muted = if parts.muted { Muted::Yes } else { Muted::No };
        let output = Arc::new(SourceOutput { routes: Arc::clone(&self.routes), source: SourceKind::Microphone });
        let started = self.audio.publish(TRACK, source, &settings, output);
        parts.published = started.is_ok();
        self.reporter.audio(started);
    }

    /// Whether there is a microphone, started or waiting.
    pub(crate) fn has_audio(&self) -> bool {
        let parts = self.lock();
        parts.published || parts.waiting.is_some()
    }

    /// Goes on with another source on the same encoder.
    pub(crate) fn replace_audio(&self, source: Box<dyn AudioSource>) {
        let mut parts = self.lock();
        if parts.published {
            self.reporter.audio(self.audio.replace_source(TRACK, source));
        } else if let Some((waiting, _)) = &mut parts.waiting {
            *waiting = source;
        }
    }

    pub(crate) fn set_muted(&self, muted: bool) {
        let mut parts = self.lock();
        parts.muted = muted;
        if parts.published {
            self.reporter.audio(self.audio.set_muted(TRACK, if muted { Muted::Yes } else { Muted::No }));
        }
    }

    pub(crate) fn is_muted(&self) -> bool {
        self.lock().muted
    }

    /// How loud the microphone is, 0 to 1.
    pub(crate) fn level(&self) -> f32 {
        self.audio.levels().published.first().map_or(0.0, |(_, level)| *level)
    }

    pub(crate) fn audio_stats(&self) -> AudioStats {
        self.audio.stats()
    }

    /// Opens the device on a thread of its own, since drivers block; a failure becomes an event.
    #[cfg(feature = "devices")]
    pub(crate) fn set_playout(&self, playout: crate::audio::Playout) {
        let (audio, reporter) = (self.audio.clone(), self.reporter.clone());
        std::thread::spawn(move || {
            if let Err(error) = audio.set_playout(playout) {
                reporter.tell(MediaEvent::Problem(error.to_string()));
            }
        });
    }

    /// Lets the sound's encoder know how the path fares.
    pub(crate) fn feed_back(&self, stats: &WireStats) {
        let audio = stats.session.send.iter().find(|(_, stream)| stream.kind == MediaKind::Audio);
        if let Some((_, audio)) = audio {
            self.reporter.audio(self.audio.set_expected_loss(audio.stats.fraction_lost));
        }
    }

    /// Ends all encoders; sources are dropped. Blocks until that is done. The audio thread goes on.
    pub(crate) fn stop(&self) {
        self.routes.replace(Vec::new());
        let mut parts = self.lock();
        parts.stopped = true;
        parts.waiting = None;
        #[cfg(feature = "video")]
        {
            let senders = [parts.camera.take_sender(), parts.screen.take_sender()];
            drop(parts);
            senders.into_iter().flatten().for_each(crate::video::sender::VideoSender::stop);
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(not(feature = "video"))]
impl LocalMedia {
    pub(crate) fn set_target(&self, _target: Bitrate) {}

    pub(crate) fn set_limit(&self, _limit: Bitrate) {}

    pub(crate) fn send_key_frame(&self, _source: SourceKind) {}

    pub(crate) fn set_wanted(&self, _source: SourceKind, _spatial: u8) {}
}

impl fmt::Debug for LocalMedia {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalMedia")
    }
}
