//! The path of a packet through the room.
//!
//! Packets are taken in as they come and go out together, to one receiver after another: what a receiver's packets touch
//! (numbers, keys, arena) is touched once a burst instead of once a packet. A picture whose last packet is still to come waits
//! for it a moment ([`LINGER`]): a sender's packets come microseconds apart, and to each receiver they then leave in one send.

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

/// Longest wait of a picture's packets for the rest of it: what a burst from one sender takes, and far below what is noticed.
const LINGER: Duration = Duration::from_micros(500);

/// Packets that wait to go out at most: all of a source's go to one receiver before the next one's turn, so that they leave in
/// one send, and their bytes are in a cache still.
const MAX_WAITING: usize = 64;
/// Length of a dependency descriptor without a structure and anything else that concerns later packets.
const MANDATORY_DESCRIPTOR: usize = 3;

/// A packet that was taken in: where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    publisher: usize,
    section: usize,
    encoding: usize,
    seq: SeqNo,
    /// The stream's highest number then.
    highest: SeqNo,
    restarted: bool,
    /// More of its picture is to come.
    unfinished: bool,
}

impl Taken {
    const fn is_of_same_source(&self, other: &Self) -> bool {
        self.publisher == other.publisher && self.section == other.section
    }

    /// Whether `other` is packet `seq` of the same stream.
    fn is_followed_by(&self, seq: SeqNo, other: &Self) -> bool {
        self.is_of_same_source(other) && self.encoding == other.encoding && other.seq == seq
    }
}

impl Room {
    /// Takes a decrypted RTP packet. It goes out at the next [`Room::forward`], or call of another method with an egress.
    pub fn handle_rtp(&mut self, now: Timestamp, from: ParticipantId, packet: &[u8], egress: &mut impl Egress) {
        let Some(index) = self.index_of(from) else { return };
        let Ok(header) = RtpHeader::parse(packet) else { return };
        if self.waiting.len() >= MAX_WAITING || self.may_change_structure(index, &header) {
            self.forward(now, egress);
        }
        let Some(taken) = self.take_in(now, index, packet.len(), &header) else { return };
        if self.stale.audio || self.stale.video {
            self.forward(now, egress);
            self.assign(now, egress);
        }
        if self.waiting.is_empty() {
            self.waiting_since = now;
        }
        self.waiting.push(taken);
    }

    /// Until when what was taken in should rather wait for more than be sent on; `None` where there is nothing to wait for.
    pub fn lingers_until(&self) -> Option<Timestamp> {
        self.waiting.last().filter(|taken| taken.unfinished).map(|_| self.waiting_since + LINGER)
    }

    /// Sends on what was taken in: to be called at the end of each batch of packets.
    pub fn forward(&mut self, now: Timestamp, egress: &mut impl Egress) {
        if self.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let mut rest = &waiting[..];
        for of_source in waiting.chunk_by(Taken::is_of_same_source) {
            self.fan_out(now, rest, of_source.len(), egress);
            rest = rest.get(of_source.len()..).unwrap_or_default();
        }
        self.waiting = waiting;
        self.waiting.clear();
    }

    /// Whether a packet may bring a structure, by which those before it must not be read.
    fn may_change_structure(&self, index: usize, header: &RtpHeader<'_>) -> bool {
        let Some(Some(publisher)) = self.publishers.get(index) else { return false };
        !self.waiting.is_empty()
            && header
                .extension(publisher.ids.dependency_descriptor)
                .is_some_and(|descriptor| descriptor.len() > MANDATORY_DESCRIPTOR)
    }

    /// Finds the packet's stream and stores it there; `None` where nothing is to be forwarded.
    fn take_in(&mut self, now: Timestamp, index: usize, size: usize, header: &RtpHeader<'_>) -> Option<Taken> {
        let publisher = self.publishers.get_mut(index)?.as_mut()?;
        self.due.touch(index);
        if let Some(seq) = header.transport_seq(publisher.ids.transport_cc) {
            publisher.arrivals.on_packet(now, seq, size);
            publisher.any_ssrc = Ssrc(header.ssrc());
        }
        if !publisher.police(now, size) {
            self.note_policed(now, index);
            return None;
        }
        let route = publisher.route(header)?;
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
        let (seq, restarted) = match stream.receive(now, header, &ids, wire, payload, kind) {
            Received::New(seq) => (seq, false),
            Received::Restarted(seq) => (seq, true),
            Received::Nothing => return None,
        };
        let highest = stream.history().highest()?;
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
        Some(Taken {
            publisher: index,
            section: usize::from(route.section),
            encoding: usize::from(route.encoding),
            seq,
            highest,
            restarted,
            unfinished: source.kind() != SourceKind::Microphone && !header.marker(),
        })
    }

    /// Gives the first `count` of the packets that wait, which are one source's, to each slot that shows it.
    fn fan_out(&mut self, now: Timestamp, waiting: &[Taken], count: usize, egress: &mut impl Egress) {
        let Self { publishers, subscribers, due, .. } = self;
        let burst = waiting.get(..count).unwrap_or_default();
        let Some(first) = burst.first() else { return };
        let Some(Some(publisher)) = publishers.get(first.publisher) else { return };
        let Some(section) = publisher.sections.get(first.section) else { return };
        let mut packets = [None; MAX_WAITING];
        for (packet, taken) in packets.iter_mut().zip(burst) {
            let Some(stream) = section.streams.get(taken.encoding) else { continue };
            let path = Path { now, publishers, section, stream, encoding: taken.encoding };
            *packet = stream.history().get(now, taken.seq).map(|stored| (path, stored));
        }
        let mut listeners = section.listeners.iter().peekable();
        while let Some(listener) = listeners.next() {
            if let Some(next) = listeners.peek()
                && let Some(Some(subscriber)) = subscribers.get(usize::from(next.subscriber))
            {
                subscriber.prefetch(next.slot);
                egress.prepare(subscriber.id);
            }
            let Some(Some(subscriber)) = subscribers.get_mut(usize::from(listener.subscriber)) else { continue };
            for (at, (packet, taken)) in packets.iter().zip(burst).enumerate() {
                let Some((path, stored)) = packet else { continue };
                if taken.restarted
                    && let Some(slot) = subscriber.slots.get_mut(usize::from(listener.slot))
                    && slot.stream.selected().encoding().is_none_or(|e| usize::from(e) == taken.encoding)
                {
                    slot.stream.restart();
                }
                if path.offer(subscriber, *listener, stored, egress) {
                    let later = waiting.get(at + 1..).unwrap_or_default();
                    path.catch_up(subscriber, *listener, taken, later, egress);
                }
            }
            if subscriber.queued_bytes() > 0 {
                due.touch(usize::from(listener.subscriber));
            }
            egress.turn_ends();
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
#[derive(Clone, Copy)]
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
            stream: self.encoding as u8,
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

    /// A key frame's first packet came after others of it: those follow now, but for the ones among `later`, whose turn comes.
    fn catch_up(
        &self,
        subscriber: &mut Subscriber,
        listener: Listener,
        taken: &Taken,
        later: &[Taken],
        egress: &mut impl Egress,
    ) {
        for seq in (taken.seq.0 + 1..=taken.highest.0).map(SeqNo) {
            if later.iter().any(|other| taken.is_followed_by(seq, other)) {
                continue;
            }
            if let Some(stored) = self.stream.history().get(self.now, seq) {
                self.offer(subscriber, listener, &stored, egress);
            }
        }
    }
}

/// Whose sources a subscriber never gets: its own.
pub(super) const fn is_own(subscriber: ParticipantId, source: SourceId) -> bool {
    source.participant().get() == subscriber.get()
}
