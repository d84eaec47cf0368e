//! What sources, sinks and devices have to say, in words for the application.

use crate::audio::AudioEvent;
#[cfg(feature = "devices")]
use crate::audio::{DeviceEvent, DeviceKind};
#[cfg(feature = "video")]
use crate::video::{receiver::VideoReceiverEvent, sender::VideoSenderEvent};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Something about a source, sink or device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MediaEvent {
    /// A source has given all it had.
    SourceEnded,
    /// A source, sink, device or codec failed; the text says which, how, and what happens now.
    Problem(String),
    /// A device went away or changed, and the call went on with another; the text says which.
    DeviceChanged(String),
}

/// Takes what happens to media; called from any thread.
#[derive(Clone)]
pub(crate) struct Reporter(Arc<dyn Fn(MediaEvent) + Send + Sync>);

impl Reporter {
    pub(crate) fn new(tell: impl Fn(MediaEvent) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    pub(crate) fn tell(&self, event: MediaEvent) {
        (self.0)(event);
    }

    pub(crate) fn problem(&self, text: impl ToString) {
        self.tell(MediaEvent::Problem(text.to_string()));
    }

    /// Tells of an audio thread that did not do what it was asked, unless it has ended.
    pub(crate) fn audio(&self, outcome: Result<(), crate::audio::AudioError>) {
        match outcome {
            Ok(()) | Err(crate::audio::AudioError::Stopped) => {}
            Err(error) => self.problem(error),
        }
    }

    #[cfg(feature = "video")]
    pub(super) fn sender(&self, event: VideoSenderEvent) {
        self.tell(match event {
            VideoSenderEvent::SourceEnded => MediaEvent::SourceEnded,
            VideoSenderEvent::SourceFailed(error) => {
                MediaEvent::Problem(format!("the picture source broke, the last picture stays: {error}"))
            }
            VideoSenderEvent::EncoderFailed(error) => MediaEvent::Problem(error),
        });
    }

    #[cfg(feature = "video")]
    pub(super) fn receiver(&self, event: VideoReceiverEvent) {
        match event {
            VideoReceiverEvent::FirstFrame | VideoReceiverEvent::Resized { .. } => {}
            VideoReceiverEvent::SinkFailed(_, error) => {
                self.problem(format!("a picture sink broke and was detached: {error}"));
            }
            VideoReceiverEvent::Unsupported(what) => self.problem(what),
        }
    }
}

/// Passes on what the audio thread says, until it ends.
pub(crate) async fn forward_audio_events(mut from: mpsc::Receiver<AudioEvent>, to: Reporter) {
    while let Some(event) = from.recv().await {
        to.tell(match event {
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
        });
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
