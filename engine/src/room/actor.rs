//! The task of one stay in a room: it drives [`RoomMachine`] with the application, the signaling server and the connection.

use super::{
    events::{RoomEnded, RoomEvent, RoomParticipant},
    machine::{MediaPath, Notice, Output, RoomEnd, RoomMachine},
    members::{Change, MemberKey},
    tracks::RoomTracks,
    wishes,
};
use crate::{
    clock,
    event_queue::EventQueue,
    signaling::SignalClient,
    tracks::TrackKind,
    wire::{Wire, WireConfig, WireEvent, WireState},
};
use halloo_protocol::{
    ErrorBody, ErrorCode, Event, Moderation, ReplyResult, Request, RoomId, RoomMedia, RoomSnapshot, SourceKind,
    Subscribe, TileSize,
};
use halloo_transport::{Bitrate, Timestamp};
use std::{future::pending, sync::Arc, time::Duration};
use tokio::sync::{Notify, mpsc, oneshot, watch};

/// How often figures flow from the wire to the encoders.
const FEEDBACK_INTERVAL: Duration = Duration::from_secs(1);
/// Between two messages about what is shown.
const SUBSCRIBE_INTERVAL: Duration = Duration::from_millis(250);

/// What the engine's hub tells a room.
#[derive(Debug)]
pub(crate) enum RoomInput {
    /// An event of the server about it.
    Event(Box<Event>),
    /// Signed in again.
    SignedIn {
        /// Whether the session went on.
        resumed: bool,
        /// What the server knows of this device in the room, where it did not.
        snapshot: Option<Box<RoomSnapshot>>,
    },
    /// The signaling connection broke.
    SignalingLost,
    /// The server does not sign this device in again.
    SignInRefused(ErrorBody),
}

/// What the application asks.
#[derive(Debug)]
pub(crate) enum Command {
    Leave,
    Media(RoomMedia),
    /// Pictures that follow the dominant speaker are shown at this size, or not at all.
    Follow(Option<TileSize>),
    NetworkChanged,
    /// The server did what this side asked for as a moderator. Answered once that shows.
    Moderated(Moderation, oneshot::Sender<()>),
}

/// How far a stay got, for those who wait for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The server has not let this side in yet.
    Entering,
    /// Inside, or coming back.
    Inside,
    /// Over, sinks finished.
    Ended(RoomEnded),
}

/// Makes a connection's configuration; its events go to the sender.
pub(crate) type Connect = Box<dyn Fn(mpsc::Sender<WireEvent>) -> Option<WireConfig> + Send>;

type Reply = oneshot::Receiver<Result<ReplyResult, ErrorBody>>;

pub(crate) struct RoomActor {
    pub(crate) room: RoomId,
    pub(crate) machine: RoomMachine,
    pub(crate) connect: Connect,
    pub(crate) inputs: mpsc::Receiver<RoomInput>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) signal: SignalClient,
    pub(crate) tracks: Arc<RoomTracks>,
    pub(crate) events: EventQueue<RoomEvent>,
    pub(crate) progress: watch::Sender<Progress>,
    /// What sinks want has changed.
    pub(crate) wanted: Arc<Notify>,
    pub(crate) follow: Option<TileSize>,
}

/// What the task keeps besides.
struct Running {
    actor: RoomActor,
    wire_events: Option<mpsc::Receiver<WireEvent>>,
    /// What the server has not answered yet: a request to join, or a further offer.
    joining: Option<Reply>,
    offering: Option<Reply>,
    shown: Shown,
    locked: bool,
    /// Those who wait until what the machine said is done.
    waiting: Vec<oneshot::Sender<()>>,
}

/// What the server was told of what is shown.
#[derive(Default)]
struct Shown {
    told: Option<Subscribe>,
    told_at: Timestamp,
    /// Something may have changed since.
    stale: bool,
}

impl RoomActor {
    /// Runs until the stay has ended and its sinks are finished.
    pub(crate) async fn run(self) {
        let (joining, offering, shown) = (None, None, Shown::default());
        let waiting = Vec::new();
        Running { actor: self, wire_events: None, joining, offering, shown, locked: false, waiting }.run().await;
    }
}

impl Running {
    async fn run(mut self) {
        let mut feedback = tokio::time::interval(FEEDBACK_INTERVAL);
        feedback.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let wanted = Arc::clone(&self.actor.wanted);
        loop {
            while let Some(output) = self.actor.machine.poll_output() {
                if let Some(end) = self.act(output).await {
                    return self.finish(end).await;
                }
            }
            for waiting in self.waiting.drain(..) {
                let _ = waiting.send(());
            }
            self.subscribe(clock::now());
            let timeout = self.next_timeout().map(|at| at.since(clock::now()));
            // A reply comes before the events that follow it: it is looked for first.
            tokio::select! {
                biased;
                outcome = answered(&mut self.joining) => self.actor.machine.handle_joined(clock::now(), outcome),
                outcome = answered(&mut self.offering) => self.actor.machine.handle_answered(clock::now(), outcome),
                command = self.actor.commands.recv() => self.take_command(command.unwrap_or(Command::Leave)),
                Some(input) = self.actor.inputs.recv() => self.take_input(input),
                Some(event) = next(&mut self.wire_events) => self.take_wire_event(event),
                () = wanted.notified() => self.shown.stale = true,
                _ = feedback.tick() => if let Some(wire) = self.actor.tracks.wire() {
                    self.actor.tracks.feed_back(&wire.stats().await);
                },
                () = async { match timeout { Some(t) => tokio::time::sleep(t).await, None => pending().await } } => {
                    self.actor.machine.handle_timeout(clock::now());
                }
            }
        }
    }

    fn next_timeout(&self) -> Option<Timestamp> {
        let subscribe = self.shown.stale.then(|| self.shown.told_at + SUBSCRIBE_INTERVAL);
        let subscribe = subscribe.filter(|_| self.actor.machine.is_inside());
        [self.actor.machine.next_timeout(), subscribe].into_iter().flatten().min()
    }

    fn take_command(&mut self, command: Command) {
        let machine = &mut self.actor.machine;
        match command {
            Command::Leave => machine.leave(),
            Command::Media(media) => machine.set_media(media),
            Command::Follow(size) => {
                self.actor.follow = size;
                self.shown.stale = true;
            }
            Command::NetworkChanged => machine.handle_network_change(clock::now()),
            Command::Moderated(action, done) => {
                machine.handle_moderated(clock::now(), &action);
                self.waiting.push(done);
            }
        }
    }

    fn take_input(&mut self, input: RoomInput) {
        let machine = &mut self.actor.machine;
        match input {
            RoomInput::Event(event) => machine.handle_event(clock::now(), *event),
            RoomInput::SignedIn { resumed, snapshot } => {
                self.actor.events.push(RoomEvent::Signaling { connected: true });
                machine.handle_signed_in(clock::now(), resumed, snapshot.as_deref());
            }
            RoomInput::SignalingLost => self.actor.events.push(RoomEvent::Signaling { connected: false }),
            RoomInput::SignInRefused(error) => machine.handle_sign_in_refused(&error),
        }
    }

    fn take_wire_event(&mut self, event: WireEvent) {
        let (machine, local) = (&mut self.actor.machine, self.actor.tracks.local());
        let now = clock::now();
        match event {
            WireEvent::State(WireState::Connected) => {
                local.go_live();
                machine.handle_media_path(now, MediaPath::Connected);
            }
            WireEvent::State(WireState::Disconnected) => machine.handle_media_path(now, MediaPath::Disconnected),
            WireEvent::State(WireState::Failed(failure)) => {
                tracing::info!(%failure, "the connection to the forwarding unit failed");
                machine.handle_media_path(now, MediaPath::Failed);
            }
            WireEvent::TargetBitrate(target) => local.set_target(target),
            WireEvent::KeyFrameRequested(source) => local.send_key_frame(source),
            // The forwarding unit learns our addresses from our checks.
            WireEvent::LocalCandidate(_) | WireEvent::EndOfCandidates => {}
            WireEvent::State(WireState::Connecting | WireState::Closed) => {}
            WireEvent::SenderReport { .. } | WireEvent::Bye(_) => {}
        }
    }

    /// Does what the machine says; gives the end of the stay when it is over.
    async fn act(&mut self, output: Output) -> Option<RoomEnd> {
        match output {
            Output::Open => self.open().await,
            Output::SetAnswer(sdp) => self.set_answer(&sdp).await,
            Output::RestartIce => {
                let offer = match self.actor.tracks.wire() {
                    Some(wire) => wire.restart_ice().await.map_err(|error| error.to_string()),
                    None => Err("there is no connection".to_owned()),
                };
                if let Err(error) = &offer {
                    tracing::warn!(%error, "ICE could not be restarted");
                }
                self.actor.machine.handle_restart_offer(clock::now(), offer.ok());
            }
            Output::Close => self.close().await,
            Output::Join(request) => self.joining = Some(self.actor.signal.submit(request)),
            Output::Offer(request) => self.offering = Some(self.actor.signal.submit(request)),
            Output::Request(request) => drop(self.actor.signal.submit(request)),
            Output::Subscribe => {
                self.shown = Shown { stale: true, ..Shown::default() };
            }
            Output::Notice(notice) => self.tell(notice).await,
            Output::Ended(end) => return Some(end),
        }
        None
    }

    async fn open(&mut self) {
        self.close().await;
        let (sender, receiver) = mpsc::channel(64);
        let Some(config) = (self.actor.connect)(sender) else { return self.actor.machine.leave() };
        let offer = match Wire::new(config).await {
            Ok(wire) => {
                let offer = wire.offer().await;
                self.wire_events = Some(receiver);
                self.actor.tracks.use_wire(Some(wire));
                offer
            }
            Err(error) => Err(error),
        };
        match offer {
            Ok(sdp) => self.actor.machine.handle_offer(sdp),
            Err(error) => self.actor.machine.handle_media_error(error.to_string()),
        }
    }

    async fn set_answer(&mut self, sdp: &str) {
        let Some(wire) = self.actor.tracks.wire() else { return };
        match wire.accept_answer(sdp).await {
            // A path that was never lost is not reported again.
            Ok(()) if wire.is_connected() => self.actor.machine.handle_media_path(clock::now(), MediaPath::Connected),
            Ok(()) => {}
            Err(error) => self.actor.machine.handle_media_error(error.to_string()),
        }
    }

    async fn close(&mut self) {
        (self.joining, self.offering, self.wire_events) = (None, None, None);
        let wire = self.actor.tracks.wire();
        self.actor.tracks.use_wire(None);
        if let Some(wire) = wire {
            wire.close().await;
        }
    }

    /// Says what is shown, where that is news and was not said just now.
    fn subscribe(&mut self, now: Timestamp) {
        let machine = &self.actor.machine;
        let due = self.shown.told.is_none() || now.since(self.shown.told_at) >= SUBSCRIBE_INTERVAL;
        if !self.shown.stale || !due || !machine.is_inside() {
            return;
        }
        self.shown.stale = false;
        if !machine.may_subscribe() {
            return;
        }
        let wish = wishes::subscribe(&self.actor.room, self.wanted(), self.actor.follow);
        if self.shown.told.as_ref() != Some(&wish) {
            self.shown.told_at = now;
            drop(self.actor.signal.submit(Request::Subscribe(wish.clone())));
            self.shown.told = Some(wish);
        }
    }

    #[cfg(feature = "video")]
    fn wanted(&self) -> Vec<wishes::Wanted> {
        let mut wanted = Vec::new();
        for (key, participant) in self.actor.machine.members().present() {
            let Some(member) = self.actor.tracks.member(key) else { continue };
            for kind in [SourceKind::Camera, SourceKind::Screen] {
                let wish = member.video(kind).and_then(|video| video.wish());
                if let Some(wish) = wish.filter(|_| wishes::is_published(&participant.media, kind)) {
                    wanted.push(wishes::Wanted { participant: participant.participant, kind, wish });
                }
            }
        }
        wanted
    }

    #[cfg(not(feature = "video"))]
    fn wanted(&self) -> Vec<wishes::Wanted> {
        Vec::new()
    }

    async fn tell(&mut self, notice: Notice) {
        let tracks = &self.actor.tracks;
        let event = match notice {
            Notice::Inside { .. } => {
                self.actor.progress.send_if_modified(|p| std::mem::replace(p, Progress::Inside) == Progress::Entering);
                return;
            }
            Notice::Connected => RoomEvent::Connected,
            Notice::Reconnecting => RoomEvent::Reconnecting,
            Notice::Reconnected => RoomEvent::Reconnected,
            Notice::Member(change) => {
                self.shown.stale = true;
                return self.change(change).await;
            }
            Notice::State(state) => {
                tracks.local().set_limit(Bitrate::from_kbps(state.limits.max_publish_kbps.into()));
                if std::mem::replace(&mut self.locked, state.locked) == state.locked {
                    return;
                }
                RoomEvent::Locked(state.locked)
            }
            Notice::Muted(kind) => {
                mute(tracks, kind);
                RoomEvent::Muted(track_kind(kind))
            }
            Notice::Layers(layers) => {
                // We send one encoding of each source.
                let spatial = if layers.encodings > 0 { layers.spatial.max(1) } else { 0 };
                return tracks.local().set_wanted(layers.kind, spatial);
            }
            Notice::Policed(kind) => RoomEvent::Policed(track_kind(kind)),
        };
        self.actor.events.push(event);
    }

    async fn change(&mut self, change: Change) {
        let tracks = Arc::clone(&self.actor.tracks);
        match change {
            Change::Joined(key, participant) => tracks.join(key, &participant),
            Change::Changed(key, participant) => tracks.change(key, &participant),
            Change::Left(key, reason) => {
                // Joins threads and flushes files.
                if tokio::task::spawn_blocking(move || tracks.leave(key, reason)).await.is_err() {
                    tracing::error!("a media thread panicked");
                }
            }
            Change::Speaker(speaker) => {
                let speaker = speaker.and_then(|key| participant(&tracks, key));
                self.actor.events.push(RoomEvent::ActiveSpeaker(speaker));
            }
        }
    }

    async fn finish(self, end: RoomEnd) {
        let tracks = Arc::clone(&self.actor.tracks);
        if tokio::task::spawn_blocking(move || tracks.stop()).await.is_err() {
            tracing::error!("a media thread panicked");
        }
        let ended = RoomEnded { reason: end.reason, error: end.error, code: end.code };
        self.actor.events.push(RoomEvent::Ended(ended.clone()));
        self.actor.progress.send_replace(Progress::Ended(ended));
    }
}

fn participant(tracks: &RoomTracks, key: MemberKey) -> Option<RoomParticipant> {
    Some(RoomParticipant::new(key.0, &tracks.member(key)?.participant()))
}

/// A moderator muted this side: what is not sent cannot be passed on by mistake.
fn mute(tracks: &RoomTracks, kind: SourceKind) {
    match kind {
        SourceKind::Microphone => tracks.local().set_muted(true),
        #[cfg(feature = "video")]
        SourceKind::Camera | SourceKind::Screen => tracks.local().set_video_enabled(kind, false),
        #[cfg(not(feature = "video"))]
        SourceKind::Camera | SourceKind::Screen => {}
    }
}

fn track_kind(kind: SourceKind) -> TrackKind {
    match kind {
        SourceKind::Microphone => TrackKind::Microphone,
        SourceKind::Camera => TrackKind::Camera,
        SourceKind::Screen => TrackKind::Screen,
    }
}

/// The outcome of a request, once; never where there is none.
async fn answered(reply: &mut Option<Reply>) -> Result<ReplyResult, ErrorBody> {
    let Some(receiver) = reply else { return pending().await };
    let outcome = receiver.await;
    *reply = None;
    outcome.unwrap_or_else(|_| Err(ErrorBody::new(ErrorCode::NotSignedIn, "the engine has signed out")))
}

async fn next(events: &mut Option<mpsc::Receiver<WireEvent>>) -> Option<WireEvent> {
    match events {
        Some(events) => events.recv().await,
        None => pending().await,
    }
}
