//! Media on its way from the encoders' threads to the connection's task.
//!
//! Bounded per source. Audio that overflows loses its oldest unit. Video that overflows loses everything queued, because what
//! follows a gap cannot be decoded, and takes nothing until the next key frame. Pushing locks for the length of a move.

use halloo_protocol::SourceKind;
use halloo_transport::{Ssrc, session::MediaUnit};
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

/// 320 ms of sound: the connection's task has stalled for longer than anyone wants to hear late.
const MAX_AUDIO: usize = 16;
/// Half a second of pictures at 30 per second.
const MAX_VIDEO: usize = 16;
/// Streams for which a key frame may be asked at once: more slots than a room gives.
const MAX_REQUESTS: usize = 64;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queues: Mutex<Queues>,
}

#[derive(Debug, Default)]
struct Queues {
    microphone: VecDeque<MediaUnit>,
    camera: VideoQueue,
    screen: VideoQueue,
    /// The streams that the peer is to be asked a key frame of.
    requests: Vec<Ssrc>,
    dropped: u64,
}

#[derive(Debug, Default)]
struct VideoQueue {
    units: VecDeque<MediaUnit>,
    /// Video is refused until a key frame: the peer has nothing to decode the rest with.
    needs_key_frame: bool,
}

/// What became of a unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pushed {
    /// It waits for the connection's task.
    Queued,
    /// Video was dropped, and only a key frame will be taken next: ask the encoder for one.
    NeedsKeyFrame,
    /// A delta frame was dropped while a key frame is already awaited.
    AwaitingKeyFrame,
}

/// What the connection's task takes out in one go.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Audio first, so that it leads in the pacer.
    pub(super) units: VecDeque<(SourceKind, MediaUnit)>,
    /// The streams that the peer is to be asked a key frame of.
    pub(super) requests: Vec<Ssrc>,
}

impl Outbox {
    /// Queues a unit; see the module's text for what is dropped.
    pub(super) fn push(&self, source: SourceKind, unit: MediaUnit) -> Pushed {
        let mut queues = self.lock();
        let Queues { microphone, camera, screen, dropped, .. } = &mut *queues;
        match source {
            SourceKind::Microphone => {
                if microphone.len() >= MAX_AUDIO {
                    microphone.pop_front();
                    *dropped += 1;
                }
                microphone.push_back(unit);
                Pushed::Queued
            }
            SourceKind::Camera => camera.push(unit, dropped),
            SourceKind::Screen => screen.push(unit, dropped),
        }
    }

    /// Notes that the peer is to be asked for a key frame of this stream.
    pub(super) fn request_key_frame(&self, ssrc: Ssrc) {
        let requests = &mut self.lock().requests;
        if !requests.contains(&ssrc) && requests.len() < MAX_REQUESTS {
            requests.push(ssrc);
        }
    }

    /// Drops what is queued of a source of pictures and refuses delta frames from here on: a unit was lost on the way out.
    pub(super) fn require_key_frame(&self, source: SourceKind) {
        let mut queues = self.lock();
        let Queues { camera, screen, dropped, .. } = &mut *queues;
        match source {
            SourceKind::Microphone => {}
            SourceKind::Camera => camera.drop_all(dropped),
            SourceKind::Screen => screen.drop_all(dropped),
        }
    }

    /// Moves everything queued into `taken`, which is empty.
    pub(super) fn take(&self, taken: &mut Taken) {
        let mut queues = self.lock();
        taken.units.extend(queues.microphone.drain(..).map(|unit| (SourceKind::Microphone, unit)));
        taken.units.extend(queues.camera.units.drain(..).map(|unit| (SourceKind::Camera, unit)));
        taken.units.extend(queues.screen.units.drain(..).map(|unit| (SourceKind::Screen, unit)));
        taken.requests = std::mem::take(&mut queues.requests);
    }

    /// Whether [`Outbox::take`] would give something.
    pub(super) fn is_empty(&self) -> bool {
        let queues = self.lock();
        let units = queues.microphone.len() + queues.camera.units.len() + queues.screen.units.len();
        units == 0 && queues.requests.is_empty()
    }

    /// Units dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VideoQueue {
    fn push(&mut self, unit: MediaUnit, dropped: &mut u64) -> Pushed {
        if unit.key_frame {
            self.needs_key_frame = false;
        } else if self.needs_key_frame {
            *dropped += 1;
            return Pushed::AwaitingKeyFrame;
        }
        if self.units.len() >= MAX_VIDEO {
            self.drop_all(dropped);
            if !unit.key_frame {
                *dropped += 1;
                return Pushed::NeedsKeyFrame;
            }
            self.needs_key_frame = false;
        }
        self.units.push_back(unit);
        Pushed::Queued
    }

    fn drop_all(&mut self, dropped: &mut u64) {
        *dropped += self.units.len() as u64;
        self.units.clear();
        self.needs_key_frame = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use halloo_transport::{RtpTime, Timestamp};

    fn unit(ticks: u64, key_frame: bool) -> MediaUnit {
        MediaUnit {
            rtp_time: RtpTime::new(ticks, 90_000),
            captured_at: Timestamp::ZERO,
            payloads: vec![Bytes::from_static(b"x")],
            marker: true,
            key_frame,
            audio_level: None,
            dependency_descriptors: Vec::new(),
        }
    }

    fn times(outbox: &Outbox, source: SourceKind) -> Vec<u64> {
        let mut taken = Taken::default();
        outbox.take(&mut taken);
        taken.units.iter().filter(|(s, _)| *s == source).map(|(_, unit)| unit.rtp_time.ticks).collect()
    }

    #[test]
    fn audio_overflow_loses_the_oldest() {
        let outbox = Outbox::default();
        for i in 0..MAX_AUDIO as u64 + 3 {
            assert_eq!(outbox.push(SourceKind::Microphone, unit(i, true)), Pushed::Queued);
        }
        assert_eq!(outbox.dropped(), 3);
        assert_eq!(times(&outbox, SourceKind::Microphone), (3..MAX_AUDIO as u64 + 3).collect::<Vec<_>>());
    }

    #[test]
    fn video_overflow_waits_for_a_key_frame() {
        let outbox = Outbox::default();
        for i in 0..MAX_VIDEO as u64 {
            assert_eq!(outbox.push(SourceKind::Camera, unit(i, i == 0)), Pushed::Queued);
        }
        assert_eq!(outbox.push(SourceKind::Camera, unit(100, false)), Pushed::NeedsKeyFrame);
        assert_eq!(outbox.push(SourceKind::Camera, unit(101, false)), Pushed::AwaitingKeyFrame);
        assert_eq!(outbox.push(SourceKind::Camera, unit(102, true)), Pushed::Queued);
        assert_eq!(outbox.push(SourceKind::Camera, unit(103, false)), Pushed::Queued);
        assert_eq!(times(&outbox, SourceKind::Camera), [102, 103]);
        assert_eq!(outbox.dropped(), MAX_VIDEO as u64 + 2);
    }

    #[test]
    fn a_screen_that_overflows_takes_nothing_of_the_camera() {
        let outbox = Outbox::default();
        outbox.push(SourceKind::Camera, unit(1, true));
        for i in 0..=MAX_VIDEO as u64 {
            outbox.push(SourceKind::Screen, unit(i, i == 0));
        }
        assert_eq!(outbox.push(SourceKind::Camera, unit(2, false)), Pushed::Queued);
        let mut taken = Taken::default();
        outbox.take(&mut taken);
        let left: Vec<_> = taken.units.iter().map(|(source, unit)| (*source, unit.rtp_time.ticks)).collect();
        assert_eq!(left, [(SourceKind::Camera, 1), (SourceKind::Camera, 2)]);
    }

    #[test]
    fn audio_leaves_before_video_and_requests_leave_once() {
        let outbox = Outbox::default();
        outbox.push(SourceKind::Camera, unit(1, true));
        outbox.push(SourceKind::Microphone, unit(2, true));
        outbox.request_key_frame(Ssrc(7));
        outbox.request_key_frame(Ssrc(7));
        let mut taken = Taken::default();
        outbox.take(&mut taken);
        assert_eq!(taken.units[0].0, SourceKind::Microphone);
        assert_eq!(taken.requests, [Ssrc(7)]);
        assert!(outbox.is_empty());
    }
}
