//! A source of pictures that this side publishes, and how several share the path.

use super::local::{ALL_LAYERS, LocalMedia, Parts, SourceOutput};
use crate::{
    media::VideoSource,
    video::{Content, Enabled, VideoSenderStats, VideoSettings, sender::VideoSender},
};
use halloo_protocol::SourceKind;
use halloo_transport::Bitrate;
use std::sync::Arc;

/// What sound costs on the wire: 32 kbit/s of Opus and 50 packets' headers a second.
const AUDIO_SHARE: Bitrate = Bitrate::from_kbps(60);
/// Share of what is left that pictures' payloads may have; the rest is their headers and retransmissions.
const VIDEO_SHARE: f64 = 0.94;

/// See the module's text.
pub(super) struct LocalVideo {
    source: SourceKind,
    /// Published before the call went live.
    waiting: Option<(Box<dyn VideoSource>, VideoSettings)>,
    sender: Option<VideoSender>,
    /// What was published; `None` before anything was.
    content: Option<Content>,
    /// What the application wants.
    enabled: bool,
    /// How many of its spatial layers somebody receives; with 0 nobody receives it.
    wanted: u8,
    /// The last counters, once the thread has ended.
    last_stats: VideoSenderStats,
}

impl LocalVideo {
    pub(super) fn new(source: SourceKind) -> Self {
        Self {
            source,
            waiting: None,
            sender: None,
            content: None,
            enabled: true,
            wanted: ALL_LAYERS,
            last_stats: VideoSenderStats::default(),
        }
    }

    pub(super) fn take_sender(&mut self) -> Option<VideoSender> {
        self.waiting = None;
        self.last_stats = self.stats();
        self.sender.take()
    }

    fn stats(&self) -> VideoSenderStats {
        self.sender.as_ref().map_or(self.last_stats, VideoSender::stats)
    }

    fn is_sending(&self) -> bool {
        self.sender.is_some() && self.enabled && self.wanted > 0
    }

    fn apply(&self) {
        if let Some(sender) = &self.sender {
            sender.set_spatial_layers(self.wanted.max(1));
            sender.set_enabled(if self.enabled && self.wanted > 0 { Enabled::On } else { Enabled::Off });
        }
    }
}

impl Parts {
    fn video(&mut self, source: SourceKind) -> &mut LocalVideo {
        match source {
            SourceKind::Screen => &mut self.screen,
            SourceKind::Camera | SourceKind::Microphone => &mut self.camera,
        }
    }

    /// Divides what the path carries among what is sent.
    fn divide(&self) {
        let sending = [&self.camera, &self.screen].into_iter().filter(|video| video.is_sending()).count();
        let total = self.target.min(self.limit).as_bps();
        let left = Bitrate::from_bps(total.saturating_sub(AUDIO_SHARE.as_bps())).scale(VIDEO_SHARE);
        let each = left.scale(1.0 / sending.max(1) as f64);
        for sender in [&self.camera, &self.screen].into_iter().filter_map(|video| video.sender.as_ref()) {
            sender.set_target(each);
        }
    }
}

impl LocalMedia {
    pub(crate) fn publish_video(&self, source: SourceKind, from: Box<dyn VideoSource>, settings: VideoSettings) {
        let mut parts = self.lock();
        if parts.stopped {
            return;
        }
        let live = parts.live;
        let video = parts.video(source);
        (video.content, video.enabled) = (Some(settings.content), true);
        video.waiting = Some((from, settings));
        if live {
            self.start_video(&mut parts, source);
        }
    }

    pub(super) fn start_videos(&self, parts: &mut Parts) {
        self.start_video(parts, SourceKind::Camera);
        self.start_video(parts, SourceKind::Screen);
    }

    fn start_video(&self, parts: &mut Parts, source: SourceKind) {
        let video = parts.video(source);
        let Some((from, settings)) = video.waiting.take() else { return };
        if let Some(sender) = video.sender.take() {
            sender.stop();
        }
        let reporter = self.reporter.clone();
        let told = Box::new(move |event| reporter.sender(event));
        let output = Arc::new(SourceOutput { routes: Arc::clone(&self.routes), source: video.source });
        match VideoSender::spawn(from, settings, output, told) {
            Ok(sender) => video.sender = Some(sender),
            Err(error) => self.reporter.problem(error),
        }
        video.apply();
        parts.divide();
    }

    /// Goes on with another source on the same encoder.
    pub(crate) fn replace_video(&self, source: SourceKind, from: Box<dyn VideoSource>, content: Content) {
        let mut parts = self.lock();
        let video = parts.video(source);
        video.content = Some(content);
        if let Some(sender) = &video.sender {
            sender.replace_source(from, content);
        } else if let Some((waiting, settings)) = &mut video.waiting {
            *waiting = from;
            settings.content = content;
        }
    }

    /// What is published as `source`, and whether it is sent; `None` where nothing was published.
    pub(crate) fn published_video(&self, source: SourceKind) -> Option<(Content, bool)> {
        let mut parts = self.lock();
        let video = parts.video(source);
        Some((video.content?, video.enabled))
    }

    /// What the application wants of a published source.
    pub(crate) fn set_video_enabled(&self, source: SourceKind, enabled: bool) {
        let mut parts = self.lock();
        let video = parts.video(source);
        video.enabled = enabled;
        video.apply();
        parts.divide();
    }

    /// How many spatial layers of this source somebody receives, 0 for none of it: what nobody receives is not encoded.
    pub(crate) fn set_wanted(&self, source: SourceKind, spatial: u8) {
        let mut parts = self.lock();
        let video = parts.video(source);
        video.wanted = spatial;
        video.apply();
        parts.divide();
    }

    /// The path carries this much in all.
    pub(crate) fn set_target(&self, target: Bitrate) {
        let mut parts = self.lock();
        parts.target = target;
        parts.divide();
    }

    /// Whoever takes this side's media drops what is above this.
    pub(crate) fn set_limit(&self, limit: Bitrate) {
        let mut parts = self.lock();
        parts.limit = limit;
        parts.divide();
    }

    /// The other side cannot go on without a key frame.
    pub(crate) fn send_key_frame(&self, source: SourceKind) {
        if let Some(sender) = &self.lock().video(source).sender {
            sender.request_key_frame();
        }
    }

    pub(crate) fn video_stats(&self, source: SourceKind) -> VideoSenderStats {
        self.lock().video(source).stats()
    }
}
