//! One call, whatever carries it.

mod actor;
mod events;
mod machine;
mod media;
mod stats;

pub(crate) use actor::{CallActor, CallInput, Command, Progress, vanished};
pub(crate) use machine::CallMachine;
pub(crate) use media::CallMedia;

pub use events::{CallEnded, CallEvent, CallEvents};
pub use stats::{
    AudioReceiveStats, AudioSendStats, CallStats, CandidateInfo, TransportStats, VideoReceiveStats, VideoSendStats,
};

#[cfg(feature = "devices")]
use crate::audio::Playout;
use crate::{
    audio::AudioSettings,
    error::CallError,
    event_queue::EventQueue,
    media::AudioSource,
    tracks::{Changed, LocalAudioTrack, RemoteAudioTrack},
    wire::Wire,
};
use halloo_protocol::{CallId, ErrorBody, MediaState, UserId, VideoState};
use halloo_transport::{Bitrate, Timestamp};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, watch};

#[cfg(feature = "video")]
use crate::{
    media::VideoSource,
    tracks::{LocalVideoTrack, RemoteVideoTrack},
    video::VideoSettings,
};
#[cfg(feature = "video")]
use halloo_protocol::SourceKind;

/// How a call starts.
#[derive(Debug)]
pub struct CallOptions {
    /// What the other side is told of our picture before one is published. Default: [`VideoState::Off`].
    pub video: VideoState,
    /// Where the other side's sound goes, beside attached sinks. Default: nowhere.
    #[cfg(feature = "devices")]
    pub playout: Playout,
    /// The most that all media together may use. Default: 4 Mbit/s.
    pub max_bitrate: Bitrate,
}

impl Default for CallOptions {
    fn default() -> Self {
        Self {
            video: VideoState::Off,
            #[cfg(feature = "devices")]
            playout: Playout::None,
            max_bitrate: Bitrate::from_kbps(4_000),
        }
    }
}

/// Who called whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// This side called.
    Outgoing,
    /// The other side called.
    Incoming,
}

/// A call. Dropping it hangs up, in whatever state it is; [`Call::hang_up`] also waits until that is done.
///
/// Sources published before the call connects are read from the moment it does, so that a file starts at its beginning.
#[derive(Debug)]
pub struct Call {
    pub(crate) id: CallId,
    pub(crate) peer: UserId,
    pub(crate) direction: Direction,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) media: Arc<CallMedia>,
    pub(crate) wire: Wire,
    pub(crate) events: EventQueue<CallEvent>,
    pub(crate) progress: watch::Receiver<Progress>,
    /// Keeps the engine's runtime and its connection while a call needs them.
    pub(crate) engine: Arc<crate::engine::Inner>,
    pub(crate) started_at: Timestamp,
}

impl Call {
    /// The call's id, the same on both sides.
    pub fn id(&self) -> &str {
        self.id.as_str()
    }

    /// The other side's user id.
    pub fn peer(&self) -> &str {
        self.peer.as_str()
    }

    /// Who called whom.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Sends sound from `source`, in place of what was sent before.
    pub fn publish_audio(&self, source: Box<dyn AudioSource>, settings: AudioSettings) -> LocalAudioTrack {
        self.media.local().publish_audio(source, settings);
        LocalAudioTrack::new(Arc::clone(self.media.local()), self.changed())
    }

    /// Sends pictures from `source`, in place of what was sent before.
    #[cfg(feature = "video")]
    pub fn publish_video(&self, source: Box<dyn VideoSource>, settings: VideoSettings) -> LocalVideoTrack {
        self.media.local().publish_video(SourceKind::Camera, source, settings);
        let changed = self.changed();
        changed.tell();
        LocalVideoTrack::new(Arc::clone(self.media.local()), SourceKind::Camera, changed)
    }

    /// The other side's microphone. It is there from the start and silent until something comes in.
    pub fn remote_audio(&self) -> RemoteAudioTrack {
        self.media.remote_audio()
    }

    /// The other side's camera or screen. It is there from the start and dark until something comes in.
    #[cfg(feature = "video")]
    pub fn remote_video(&self) -> RemoteVideoTrack {
        self.media.remote_video()
    }

    /// Plays the other side's sound there from now on. A device that cannot be opened becomes an event.
    #[cfg(feature = "devices")]
    pub fn set_playout(&self, playout: Playout) {
        self.media.local().set_playout(playout);
    }

    /// What happens, in order, from the beginning of the call.
    pub fn events(&self) -> CallEvents {
        CallEvents::new(&self.events)
    }

    /// Figures as of now.
    pub async fn stats(&self) -> CallStats {
        CallStats::collect(&self.media, &self.wire, self.started_at).await
    }

    /// Ends the call, whatever its state, and waits until the other side is told and every sink is finished.
    pub async fn hang_up(self) -> CallEnded {
        let _ = self.commands.send(Command::HangUp).await;
        self.ended().await
    }

    /// Waits until the call is over and every sink is finished.
    pub async fn ended(&self) -> CallEnded {
        ended(self.progress.clone()).await
    }

    /// Tells the call that the network changed, so that it looks for a new path at once. The engine does not watch the network
    /// by itself yet.
    pub fn network_changed(&self) {
        self.engine.network_changed();
        let _ = self.commands.try_send(Command::NetworkChanged);
    }

    /// Takes a call that rings here.
    pub(crate) async fn accept(self, options: &CallOptions) -> Result<Self, CallError> {
        if let Progress::Ended(end) = &*self.progress.borrow() {
            return Err(refusal(end));
        }
        self.media.configure(options);
        let media = MediaState { audio_muted: false, video: options.video };
        if self.commands.send(Command::Accept(media)).await.is_err() {
            return Err(refusal(&self.ended().await));
        }
        Ok(self)
    }

    /// Waits until the server took the invitation.
    pub(crate) async fn accepted_by_server(&self) -> Result<(), CallError> {
        let mut progress = self.progress.clone();
        let reached = progress.wait_for(|p| *p != Progress::Starting).await;
        match reached.as_deref() {
            Ok(Progress::Ended(end)) if end.error.is_some() || end.code.is_some() => Err(refusal(end)),
            // Taken, and maybe answered already: an end that the other side made (busy, declined) is told as any other.
            Ok(_) => Ok(()),
            Err(_) => Err(refusal(&vanished())),
        }
    }

    /// Tells the other side what is sent.
    fn changed(&self) -> Changed {
        let (commands, media) = (self.commands.clone(), Arc::clone(&self.media));
        Changed::new(move || {
            let _ = commands.try_send(Command::Media(media.local_state()));
        })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let _ = self.commands.try_send(Command::HangUp);
    }
}

fn refusal(end: &CallEnded) -> CallError {
    let text = end.error.clone().unwrap_or_else(|| format!("the call ended: {:?}", end.reason));
    match end.code {
        Some(code) => CallError::Refused(ErrorBody::new(code, text)),
        None => CallError::Ended(text),
    }
}

/// Holds a call that rings here until somebody takes it: the application, or an own invitation that crossed it.
#[derive(Debug)]
pub(crate) struct RingingSlot {
    id: CallId,
    call: Mutex<Option<Call>>,
    progress: watch::Receiver<Progress>,
}

impl RingingSlot {
    pub(crate) fn new(call: Call) -> Self {
        Self { id: call.id.clone(), progress: call.progress.clone(), call: Mutex::new(Some(call)) }
    }

    /// The call, if nobody has taken it yet.
    pub(crate) fn take(&self) -> Option<Call> {
        self.call.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A call that rings here. Dropping it declines.
#[derive(Debug)]
pub struct IncomingCall {
    slot: Arc<RingingSlot>,
    from: UserId,
    name: String,
    media: MediaState,
}

impl IncomingCall {
    pub(crate) fn new(slot: Arc<RingingSlot>, from: UserId, name: String, media: MediaState) -> Self {
        Self { slot, from, name, media }
    }

    /// The call's id.
    pub fn id(&self) -> &str {
        self.slot.id.as_str()
    }

    /// The caller's user id.
    pub fn from(&self) -> &str {
        self.from.as_str()
    }

    /// What to show of the caller.
    pub fn from_name(&self) -> &str {
        &self.name
    }

    /// What the caller sends.
    pub fn media(&self) -> MediaState {
        self.media
    }

    /// Whether it can still be taken here.
    pub fn is_ringing(&self) -> bool {
        let there = self.slot.call.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        there && !matches!(*self.slot.progress.borrow(), Progress::Ended(_))
    }

    /// Takes the call.
    ///
    /// # Errors
    /// Where it is over already, since the caller gave up or another device took it.
    pub async fn accept(self, options: CallOptions) -> Result<Call, CallError> {
        match self.slot.take() {
            Some(call) => call.accept(&options).await,
            None => Err(CallError::Ended("it was taken already".to_owned())),
        }
    }

    /// Refuses the call on all devices of this user.
    pub async fn decline(self) {
        if let Some(call) = self.slot.take() {
            call.hang_up().await;
        }
    }

    /// Tells the caller that this device is in another call; other devices ring on.
    pub async fn busy(self) {
        if let Some(call) = self.slot.take() {
            let _ = call.commands.send(Command::Busy).await;
            call.ended().await;
        }
    }

    /// Waits until it stopped ringing without having been taken here, and says why.
    pub async fn gave_up(&self) -> CallEnded {
        ended(self.slot.progress.clone()).await
    }
}

impl Drop for IncomingCall {
    fn drop(&mut self) {
        drop(self.slot.take());
    }
}

async fn ended(mut progress: watch::Receiver<Progress>) -> CallEnded {
    match progress.wait_for(|p| matches!(p, Progress::Ended(_))).await.as_deref() {
        Ok(Progress::Ended(end)) => end.clone(),
        _ => vanished(),
    }
}
