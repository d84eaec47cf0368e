//! Media on its way from the encoders' threads to the connection's task.
//!
//! Bounded per medium. Audio that overflows loses its oldest unit. Video that overflows loses everything queued, because what
//! follows a gap cannot be decoded, and takes nothing until the next key frame. Pushing locks for the length of a move.

use halloo_transport::session::{MediaKind, MediaUnit};
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

/// 320 ms of sound: the connection's task has stalled for longer than anyone wants to hear late.
const MAX_AUDIO: usize = 16;
/// Half a second of pictures at 30 per second.
const MAX_VIDEO: usize = 16;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queues: Mutex<Queues>,
}

#[derive(Debug, Default)]
struct Queues {
    audio: VecDeque<MediaUnit>,
    video: VecDeque<MediaUnit>,
    /// Video is refused until a key frame: the peer has nothing to decode the rest with.
    needs_key_frame: bool,
    /// Key frames to ask the peer for, by kind.
    requests: Requests,
    dropped: u64,
}

/// Which media the peer is to be asked a key frame for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Requests {
    audio: bool,
    video: bool,
}

impl Requests {
    /// Takes out the kinds that were asked for.
    pub(super) fn kinds(self) -> impl Iterator<Item = MediaKind> {
        let audio = self.audio.then_some(MediaKind::Audio);
        audio.into_iter().chain(self.video.then_some(MediaKind::Video))
    }
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
    pub(super) units: VecDeque<(MediaKind, MediaUnit)>,
    pub(super) requests: Requests,
}

impl Outbox {
    /// Queues a unit; see the module's text for what is dropped.
    pub(super) fn push(&self, kind: MediaKind, unit: MediaUnit) -> Pushed {
        let mut queues = self.lock();
        match kind {
            MediaKind::Audio => {
                if queues.audio.len() >= MAX_AUDIO {
                    queues.audio.pop_front();
                    queues.dropped += 1;
                }
                queues.audio.push_back(unit);
                Pushed::Queued
            }
            MediaKind::Video => queues.push_video(unit),
        }
    }

    /// Notes that the peer is to be asked for a key frame.
    pub(super) fn request_key_frame(&self, kind: MediaKind) {
        let mut queues = self.lock();
        match kind {
            MediaKind::Audio => queues.requests.audio = true,
            MediaKind::Video => queues.requests.video = true,
        }
    }

    /// Drops what is queued as video and refuses delta frames from here on: a unit was lost on the way out.
    pub(super) fn require_key_frame(&self) {
        self.lock().drop_video();
    }

    /// Moves everything queued into `taken`, which is empty.
    pub(super) fn take(&self, taken: &mut Taken) {
        let mut queues = self.lock();
        taken.units.extend(queues.audio.drain(..).map(|unit| (MediaKind::Audio, unit)));
        taken.units.extend(queues.video.drain(..).map(|unit| (MediaKind::Video, unit)));
        taken.requests = std::mem::take(&mut queues.requests);
    }

    /// Whether [`Outbox::take`] would give something.
    pub(super) fn is_empty(&self) -> bool {
        let queues = self.lock();
        queues.audio.is_empty() && queues.video.is_empty() && !queues.requests.audio && !queues.requests.video
    }

    /// Units dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queues {
    fn push_video(&mut self, unit: MediaUnit) -> Pushed {
        if unit.key_frame {
            self.needs_key_frame = false;
        } else if self.needs_key_frame {
            self.dropped += 1;
            return Pushed::AwaitingKeyFrame;
        }
        if self.video.len() >= MAX_VIDEO {
            self.drop_video();
            if !unit.key_frame {
                self.dropped += 1;
                return Pushed::NeedsKeyFrame;
            }
            self.needs_key_frame = false;
        }
        self.video.push_back(unit);
        Pushed::Queued
    }

    fn drop_video(&mut self) {
        self.dropped += self.video.len() as u64;
        self.video.clear();
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
        }
    }

    fn times(outbox: &Outbox, kind: MediaKind) -> Vec<u64> {
        let mut taken = Taken::default();
        outbox.take(&mut taken);
        taken.units.iter().filter(|(k, _)| *k == kind).map(|(_, unit)| unit.rtp_time.ticks).collect()
    }

    #[test]
    fn audio_overflow_loses_the_oldest() {
        let outbox = Outbox::default();
        for i in 0..MAX_AUDIO as u64 + 3 {
            assert_eq!(outbox.push(MediaKind::Audio, unit(i, true)), Pushed::Queued);
        }
        assert_eq!(outbox.dropped(), 3);
        assert_eq!(times(&outbox, MediaKind::Audio), (3..MAX_AUDIO as u64 + 3).collect::<Vec<_>>());
    }

    #[test]
    fn video_overflow_waits_for_a_key_frame() {
        let outbox = Outbox::default();
        for i in 0..MAX_VIDEO as u64 {
            assert_eq!(outbox.push(MediaKind::Video, unit(i, i == 0)), Pushed::Queued);
        }
        assert_eq!(outbox.push(MediaKind::Video, unit(100, false)), Pushed::NeedsKeyFrame);
        assert_eq!(outbox.push(MediaKind::Video, unit(101, false)), Pushed::AwaitingKeyFrame);
        assert_eq!(outbox.push(MediaKind::Video, unit(102, true)), Pushed::Queued);
        assert_eq!(outbox.push(MediaKind::Video, unit(103, false)), Pushed::Queued);
        assert_eq!(times(&outbox, MediaKind::Video), [102, 103]);
        assert_eq!(outbox.dropped(), MAX_VIDEO as u64 + 2);
    }

    #[test]
    fn audio_leaves_before_video_and_requests_leave_once() {
        let outbox = Outbox::default();
        outbox.push(MediaKind::Video, unit(1, true));
        outbox.push(MediaKind::Audio, unit(2, true));
        outbox.request_key_frame(MediaKind::Video);
        let mut taken = Taken::default();
        outbox.take(&mut taken);
        assert_eq!(taken.units[0].0, MediaKind::Audio);
        assert_eq!(taken.requests.kinds().collect::<Vec<_>>(), [MediaKind::Video]);
        assert!(outbox.is_empty());
    }
}
