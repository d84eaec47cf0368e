//! What a wire tells its owner, and the queue between the connection's task, which must not wait, and the owner, which may.
//!
//! Lifecycle events keep their order and are never dropped; of a target bitrate or a sender report only the newest is worth
//! having, and key-frame requests merge, so the queue is bounded by construction. Candidates are bounded by number.

use halloo_protocol::SourceKind;
use halloo_transport::{Bitrate, RtpTime, Ssrc};
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, mpsc};

/// Local candidates kept while the owner is slow: more than the interfaces of any machine give.
const MAX_CANDIDATES: usize = 256;

/// An ICE candidate as signaling carries it (RFC 8838, and W3C `RTCIceCandidateInit`).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Candidate {
    /// `candidate:...`.
    pub(crate) candidate: String,
    /// The media section it belongs to.
    pub(crate) sdp_mid: Option<String>,
    /// The same by position.
    pub(crate) sdp_m_line_index: Option<u16>,
    /// The ICE generation it belongs to.
    pub(crate) username_fragment: Option<String>,
}

/// Where a connection stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WireState {
    /// Looking for a path, or securing it.
    Connecting,
    /// Media flows.
    Connected,
    /// Nothing has arrived for a while; it may come back by itself.
    Disconnected,
    /// It will not come back by itself.
    Failed(Failure),
    /// Closed by this side.
    Closed,
}

/// Why a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// ICE found no working pair, or lost the one it had.
    #[error("no network path to the peer works; check that both sides can reach each other or configure a TURN server")]
    NoPath,
    /// The peer's certificate is not the one its session description promised.
    #[error("the peer's certificate does not match the fingerprint in its session description; the call is refused")]
    WrongCertificate,
    /// The peer refused our certificate or parameters (the DTLS alert's description, RFC 5246, section 7.2).
    #[error("the peer refused the secure handshake with DTLS alert {0}")]
    RefusedByPeer(u8),
    /// The peer answers connectivity checks but the handshake did not finish.
    #[error("the secure handshake with the peer did not finish in time")]
    HandshakeTimeout,
    /// The connection's task ended: its sockets failed.
    #[error("the connection's sockets failed")]
    Stopped,
}

/// What a wire tells its owner.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum WireEvent {
    /// Send this to the peer.
    LocalCandidate(Candidate),
    /// No more candidates of this generation.
    EndOfCandidates,
    /// The connection's state changed.
    State(WireState),
    /// All media together should use this.
    TargetBitrate(Bitrate),
    /// The peer cannot go on without a key frame of this source of ours.
    KeyFrameRequested(SourceKind),
    /// Ties a received stream's RTP clock to the peer's wall clock.
    SenderReport {
        /// The stream.
        ssrc: Ssrc,
        /// RTP time of the report.
        rtp_time: RtpTime,
        /// The peer's wall clock then, since 1900.
        ntp: Duration,
    },
    /// The peer ended this stream.
    Bye(Ssrc),
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    pending: Mutex<Pending>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    lifecycle: VecDeque<WireEvent>,
    candidates: usize,
    target: Option<Bitrate>,
    key_frames: Vec<SourceKind>,
    reports: Vec<(Ssrc, RtpTime, Duration)>,
    state: Option<WireState>,
    /// Nobody listens any more.
    detached: bool,
}

impl EventQueue {
    /// Queues an event without waiting.
    pub(super) fn push(&self, event: WireEvent) {
        {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            pending.push(event);
        }
        self.filled.notify_one();
    }

    /// Hands events to `to` as fast as it takes them, until [`WireState::Closed`] was handed over or `to` is gone.
    pub(super) async fn pump(&self, to: mpsc::Sender<WireEvent>) {
        loop {
            let next = self.pending.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(event) = next else {
                self.filled.notified().await;
                continue;
            };
            let last = event == WireEvent::State(WireState::Closed);
            if to.send(event).await.is_err() || last {
                self.pending.lock().unwrap_or_else(PoisonError::into_inner).detached = true;
                return;
            }
        }
    }

    /// The state reported last.
    pub(super) fn state(&self) -> Option<WireState> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).state.clone()
    }
}

impl Pending {
    fn push(&mut self, event: WireEvent) {
        if self.detached {
            if let WireEvent::State(state) = event {
                self.state = Some(state);
            }
            return;
        }
        match event {
            WireEvent::TargetBitrate(rate) => self.target = Some(rate),
            WireEvent::KeyFrameRequested(kind) => {
                if !self.key_frames.contains(&kind) {
                    self.key_frames.push(kind);
                }
            }
            WireEvent::SenderReport { ssrc, rtp_time, ntp } => {
                self.reports.retain(|(known, ..)| *known != ssrc);
                self.reports.push((ssrc, rtp_time, ntp));
                if self.reports.len() > 64 {
                    self.reports.remove(0);
                }
            }
            WireEvent::State(state) => self.push_state(state),
            WireEvent::LocalCandidate(_) if self.candidates >= MAX_CANDIDATES => {
                tracing::warn!(limit = MAX_CANDIDATES, "too many local ICE candidates; one was dropped");
            }
            WireEvent::LocalCandidate(_) => {
                self.candidates += 1;
                self.lifecycle.push_back(event);
            }
            WireEvent::EndOfCandidates | WireEvent::Bye(_) => self.lifecycle.push_back(event),
        }
    }

    /// A state that says nothing new is not told, and what cannot be mended is final.
    fn push_state(&mut self, state: WireState) {
        let is_final = match self.state {
            Some(WireState::Closed) => true,
            Some(WireState::Failed(Failure::WrongCertificate | Failure::HandshakeTimeout | Failure::Stopped)) => {
                state != WireState::Closed
            }
            _ => false,
        };
        if is_final || self.state.as_ref() == Some(&state) {
            return;
        }
        self.state = Some(state.clone());
        self.lifecycle.push_back(WireEvent::State(state));
    }

    fn pop(&mut self) -> Option<WireEvent> {
        if let Some(event) = self.lifecycle.pop_front() {
            if matches!(event, WireEvent::LocalCandidate(_)) {
                self.candidates -= 1;
            }
            return Some(event);
        }
        if let Some(kind) = self.key_frames.pop() {
            return Some(WireEvent::KeyFrameRequested(kind));
        }
        if let Some(rate) = self.target.take() {
            return Some(WireEvent::TargetBitrate(rate));
        }
        let (ssrc, rtp_time, ntp) = self.reports.pop()?;
        Some(WireEvent::SenderReport { ssrc, rtp_time, ntp })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(queue: &EventQueue) -> Vec<WireEvent> {
        std::iter::from_fn(|| queue.pending.lock().unwrap().pop()).collect()
    }

    #[test]
    fn a_slow_owner_gets_the_newest_bitrate_and_every_state() {
        let queue = EventQueue::default();
        for state in [WireState::Connecting, WireState::Connected, WireState::Connected, WireState::Disconnected] {
            queue.push(WireEvent::State(state));
            queue.push(WireEvent::TargetBitrate(Bitrate::from_kbps(100)));
            queue.push(WireEvent::KeyFrameRequested(SourceKind::Camera));
        }
        queue.push(WireEvent::TargetBitrate(Bitrate::from_kbps(300)));
        assert_eq!(
            drain(&queue),
            [
                WireEvent::State(WireState::Connecting),
                WireEvent::State(WireState::Connected),
                WireEvent::State(WireState::Disconnected),
                WireEvent::KeyFrameRequested(SourceKind::Camera),
                WireEvent::TargetBitrate(Bitrate::from_kbps(300)),
            ]
        );
    }

    #[test]
    fn a_refused_certificate_is_the_last_word_but_for_closed() {
        let queue = EventQueue::default();
        queue.push(WireEvent::State(WireState::Failed(Failure::WrongCertificate)));
        queue.push(WireEvent::State(WireState::Failed(Failure::HandshakeTimeout)));
        queue.push(WireEvent::State(WireState::Connected));
        queue.push(WireEvent::State(WireState::Closed));
        queue.push(WireEvent::State(WireState::Connecting));
        assert_eq!(
            drain(&queue),
            [WireEvent::State(WireState::Failed(Failure::WrongCertificate)), WireEvent::State(WireState::Closed)]
        );
    }

    #[test]
    fn a_lost_path_may_come_back() {
        let queue = EventQueue::default();
        queue.push(WireEvent::State(WireState::Failed(Failure::NoPath)));
        queue.push(WireEvent::State(WireState::Connected));
        assert_eq!(drain(&queue).len(), 2);
    }
}
