//! The task of one call: it drives [`CallMachine`] with the application, the signaling server and the wire.

use super::{
    events::{CallEnded, CallEvent},
    machine::{CallMachine, MediaPath, Notice, Output},
    media::CallMedia,
};
use crate::{
    clock,
    event_queue::EventQueue,
    signaling::SignalClient,
    wire::{self, Wire, WireEvent, WireState},
};
use futures_util::FutureExt;
use halloo_protocol::{CallId, Candidate, EndReason, ErrorBody, Event, MediaState, Request, SdpKind};
use std::{future::pending, sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};

/// How often figures flow from the wire to the encoders.
const FEEDBACK_INTERVAL: Duration = Duration::from_secs(1);

/// What the engine's hub tells a call.
#[derive(Debug)]
pub(crate) enum CallInput {
    /// An event of the server about it.
    Event(Event),
    /// Signed in again.
    SignedIn {
        /// Whether the session went on.
        resumed: bool,
        /// Whether the server listed this call.
        known: bool,
    },
    /// The signaling connection broke.
    SignalingLost,
    /// The server does not sign this device in again.
    SignInRefused(ErrorBody),
}

/// What the application asks.
#[derive(Debug)]
pub(crate) enum Command {
    Accept(MediaState),
    HangUp,
    Busy,
    Media(MediaState),
    NetworkChanged,
}

/// How far a call got, for those who wait for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The server has not taken the invitation yet.
    Starting,
    /// The server took the invitation, or it rings here.
    Pending,
    /// Over, sinks finished.
    Ended(CallEnded),
}

pub(crate) struct CallActor {
    pub(crate) machine: CallMachine,
    pub(crate) wire: Wire,
    pub(crate) wire_events: mpsc::Receiver<WireEvent>,
    pub(crate) inputs: mpsc::Receiver<CallInput>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) signal: SignalClient,
    pub(crate) media: Arc<CallMedia>,
    pub(crate) events: EventQueue<CallEvent>,
    pub(crate) progress: watch::Sender<Progress>,
    /// Told of a call to answer instead of this one.
    pub(crate) glare: mpsc::Sender<CallId>,
}

impl CallActor {
    /// Runs until the call has ended and its sinks are finished.
    pub(crate) async fn run(mut self) {
        let (refusals, mut refused) = mpsc::channel::<Result<(), ErrorBody>>(4);
        let mut feedback = tokio::time::interval(FEEDBACK_INTERVAL);
        feedback.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            while let Some(output) = self.machine.poll_output() {
                if let Some(end) = self.act(output, &refusals).await {
                    return self.finish(end).await;
                }
            }
            let timeout = self.machine.next_timeout().map(|at| at.since(clock::now()));
            tokio::select! {
                command = self.commands.recv() => self.take_command(command.unwrap_or(Command::HangUp)),
                Some(input) = self.inputs.recv() => self.take_input(input),
                Some(event) = self.wire_events.recv() => self.take_wire_event(event),
                Some(outcome) = refused.recv() => match outcome {
                    Ok(()) => {
                        self.progress.send_if_modified(|p| std::mem::replace(p, Progress::Pending) == Progress::Starting);
                    }
                    Err(error) => self.machine.handle_refused(&error),
                },
                _ = feedback.tick(), if self.machine.is_active() => self.media.feed_back(&self.wire.stats().await),
                () = async { match timeout { Some(t) => tokio::time::sleep(t).await, None => pending().await } } => {
                    self.machine.handle_timeout(clock::now());
                }
            }
        }
    }

    fn take_command(&mut self, command: Command) {
        match command {
            Command::Accept(media) => self.machine.accept(media),
            Command::HangUp => self.machine.hang_up(),
            Command::Busy => self.machine.busy(),
            Command::Media(media) => self.machine.set_media(media),
            Command::NetworkChanged => self.machine.handle_network_change(clock::now()),
        }
    }

    fn take_input(&mut self, input: CallInput) {
        match input {
            CallInput::Event(event) => self.machine.handle_event(clock::now(), event),
            CallInput::SignedIn { resumed, known } => {
                self.events.push(CallEvent::Signaling { connected: true });
                self.machine.handle_signed_in(resumed, known);
            }
            CallInput::SignalingLost => self.events.push(CallEvent::Signaling { connected: false }),
            CallInput::SignInRefused(error) => self.machine.handle_sign_in_refused(&error),
        }
    }

    fn take_wire_event(&mut self, event: WireEvent) {
        let now = clock::now();
        match event {
            WireEvent::LocalCandidate(candidate) => self.machine.handle_local_candidate(to_protocol(candidate)),
            WireEvent::EndOfCandidates => self.machine.handle_local_candidate(end_of_candidates()),
            WireEvent::State(WireState::Connected) => {
                self.media.local().go_live();
                self.machine.handle_media_path(now, MediaPath::Connected, None);
            }
            WireEvent::State(WireState::Disconnected) => {
                self.machine.handle_media_path(now, MediaPath::Disconnected, None);
            }
            WireEvent::State(WireState::Failed(failure)) => {
                self.machine.handle_media_path(now, MediaPath::Failed, Some(&failure.to_string()));
            }
            WireEvent::State(WireState::Connecting | WireState::Closed) => {}
            WireEvent::TargetBitrate(target) => self.media.set_target(target),
            WireEvent::KeyFrameRequested(source) => self.media.local().send_key_frame(source),
            // Lip sync reads these once both tracks play out by the peer's clock.
            WireEvent::SenderReport { .. } | WireEvent::Bye(_) => {}
        }
    }

    /// Does what the machine says; gives the end of the call when it is over.
    async fn act(&mut self, output: Output, refusals: &mpsc::Sender<Result<(), ErrorBody>>) -> Option<CallEnded> {
        match output {
            Output::CreateOffer => self.describe(SdpKind::Offer, self.wire.offer().await),
            Output::SetOffer(sdp) => {
                if let Err(error) = self.wire.accept_offer(&sdp).await {
                    self.machine.handle_media_error(error.to_string());
                }
            }
            Output::CreateAnswer => self.describe(SdpKind::Answer, self.wire.answer().await),
            Output::SetAnswer(sdp) => {
                if let Err(error) = self.wire.accept_answer(&sdp).await {
                    self.machine.handle_media_error(error.to_string());
                }
            }
            Output::AddCandidate(candidate) => {
                // A candidate that cannot be read is one path fewer, not the end of the call.
                if let Err(error) = self.wire.add_candidate(from_protocol(candidate)).await {
                    tracing::debug!(%error, "a candidate was ignored");
                }
            }
            Output::RestartIce => match self.wire.restart_ice().await {
                Ok(sdp) => self.machine.handle_local_sdp(clock::now(), SdpKind::Offer, sdp),
                Err(error) => tracing::warn!(%error, "ICE could not be restarted"),
            },
            Output::AnswerAgain(sdp) => {
                let answer = match self.wire.accept_offer(&sdp).await {
                    Ok(()) => self.wire.answer().await,
                    Err(error) => Err(error),
                };
                match answer {
                    Ok(sdp) => self.machine.handle_local_sdp(clock::now(), SdpKind::Answer, sdp),
                    Err(error) => tracing::warn!(%error, "an offer within the call was ignored"),
                }
            }
            Output::CloseMedia => self.wire.close().await,
            Output::Request(request) => drop(self.signal.submit(request)),
            Output::Critical(request) => self.submit_critical(request, refusals.clone()),
            Output::Notice(notice) => self.tell(notice),
            Output::Ended(end) => {
                return Some(CallEnded { reason: end.reason, error: end.error, code: end.code });
            }
        }
        None
    }

    fn describe(&mut self, kind: SdpKind, sdp: Result<String, wire::WireError>) {
        match sdp {
            Ok(sdp) => self.machine.handle_local_sdp(clock::now(), kind, sdp),
            Err(error) => self.machine.handle_media_error(error.to_string()),
        }
    }

    fn submit_critical(&self, request: Request, refusals: mpsc::Sender<Result<(), ErrorBody>>) {
        let outcome = self.signal.submit(request);
        tokio::spawn(outcome.then(move |outcome| async move {
            if let Ok(outcome) = outcome {
                let _ = refusals.send(outcome.map(drop)).await;
            }
        }));
    }

    fn tell(&self, notice: Notice) {
        self.events.push(match notice {
            Notice::Ringing => CallEvent::Ringing,
            Notice::Answered => CallEvent::Answered,
            Notice::Connected => CallEvent::Connected,
            Notice::Reconnecting => CallEvent::Reconnecting,
            Notice::Reconnected => CallEvent::Reconnected,
            Notice::PeerMedia(media) => {
                self.media.set_peer_video(media.video);
                CallEvent::PeerMedia(media)
            }
            Notice::Glare(call) => {
                let _ = self.glare.try_send(call);
                return;
            }
        });
    }

    async fn finish(self, end: CallEnded) {
        let media = self.media.clone();
        // Joins threads and flushes files.
        if tokio::task::spawn_blocking(move || media.stop()).await.is_err() {
            tracing::error!("a media thread panicked");
        }
        self.events.push(CallEvent::Ended(end.clone()));
        self.progress.send_replace(Progress::Ended(end));
    }
}

/// The end a call has when its task is gone without saying one.
pub(crate) fn vanished() -> CallEnded {
    CallEnded { reason: EndReason::Failed, error: Some("the engine was shut down".to_owned()), code: None }
}

fn to_protocol(candidate: wire::Candidate) -> Candidate {
    Candidate {
        candidate: candidate.candidate,
        sdp_mid: candidate.sdp_mid,
        sdp_m_line_index: candidate.sdp_m_line_index,
        username_fragment: candidate.username_fragment,
    }
}

fn from_protocol(candidate: Candidate) -> wire::Candidate {
    wire::Candidate {
        candidate: candidate.candidate,
        sdp_mid: candidate.sdp_mid,
        sdp_m_line_index: candidate.sdp_m_line_index,
        username_fragment: candidate.username_fragment,
    }
}

fn end_of_candidates() -> Candidate {
    Candidate { candidate: String::new(), sdp_mid: None, sdp_m_line_index: None, username_fragment: None }
}
