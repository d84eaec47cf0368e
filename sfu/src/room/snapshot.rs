//! A room as it is at one moment, for operators: who sends what, who gets which of it, and why not more.
//!
//! Made on request only, by reading; it holds numbers of participants and sources, no names and no addresses.

use super::{
    Room,
    bandwidth::Desired,
    config::{ParticipantId, SlotKind, SourceId, SourceKind},
    publisher::{Publisher, Section},
    stream::Stream,
    subscriber::{Slot, Subscriber},
};
use crate::layers::Goal;
use halloo_transport::{Bitrate, Timestamp};
use serde::Serialize;
use std::time::Duration;

/// A room.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct RoomSnapshot {
    /// Everybody in it.
    pub participants: Vec<ParticipantSnapshot>,
    /// Who speaks.
    pub dominant_speaker: Option<u32>,
    /// Bytes of packets kept for retransmission.
    pub history_bytes: usize,
}

/// A participant.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ParticipantSnapshot {
    /// Its number, as in the protocol.
    pub participant: u32,
    /// Whether its transport is up.
    pub connected: bool,
    /// What it may publish and did.
    pub sources: Vec<SourceSnapshot>,
    /// What it receives.
    pub receives: ReceiveSnapshot,
}

/// A source.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct SourceSnapshot {
    /// `microphone`, `camera` or `screen`.
    pub kind: &'static str,
    /// Packets come.
    pub live: bool,
    /// It is muted, by its owner or a moderator.
    pub muted: bool,
    /// Its owner publishes it.
    pub published: bool,
    /// Slots that show it.
    pub slots: usize,
    /// What its publisher was last told that somebody receives; video only.
    pub asked_for: Option<AskedFor>,
    /// Its encodings that packets came of, smallest picture first.
    pub encodings: Vec<EncodingSnapshot>,
}

/// Layers that a publisher is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct AskedFor {
    /// Encodings.
    pub encodings: u8,
    /// Spatial layers of the largest of them.
    pub spatial: u8,
}

/// An encoding of a source.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct EncodingSnapshot {
    /// Which, from 0 for the smallest picture.
    pub encoding: u8,
    /// All layers together, in kbit/s with headers.
    pub kbps: f64,
    /// Packets that never came.
    pub lost: i64,
    /// Interarrival jitter in milliseconds (RFC 3550, section 6.4.1).
    pub jitter_ms: f64,
    /// What there is to choose from, worst first; video only.
    pub layers: Vec<LayerSnapshot>,
}

/// Layers that can be sent on.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct LayerSnapshot {
    /// Encoding, from 0 for the smallest picture.
    pub encoding: u8,
    /// Highest spatial layer.
    pub spatial: u8,
    /// Highest temporal layer.
    pub temporal: u8,
    /// Height of the picture.
    pub height: u32,
    /// What they take, in kbit/s with headers.
    pub kbps: f64,
}

/// A participant as a receiver.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ReceiveSnapshot {
    /// The estimate: what may be sent to it, in kbit/s.
    pub target_kbps: f64,
    /// What its path was seen to carry at most, where it was.
    pub capacity_kbps: Option<f64>,
    /// What sound takes of it.
    pub audio_kbps: f64,
    /// Round trip.
    pub rtt_ms: Option<f64>,
    /// Share of packets that were lost lately.
    pub loss: f64,
    /// Delay that the path adds to its least.
    pub queue_ms: f64,
    /// Bytes that wait here for their turn.
    pub paced_bytes: usize,
    /// A queue in its path is being emptied.
    pub draining: bool,
    /// It is sent less than it could be.
    pub application_limited: bool,
    /// It would be sent more if its path carried it: the path is probed.
    pub wants_more: bool,
    /// Packets that it asked for again, and those that were sent again.
    pub nacked: u64,
    /// See `nacked`.
    pub retransmitted: u64,
    /// Packets that only filled the path for a probe.
    pub padding: u64,
    /// Times that pictures were cut because too much waited.
    pub cut: u64,
    /// Its slots.
    pub slots: Vec<SlotSnapshot>,
}

/// A receive slot.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct SlotSnapshot {
    /// Its section.
    pub mid: String,
    /// `audio` or `video`.
    pub kind: &'static str,
    /// Packets sent in it.
    pub packets: u64,
    /// Whose source it shows, and which.
    pub shows: Option<Shows>,
    /// The layers that go out.
    pub current: Option<Layers>,
    /// The layers that it was given.
    pub given: Option<Layers>,
    /// The layers that its tile wants.
    pub wanted: Option<Layers>,
    /// Why it is not sent more.
    pub why: &'static str,
}

/// A source in a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Shows {
    /// Whose.
    pub participant: u32,
    /// Which.
    pub kind: &'static str,
}

/// Layers by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Layers {
    /// Encoding, from 0 for the smallest picture.
    pub encoding: u8,
    /// Highest spatial layer.
    pub spatial: u8,
    /// Highest temporal layer.
    pub temporal: u8,
}

impl From<Goal> for Layers {
    fn from(goal: Goal) -> Self {
        Self { encoding: goal.encoding, spatial: goal.spatial, temporal: goal.temporal }
    }
}

impl Room {
    /// The room as it is now.
    pub fn snapshot(&self, now: Timestamp) -> RoomSnapshot {
        let both = self.publishers.iter().flatten().zip(self.subscribers.iter().flatten());
        RoomSnapshot {
            participants: both.map(|(publisher, subscriber)| self.participant(now, publisher, subscriber)).collect(),
            dominant_speaker: self.dominant_speaker().map(ParticipantId::get),
            history_bytes: self.history_bytes(),
        }
    }

    fn participant(&self, now: Timestamp, publisher: &Publisher, subscriber: &Subscriber) -> ParticipantSnapshot {
        ParticipantSnapshot {
            participant: publisher.id.get(),
            connected: subscriber.connected,
            sources: publisher.sections.iter().map(|section| source(now, section)).collect(),
            receives: self.receives(now, subscriber),
        }
    }

    fn receives(&self, now: Timestamp, subscriber: &Subscriber) -> ReceiveSnapshot {
        let congestion = &subscriber.congestion;
        let counts = subscriber.counts;
        ReceiveSnapshot {
            target_kbps: kbps(congestion.target()),
            capacity_kbps: congestion.capacity().map(kbps),
            audio_kbps: kbps(subscriber.audio.rate()),
            rtt_ms: subscriber.rtt.map(millis),
            loss: round(congestion.loss()),
            queue_ms: millis(congestion.queue_delay()),
            paced_bytes: subscriber.queued_bytes(),
            draining: congestion.is_draining(),
            application_limited: congestion.is_application_limited(now),
            wants_more: subscriber.wants_more,
            nacked: counts.nacked,
            retransmitted: counts.retransmitted,
            padding: counts.padding,
            cut: counts.cut,
            slots: subscriber.slots.iter().map(|slot| self.slot(subscriber, slot)).collect(),
        }
    }

    fn slot(&self, subscriber: &Subscriber, slot: &Slot) -> SlotSnapshot {
        let selector = slot.stream.selected();
        let video = slot.config.kind == SlotKind::Video;
        let wanted = match slot.desired {
            Some(Desired::Goal(goal) | Desired::Top(goal)) => Some(goal),
            _ => None,
        };
        SlotSnapshot {
            mid: slot.config.mid.0.clone(),
            kind: if video { "video" } else { "audio" },
            packets: slot.packets,
            shows: slot.showing.map(|s| Shows { participant: s.participant().get(), kind: kind(s.kind()) }),
            current: selector.reached().filter(|_| video).map(Layers::from),
            given: selector.goal().filter(|_| video).map(Layers::from),
            wanted: wanted.map(Layers::from),
            why: self.why(subscriber, slot),
        }
    }

    /// What keeps a slot from being sent more.
    fn why(&self, subscriber: &Subscriber, slot: &Slot) -> &'static str {
        let Some(source) = slot.showing else { return "shows nobody" };
        if !subscriber.connected {
            return "not connected";
        }
        if source.kind() == SourceKind::Microphone {
            return "sound is sent whole";
        }
        if !self.is_sending(source) {
            return "the source sends no packets";
        }
        let selector = slot.stream.selected();
        match (slot.desired, selector.goal()) {
            (None, _) => "not shown: its tile has no height",
            (Some(_), None) => "the estimate is too low for its lowest layer",
            (Some(Desired::Goal(wanted) | Desired::Top(wanted)), Some(given)) if given < wanted => {
                "the estimate is too low for more"
            }
            (Some(_), Some(_)) if selector.needs_key_frame().is_some() => "waits for a key frame",
            (Some(Desired::All), Some(_)) => "the source sends nothing larger now",
            (Some(Desired::Goal(_) | Desired::Top(_)), Some(_)) => "fills its tile",
        }
    }

    fn is_sending(&self, source: SourceId) -> bool {
        let id = source.participant();
        let publisher = self.publishers.get(id.index()).and_then(Option::as_ref).filter(|p| p.id == id);
        publisher.and_then(|p| p.section(source.kind())).is_some_and(Section::is_available)
    }
}

fn source(now: Timestamp, section: &Section) -> SourceSnapshot {
    let started = |(_, stream): &(usize, &Stream)| stream.is_started();
    let streams = section.streams.iter().enumerate().filter(started);
    let larger = |encoding: usize| section.streams.iter().skip(encoding + 1).filter(|s| s.is_live(now)).count() as u32;
    SourceSnapshot {
        kind: kind(section.source.kind()),
        live: section.live,
        muted: section.muted,
        published: section.published,
        slots: section.listeners.len(),
        asked_for: section.requested.map(|r| AskedFor { encodings: r.encodings, spatial: r.spatial }),
        encodings: streams.map(|(index, stream)| encoding(section, index, stream, larger(index))).collect(),
    }
}

fn encoding(section: &Section, index: usize, stream: &Stream, larger: u32) -> EncodingSnapshot {
    let mut layers = Vec::new();
    if section.source.kind() != SourceKind::Microphone {
        stream.choices(index as u8, larger, section.source.kind() == SourceKind::Screen, &mut layers);
    }
    let layer = |layer: &crate::layers::Layer| LayerSnapshot {
        encoding: layer.goal.encoding,
        spatial: layer.goal.spatial,
        temporal: layer.goal.temporal,
        height: layer.height,
        kbps: kbps(layer.rate),
    };
    EncodingSnapshot {
        encoding: index as u8,
        kbps: kbps(stream.rate()),
        lost: stream.received().lost(),
        jitter_ms: millis(stream.received().jitter()),
        layers: layers.iter().map(layer).collect(),
    }
}

const fn kind(kind: SourceKind) -> &'static str {
    match kind {
        SourceKind::Microphone => "microphone",
        SourceKind::Camera => "camera",
        SourceKind::Screen => "screen",
    }
}

fn kbps(rate: Bitrate) -> f64 {
    round(rate.as_kbps_f64())
}

fn millis(time: Duration) -> f64 {
    round(time.as_secs_f64() * 1e3)
}

/// Three digits behind the point: this is for reading.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        av1::synthetic::Mode,
        room::{
            Command, VideoWish,
            simulation::{Link, Meeting},
        },
    };

    #[test]
    fn it_says_who_gets_what_and_why_not_more() {
        let mut meeting = Meeting::new(1, Link::CLEAN);
        for _ in 0..3 {
            meeting.join(Mode::L3T3, 2, 4);
        }
        let (camera, muted) = (meeting.source(0, SourceKind::Camera), meeting.source(2, SourceKind::Camera));
        let wish = |source, height| VideoWish { source, width: height * 16 / 9, height, pinned: false };
        let by = meeting.clients[1].id;
        meeting.command(Command::Show { by, wishes: vec![wish(camera, 180), wish(muted, 720)], others: (0, 0) });
        meeting.run(3_000);
        let snapshot = meeting.room.snapshot(meeting.now);
        assert_eq!(snapshot.participants.len(), 3);
        assert!(snapshot.history_bytes > 0);
        let sender = &snapshot.participants[0];
        let sent = sender.sources.iter().find(|s| s.kind == "camera").unwrap();
        assert!(sent.live && sent.slots == 2 && sent.encodings[0].layers.len() == 5, "{sent:?}");
        let receiver = &snapshot.participants[1].receives;
        assert!(receiver.target_kbps > 5_000.0 && receiver.rtt_ms.is_some_and(|rtt| rtt < 100.0), "{receiver:?}");
        let shows = |receiver: &ReceiveSnapshot, id: ParticipantId| {
            let of_it = |s: &&SlotSnapshot| s.kind == "video" && s.shows.is_some_and(|s| s.participant == id.get());
            receiver.slots.iter().find(of_it).cloned().unwrap()
        };
        let small = shows(receiver, meeting.clients[0].id);
        assert_eq!((small.why, small.current.map(|l| l.spatial)), ("fills its tile", Some(0)), "{small:?}");
        assert_eq!(shows(receiver, meeting.clients[2].id).current.map(|l| l.spatial), Some(2));
        assert!(receiver.slots.iter().any(|s| s.why == "shows nobody"));

        let subscriber = meeting.room.subscribers[1].as_mut().unwrap();
        subscriber.congestion =
            halloo_transport::congestion::CongestionController::new(halloo_transport::congestion::CongestionConfig {
                start: Bitrate::from_kbps(1_500),
                min: Bitrate::from_kbps(50),
                max: Bitrate::from_kbps(1_500),
                growth: halloo_transport::congestion::Growth::ByProbes,
            });
        meeting.run(500);
        let receiver = meeting.room.snapshot(meeting.now).participants.swap_remove(1).receives;
        assert_eq!(shows(&receiver, meeting.clients[2].id).why, "the estimate is too low for more");
        assert!(receiver.wants_more);
    }
}
