//! The path of a packet through the room.

use super::{
    Event, Room,
    config::{ParticipantId, SlotKind, SourceId, SourceKind},
    history::StoredPacket,
    interface::Egress,
    publisher::{Listener, Publisher, Section},
    stream::{Received, Stream},
    subscriber::{Departing, Purpose, Subscriber},
};
use crate::{
    rtp::RtpHeader,
    slot::{SourcePacket, Verdict},
};
use halloo_transport::{SeqNo, Ssrc, Timestamp, reception};
use std::time::Duration;

/// Longest time between two notices that a publisher is policed.
const NOTICE_INTERVAL: Duration = Duration::from_millis(5_000);

/// A packet that was taken in: where it is.
#[derive(Clone, Copy, Debug)]
struct Taken {
    section: usize,
    encoding: usize,
    seq: SeqNo,
    restarted: bool,
}

impl Room {
    /// Takes a decrypted RTP packet.
    pub fn handle_rtp(&mut self, now: Timestamp, from: ParticipantId, packet: &[u8], egress: &mut impl Egress) {
        let Some(index) = self.index_of(from) else { return };
        let Some(taken) = self.take_in(now, index, packet) else { return };
        if self.stale.audio || self.stale.video {
            self.assign(now, egress);
        }
        self.fan_out(now, index, taken, egress);
    }

    /// Finds the packet's stream and stores it there; `None` where nothing is to be forwarded.
    fn take_in(&mut self, now: Timestamp, index: usize, packet: &[u8]) -> Option<Taken> {
        let header = RtpHeader::parse(packet).ok()?;
        let publisher = self.publishers.get_mut(index)?.as_mut()?;
        if let Some(seq) = header.transport_seq(publisher.ids.transport_cc) {
            publisher.arrivals.on_packet(now, seq, packet.len());
            publisher.any_ssrc = Ssrc(header.ssrc());
        }
        if !publisher.police(now, packet.len()) {
            self.note_policed(now, index);
            return None;
        }
        let route = publisher.route(&header)?;
        let payload = header.payload()?;
        let (wire, payload, kind) = if route.retransmission {
            // Without more than the original's number it is only padding (RFC 4588, section 4).
            let (number, payload) = payload.split_first_chunk::<2>()?;
            if payload.is_empty() {
                return None;
            }
            (u16::from_be_bytes(*number), payload, reception::Route::Retransmitted)
        } else {
            (header.seq(), payload, reception::Route::Direct)
        };
        let ids = publisher.ids;
        let section = publisher.sections.get_mut(usize::from(route.section))?;
        if !section.published {
            return None;
        }
        let stream = section.streams.get_mut(usize::from(route.encoding))?;
        let (seq, restarted) = match stream.receive(now, &header, &ids, wire, payload, kind) {
            Received::New(seq) => (seq, false),
            Received::Restarted(seq) => (seq, true),
            Received::Nothing => return None,
        };
        section.last_packet_at = now;
        let (source, started, muted) = (section.source, !section.live, section.muted);
        section.live = true;
        if started {
            self.events.push_back(Event::SourceStarted(source));
            self.availability_changed(source);
        }
        if muted {
            return None;
        }
        if source.kind() == SourceKind::Microphone {
            // Without a level it is taken for a quiet voice, so that it is heard where there is room.
            let level = header.audio_level(ids.audio_level).map_or(60, |level| level.level);
            self.on_level(now, index, header.timestamp(), level);
            if !self.loudest.contains(index) {
                return None;
            }
        }
        Some(Taken { section: usize::from(route.section), encoding: usize::from(route.encoding), seq, restarted })
    }

    fn fan_out(&mut self, now: Timestamp, index: usize, taken: Taken, egress: &mut impl Egress) {
        let Self { publishers, subscribers, .. } = self;
        let Some(Some(publisher)) = publishers.get(index) else { return };
        let Some(section) = publisher.sections.get(taken.section) else { return };
        let Some(stream) = section.streams.get(taken.encoding) else { return };
        let Some(stored) = stream.history().get(now, taken.seq) else { return };
        let path = Path { now, publishers, section, stream, encoding: taken.encoding };
        for listener in &section.listeners {
            let Some(Some(subscriber)) = subscribers.get_mut(usize::from(listener.subscriber)) else { continue };
            if taken.restarted
                && let Some(slot) = subscriber.slots.get_mut(usize::from(listener.slot))
                && slot.stream.selected().encoding().is_none_or(|e| usize::from(e) == taken.encoding)
            {
                slot.stream.restart();
            }
            if path.offer(subscriber, *listener, &stored, egress) {
                path.catch_up(subscriber, *listener, taken.seq, egress);
            }
        }
    }

    fn on_level(&mut self, now: Timestamp, index: usize, rtp: u32, level: u8) {
        self.stale.audio |= self.loudest.on_level(now, index, level).is_some();
        self.dominant.on_level(now, index, rtp, level);
        self.decide_dominant(now);
    }

    /// Decides who is dominant, where it is time to.
    pub(super) fn decide_dominant(&mut self, now: Timestamp) {
        let Some(speaker) = self.dominant.poll(now) else { return };
        if let Some(at) = self.recency.iter().position(|place| *place == speaker)
            && let Some(upto) = self.recency.get_mut(..=at)
        {
            upto.rotate_right(1);
        }
        self.events.push_back(Event::DominantSpeaker(self.id_at(speaker)));
        self.stale.video = true;
    }

    fn note_policed(&mut self, now: Timestamp, index: usize) {
        let Some(Some(publisher)) = self.publishers.get_mut(index) else { return };
        if publisher.policed_at.is_some_and(|at| now.since(at) < NOTICE_INTERVAL) {
            return;
        }
        publisher.policed_at = Some(now);
        let rate = |s: &&Section| s.streams.iter().map(Stream::rate).max().unwrap_or_default();
        let largest = publisher.sections.iter().max_by_key(rate).map_or(SourceKind::Camera, |s| s.source.kind());
        self.events.push_back(Event::Policed { publisher: publisher.id, largest });
    }
}

/// What is the same for all subscribers of a packet.
struct Path<'a> {
    now: Timestamp,
    publishers: &'a [Option<Publisher>],
    section: &'a Section,
    stream: &'a Stream,
    encoding: usize,
}

impl Path<'_> {
    /// Gives one packet to one slot; whether the slot's stream started with it.
    fn offer(
        &self,
        subscriber: &mut Subscriber,
        listener: Listener,
        stored: &StoredPacket<'_>,
        egress: &mut impl Egress,
    ) -> bool {
        if !subscriber.connected || stored.is_unread() {
            return false;
        }
        let Some(slot) = subscriber.slots.get_mut(usize::from(listener.slot)) else { return false };
        let packet = SourcePacket {
            stream: self.encoding as u32,
            seq: stored.facts.seq,
            timestamp: stored.facts.timestamp,
            csrc: self.section.source.csrc(),
            marker: stored.facts.marker,
            layers: self.stream.layers(self.encoding as u8, &stored.facts),
        };
        let (sent, purpose, starts) = match slot.stream.offer(self.now, &packet) {
            Verdict::Forward { sent, starts } => (sent, Purpose::Media, starts),
            Verdict::Fill(sent) => (sent, Purpose::Fill, false),
            Verdict::Nothing => return false,
        };
        let departing = Departing { slot: listener.slot, purpose, sent };
        subscriber.forward(self.now, departing, stored, self.publishers, egress);
        starts && SlotKind::Video == self.section.source.kind().slot_kind()
    }

    /// A key frame's first packet came after others of it: those follow now.
    fn catch_up(&self, subscriber: &mut Subscriber, listener: Listener, from: SeqNo, egress: &mut impl Egress) {
        let Some(highest) = self.stream.history().highest() else { return };
        for seq in from.0 + 1..=highest.0 {
            if let Some(stored) = self.stream.history().get(self.now, SeqNo(seq)) {
                self.offer(subscriber, listener, &stored, egress);
            }
        }
    }
}

/// Whose sources a subscriber never gets: its own.
pub(super) const fn is_own(subscriber: ParticipantId, source: SourceId) -> bool {
    source.participant().get() == subscriber.get()
}
