//! What a room does by itself: paced packets, probes, requests for missing packets, feedback, reports, and every
//! [`CYCLE`] a look at rates, bandwidth and sources that fell silent.

use super::{
    Room,
    config::{SourceId, SourceKind},
    due::Times,
    interface::Egress,
    messages,
    publisher::{GONE_AFTER, Publisher},
    subscriber::Subscriber,
};
use halloo_transport::{
    RtpTime, Ssrc, Timestamp,
    reports::{self, SenderInfo},
};
use std::time::Duration;

/// Time between two looks.
const CYCLE: Duration = Duration::from_millis(100);
/// How long what is not sent on can wait.
const SLACK: Duration = Duration::from_millis(10);

impl Room {
    /// Does what is due: paced packets, feedback, reports.
    pub fn handle_timeout(&mut self, now: Timestamp, egress: &mut impl Egress) {
        self.forward(now, egress);
        self.decide_dominant(now);
        self.assign(now, egress);
        let due = self.next_cycle.filter(|due| *due <= now);
        let everyone = due.is_some();
        if let Some(due) = due {
            // Counted from when it was due, so that rooms which were late together are not so for good.
            self.next_cycle = Some(if due + CYCLE > now { due + CYCLE } else { now + CYCLE });
            self.cycle(now, egress);
            self.due.touch_all();
        } else {
            self.refresh_due();
        }
        for index in 0..self.subscribers.len() {
            if everyone || self.due.is_due(index, now) {
                self.serve(now, index, egress);
            }
        }
    }

    /// Does what is due of one participant.
    fn serve(&mut self, now: Timestamp, index: usize, egress: &mut impl Egress) {
        self.due.touch(index);
        self.serve_publisher(now, index, egress);
        let Self { publishers, subscribers, .. } = self;
        if let Some(Some(subscriber)) = subscribers.get_mut(index) {
            subscriber.handle_timeout(now, publishers, egress);
            self.report(now, index, egress);
        }
    }

    /// When [`Room::handle_timeout`] is next wanted; `None` while the room is empty.
    pub fn next_timeout(&mut self) -> Option<Timestamp> {
        self.timeouts().map(|(at, _)| at)
    }

    /// The same, and when it is wanted at the latest, where it is not called before for another reason: reports and decisions
    /// can wait a moment for the next packet, whose wake costs nothing more.
    pub fn timeouts(&mut self) -> Option<(Timestamp, Timestamp)> {
        self.refresh_due();
        let Times { exact, soft } = self.due.first();
        let soft = [self.next_cycle, self.dominant.next_timeout(), soft].into_iter().flatten().min();
        let at = exact.into_iter().chain(soft).min()?;
        let latest = exact.into_iter().chain(soft.map(|at| at + SLACK)).min()?;
        Some((at, latest))
    }

    fn refresh_due(&mut self) {
        let Self { publishers, subscribers, due, .. } = self;
        due.refresh(subscribers.len(), |index| {
            let publisher = publishers.get(index).and_then(Option::as_ref);
            let subscriber = subscribers.get(index).and_then(Option::as_ref);
            let earlier = |a: Option<Timestamp>, b: Option<Timestamp>| a.into_iter().chain(b).min();
            Times {
                exact: earlier(
                    publisher.and_then(Publisher::next_request_at),
                    subscriber.and_then(Subscriber::next_departure_at),
                ),
                soft: earlier(
                    publisher.and_then(|p| p.arrivals.next_timeout()),
                    subscriber.and_then(Subscriber::next_report_at),
                ),
            }
        });
    }

    fn cycle(&mut self, now: Timestamp, egress: &mut impl Egress) {
        let mut gone: Vec<SourceId> = Vec::new();
        for section in self.publishers.iter_mut().flatten().flat_map(|p| &mut p.sections) {
            section.streams.iter_mut().for_each(|stream| stream.measure(now));
            let video = section.source.kind() != SourceKind::Microphone;
            // A publisher that was told that nobody wants its pictures is right to send none.
            let asked = section.requested.is_none_or(|r| r.encodings > 0);
            if video && section.live && asked && now.since(section.last_packet_at) > GONE_AFTER {
                gone.push(section.source);
            }
        }
        gone.into_iter().for_each(|source| self.stop_source(source));
        self.assign(now, egress);
        self.allocate(now);
        self.request_layers(now);
        self.request_key_frames(now, egress);
    }

    /// Asks for every key frame that a slot waits for; requests for one stream are merged.
    pub(super) fn request_key_frames(&mut self, now: Timestamp, egress: &mut impl Egress) {
        for index in 0..self.subscribers.len() {
            self.request_key_frames_for(now, index, egress);
        }
    }

    /// Asks for every key frame that a slot of one subscriber waits for.
    pub(super) fn request_key_frames_for(&mut self, now: Timestamp, index: usize, egress: &mut impl Egress) {
        for slot in 0..super::subscriber::MAX_SLOTS {
            let subscriber = self.subscribers.get(index).and_then(Option::as_ref).filter(|s| s.connected);
            let Some(slot) = subscriber.and_then(|s| s.slots.get(slot)) else { return };
            if let (Some(source), Some(encoding)) = (slot.showing, slot.stream.selected().needs_key_frame()) {
                self.ask_for_key_frame(now, source, usize::from(encoding), egress);
            }
        }
    }

    /// Feedback about what a publisher sends, and requests for what is missing of it.
    fn serve_publisher(&mut self, now: Timestamp, index: usize, egress: &mut impl Egress) {
        let rtt = self.subscribers.get(index).and_then(Option::as_ref).and_then(|s| s.rtt);
        let Some(Some(publisher)) = self.publishers.get_mut(index) else { return };
        let (id, feedback_ssrc) = (publisher.id, publisher.feedback_ssrc);
        for message in publisher.arrivals.poll(now, feedback_ssrc, publisher.any_ssrc) {
            egress.rtcp(id, &messages::single(&message));
        }
        for stream in publisher.sections.iter_mut().filter(|s| !s.muted).flat_map(|s| &mut s.streams) {
            if stream.next_timeout().is_none_or(|due| due > now) {
                continue;
            }
            let missing = stream.missing(now, rtt);
            if let (Some(ssrc), false) = (stream.ssrc, missing.is_empty()) {
                egress.rtcp(id, &messages::negative_acknowledgement(feedback_ssrc, ssrc, &missing));
            }
        }
    }

    /// The compound report to one participant, where it is due: about our slots and about its streams.
    fn report(&mut self, now: Timestamp, index: usize, egress: &mut impl Egress) {
        let (ntp, wall_clock) = (self.ntp(now), self.wall_clock(now));
        let Self { publishers, subscribers, .. } = self;
        let Some(Some(subscriber)) = subscribers.get_mut(index) else { return };
        if !subscriber.connected || !subscriber.reports.poll(now, &mut subscriber.random) {
            return;
        }
        let senders: Vec<SenderInfo> =
            subscriber.slots.iter().filter_map(|slot| sender_info(now, wall_clock, slot, publishers)).collect();
        let (id, cname, feedback_ssrc) = (subscriber.id, &subscriber.cname, subscriber.feedback_ssrc);
        let mut blocks = Vec::new();
        if let Some(Some(publisher)) = publishers.get_mut(index) {
            for stream in publisher.sections.iter_mut().flat_map(|s| &mut s.streams) {
                let (Some(ssrc), last) = (stream.ssrc, stream.last_report) else { continue };
                if let Some(block) = stream.reception().report() {
                    blocks.push(reports::reception_report(now, Ssrc(ssrc), &block, last));
                }
            }
        }
        let bytes = messages::compound(&reports::compound(ntp, &senders, feedback_ssrc, &blocks, cname));
        egress.rtcp(id, &bytes);
    }
}

/// What we say of a slot: the source's clock, told on ours.
fn sender_info(
    now: Timestamp,
    wall_clock: i128,
    slot: &super::subscriber::Slot,
    publishers: &[Option<Publisher>],
) -> Option<SenderInfo> {
    let source = slot.showing.filter(|_| slot.packets > 0)?;
    let publisher = publishers.get(source.participant().index())?.as_ref().filter(|p| p.id == source.participant())?;
    let encoding = slot.stream.selected().encoding().unwrap_or_default();
    let stream = publisher.section(source.kind())?.streams.get(usize::from(encoding))?;
    let ticks = slot.stream.timestamp_at(stream.rtp_at(now, wall_clock, publisher.behind())?);
    Some(SenderInfo {
        ssrc: slot.config.ssrc,
        rtp_time: RtpTime::new(u64::from(ticks), slot.config.kind.clock_rate()),
        packets: slot.packets,
        bytes: slot.bytes,
    })
}
