//! One client's media as a pure state machine: ICE, DTLS and SRTP, sources, receive slots, and all of RTCP between.
//!
//! ```text
//!  handle_datagram -> link (ICE, DTLS, SRTP) -> slot -> what is missing, what can be decoded, how long it took
//!  handle_timeout  -> sources, checks, TWCC, NACK, PLI, reports -> Outbox
//! ```
//!
//! After each call: send what is in the [`Outbox`], take [`MediaClient::poll_event`] until there is none, and call
//! [`MediaClient::handle_timeout`] at [`MediaClient::next_timeout`]. What a real client has and this one has not: it never
//! lowers its bitrate, since its media is coded already, and it decodes nothing but its first picture.

mod feedback;
mod outbox;
mod pictures;
mod publisher;
mod slot;
#[cfg(test)]
mod tests;

pub use outbox::Outbox;
pub use publisher::{KEY_FRAME_INTERVAL, Publisher};

use super::{
    clip::{Clip, Found},
    departures::{Departures, Directory},
    figures::Figures,
    offer::{Agreed, IDS, Identity},
};
use feedback::Feedback;
use halloo_protocol::SourceOf;
use halloo_sfu::{
    client::{Client, Received, UnusableCredentials},
    dtls::Endpoint,
    room::SlotKind,
    rtp::{OutgoingHeader, RtpHeader},
};
use halloo_transport::{
    Ssrc, Timestamp,
    nack::pack,
    random::Random,
    reception::Route,
    reports::{ReportSchedule, compound, to_ntp},
    twcc::ArrivalLog,
};
use rtcp::{
    payload_feedbacks::picture_loss_indication::PictureLossIndication,
    transport_feedbacks::transport_layer_nack::TransportLayerNack,
};
use slot::{Incoming, Slot, Wanted};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

/// Publishers of its room that a client remembers.
const MAX_KNOWN: usize = 1_024;

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Media can flow.
    Connected,
    /// The first picture that can be decoded was whole: the payloads of its packets.
    FirstPicture(Vec<Vec<u8>>),
    /// A picture of this participant can be decoded for the first time.
    Face(u32),
    /// There never will be a connection.
    Failed(String),
}

/// What all clients of a process share.
#[derive(Clone, Debug)]
pub struct Common {
    /// The certificate.
    pub endpoint: Endpoint,
    /// The media.
    pub clip: Arc<Clip>,
    /// Wall-clock time since 1900 at [`Timestamp::ZERO`], for sender reports.
    pub ntp_at_zero: Duration,
}

/// One client.
#[derive(Debug)]
pub struct MediaClient {
    link: Client,
    clip: Arc<Clip>,
    ntp_at_zero: Duration,
    publisher: Option<Publisher>,
    slots: Vec<Slot>,
    arrivals: ArrivalLog,
    reports: ReportSchedule,
    random: Random,
    feedback_ssrc: Ssrc,
    cname: String,
    transport_seq: u16,
    room: Directory,
    known: HashMap<u32, Option<Arc<Departures>>>,
    connected: bool,
    seen: bool,
    /// Participants of whom there was a picture.
    faces: HashSet<u32>,
    failed: bool,
    events: Vec<Event>,
}

impl MediaClient {
    /// A client that begins to connect at its first [`MediaClient::handle_timeout`].
    ///
    /// # Errors
    /// Where the server's credentials cannot be used.
    pub fn new(
        now: Timestamp,
        common: &Common,
        own: &Identity,
        agreed: &Agreed,
        room: Directory,
        publisher: Option<Publisher>,
        seed: u64,
    ) -> Result<Self, UnusableCredentials> {
        Ok(Self {
            link: Client::new(now, &common.endpoint, own.credentials.ufrag(), agreed.server.clone())?,
            clip: Arc::clone(&common.clip),
            ntp_at_zero: common.ntp_at_zero,
            publisher,
            slots: agreed.slots.iter().map(|slot| Slot::new(*slot)).collect(),
            arrivals: ArrivalLog::new(),
            reports: ReportSchedule::new(),
            random: Random::new(seed),
            feedback_ssrc: own.microphone,
            cname: own.cname.clone(),
            transport_seq: 0,
            room,
            known: HashMap::new(),
            connected: false,
            seen: false,
            faces: HashSet::new(),
            failed: false,
            events: Vec::new(),
        })
    }

    /// Takes a datagram of the server, which is decrypted in place.
    pub fn handle_datagram(&mut self, now: Timestamp, datagram: &mut [u8], figures: &mut Figures, out: &mut Outbox) {
        match self.link.handle_datagram(now, datagram) {
            Received::Rtp(packet) => self.on_rtp(now, packet, figures),
            Received::Rtcp(packet) => self.on_rtcp(now, packet, figures, out),
            Received::Other => self.after_link(now, out),
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Timestamp, figures: &mut Figures, out: &mut Outbox) {
        if self.link.next_timeout() <= now {
            self.link.handle_timeout(now);
            self.after_link(now, out);
        }
        if !self.connected {
            return;
        }
        let Self { link, publisher, transport_seq, .. } = self;
        if let Some(publisher) = publisher {
            publisher.poll(now, figures, |header, payload| seal(link, transport_seq, now, header, payload, out));
        }
        for message in self.arrivals.poll(now, self.feedback_ssrc, self.feedback_ssrc) {
            self.send_rtcp(&[&message], out);
        }
        self.poll_slots(now, figures, out);
        if self.reports.poll(now, &mut self.random) {
            self.send_reports(now, out);
        }
    }

    /// When [`MediaClient::handle_timeout`] is next wanted.
    pub fn next_timeout(&self) -> Timestamp {
        let link = self.link.next_timeout();
        if !self.connected {
            return link;
        }
        let publisher = self.publisher.as_ref().map(Publisher::next_timeout);
        let slots = self.slots.iter().filter_map(Slot::next_timeout).min();
        let others = [publisher, slots, self.arrivals.next_timeout(), self.reports.next_timeout()];
        others.into_iter().flatten().fold(link, Timestamp::min)
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        (!self.events.is_empty()).then(|| self.events.remove(0))
    }

    /// Whether anybody receives the camera.
    pub fn set_filming(&mut self, filming: bool) {
        if let Some(publisher) = &mut self.publisher {
            publisher.set_filming(filming);
        }
    }

    /// Sends no new media any more; all else goes on.
    pub fn stop_publishing(&mut self) {
        self.publisher.iter_mut().for_each(Publisher::stop);
    }

    /// Says goodbye.
    pub fn close(&mut self, now: Timestamp, out: &mut Outbox) {
        self.link.close(now);
        self.flush(out);
    }

    fn after_link(&mut self, now: Timestamp, out: &mut Outbox) {
        self.flush(out);
        if self.link.is_connected() && !self.connected {
            self.connected = true;
            self.reports.start(now, &mut self.random);
            if let Some(publisher) = &mut self.publisher {
                publisher.start(now, &mut self.random);
            }
            self.events.push(Event::Connected);
        }
        if let Some(failure) = self.link.failure()
            && !self.failed
        {
            self.failed = true;
            self.events.push(Event::Failed(failure.to_string()));
        }
    }

    fn flush(&mut self, out: &mut Outbox) {
        while let Some(datagram) = self.link.poll_transmit() {
            out.push(&datagram);
        }
    }

    fn on_rtp(&mut self, now: Timestamp, packet: &[u8], figures: &mut Figures) {
        let Ok(header) = RtpHeader::parse(packet) else { return };
        if let Some(seq) = header.transport_seq(IDS.transport_cc) {
            self.arrivals.on_packet(now, seq, packet.len());
        }
        let ssrc = Ssrc(header.ssrc());
        let known = self.slots.iter_mut().find(|slot| slot.agreed().ssrc == ssrc || slot.agreed().rtx == Some(ssrc));
        let (Some(slot), Some(payload)) = (known, header.payload()) else { return };
        let mut incoming = Incoming {
            seq: header.seq(),
            timestamp: header.timestamp(),
            marker: header.marker(),
            csrc: header.csrcs().next(),
            payload,
            route: Route::Direct,
        };
        if slot.agreed().rtx == Some(ssrc) {
            // A retransmission begins with the number of what it repeats; a probe has nothing behind it (RFC 4588, section 4).
            let [high, low, payload @ ..] = payload else {
                figures.counts.padding += 1;
                return;
            };
            if payload.is_empty() {
                figures.counts.padding += 1;
                return;
            }
            incoming =
                Incoming { seq: u16::from_be_bytes([*high, *low]), payload, route: Route::Retransmitted, ..incoming };
        } else if payload.is_empty() {
            figures.counts.padding += 1;
            return;
        }
        let is_video = slot.agreed().kind == SlotKind::Video;
        let before = figures.counts.pictures_decodable;
        if !slot.on_packet(now, &incoming, &mut figures.counts) {
            return;
        }
        figures.counts.packets_received += 1;
        figures.counts.bytes_received += packet.len() as i64;
        if is_video && figures.counts.pictures_decodable > before {
            if !std::mem::replace(&mut self.seen, true) {
                self.events.push(Event::FirstPicture(slot.first_picture()));
                self.slots.iter_mut().for_each(Slot::keep_nothing);
            }
            self.note_face(&incoming);
        }
        self.compare(now, &incoming, figures);
    }

    fn note_face(&mut self, packet: &Incoming<'_>) {
        let Some(source) = packet.csrc.and_then(SourceOf::from_csrc) else { return };
        let number = source.participant.0;
        if self.faces.len() < MAX_KNOWN && self.faces.insert(number) {
            self.events.push(Event::Face(number));
        }
    }

    /// Compares a packet with what its source sent, and takes the time that it needed.
    fn compare(&mut self, now: Timestamp, packet: &Incoming<'_>, figures: &mut Figures) {
        let Some(source) = packet.csrc.and_then(SourceOf::from_csrc) else { return };
        let number = source.participant.0;
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        let room = &self.room;
        let known = self.known.entry(number).or_insert_with(|| room.get(number));
        // Others than our own may be in the room.
        let Some(departures) = known else { return };
        match self.clip.find(packet.payload) {
            Found::At(position) => {
                if packet.route == Route::Direct
                    && let Some(left) = departures.get(position)
                {
                    figures.delay.record(now.since(left));
                }
            }
            Found::Repeated => {}
            Found::Unknown => figures.counts.altered += 1,
        }
    }

    fn on_rtcp(&mut self, now: Timestamp, packet: &[u8], figures: &mut Figures, out: &mut Outbox) {
        let Self { link, publisher, transport_seq, slots, .. } = self;
        let counts = &mut figures.counts;
        feedback::read(packet, |feedback| match (feedback, &mut *publisher) {
            (Feedback::Again(ssrc, seq), Some(publisher)) if ssrc == publisher.camera() => {
                counts.asked_again += 1;
                publisher.send_again(seq, |header, payload| seal(link, transport_seq, now, header, payload, out));
            }
            (Feedback::KeyFrame(ssrc), Some(publisher)) if ssrc == publisher.camera() => {
                counts.key_frames_wanted += 1;
                publisher.ask_for_key_frame();
            }
            (Feedback::SenderReport(ssrc, ntp_middle), _) => {
                if let Some(slot) = slots.iter_mut().find(|slot| slot.agreed().ssrc == ssrc) {
                    slot.on_sender_report(now, ntp_middle);
                }
            }
            _ => {}
        });
    }

    fn poll_slots(&mut self, now: Timestamp, figures: &mut Figures, out: &mut Outbox) {
        for at in 0..self.slots.len() {
            let sender_ssrc = self.feedback_ssrc.0;
            while let Some(slot) = self.slots.get_mut(at)
                && slot.next_timeout().is_some_and(|due| due <= now)
                && let Some(wanted) = slot.poll(now, &mut figures.counts)
            {
                let media_ssrc = slot.agreed().ssrc.0;
                match wanted {
                    Wanted::Packets(seqs) => {
                        self.send_rtcp(&[&TransportLayerNack { sender_ssrc, media_ssrc, nacks: pack(&seqs) }], out);
                    }
                    Wanted::KeyFrame => self.send_rtcp(&[&PictureLossIndication { sender_ssrc, media_ssrc }], out),
                }
            }
        }
    }

    fn send_reports(&mut self, now: Timestamp, out: &mut Outbox) {
        let blocks: Vec<_> = self.slots.iter_mut().filter_map(|slot| slot.report(now)).collect();
        let senders = self.publisher.as_ref().map(|publisher| publisher.senders(now)).unwrap_or_default();
        let ntp = to_ntp(self.ntp_at_zero + now.since(Timestamp::ZERO));
        let packets = compound(ntp, &senders, self.feedback_ssrc, &blocks, &self.cname);
        let packets: Vec<&dyn rtcp::Packet> = packets.iter().map(AsRef::as_ref).collect();
        self.send_rtcp(&packets, out);
    }

    fn send_rtcp(&mut self, packets: &[&dyn rtcp::Packet], out: &mut Outbox) {
        let room = out.room();
        let mut len = 0;
        for packet in packets {
            let Ok(bytes) = packet.marshal() else { return };
            let Some(place) = room.get_mut(len..len + bytes.len()) else { return };
            place.copy_from_slice(&bytes);
            len += bytes.len();
        }
        if let Ok(sealed) = self.link.protect_rtcp(room, len) {
            out.commit(sealed);
        }
    }
}

fn seal(
    link: &mut Client,
    transport_seq: &mut u16,
    now: Timestamp,
    header: &OutgoingHeader<'_>,
    payload: &[u8],
    out: &mut Outbox,
) {
    *transport_seq = transport_seq.wrapping_add(1);
    // 6.18 fixed point seconds.
    let abs_send_time = (((now.as_nanos() << 18) / 1_000_000_000) & 0xff_ffff) as u32;
    let header = OutgoingHeader { transport_seq: Some(*transport_seq), abs_send_time: Some(abs_send_time), ..*header };
    let room = out.room();
    let Ok(layout) = header.write_packet(payload, room) else { return };
    if let Ok(len) = link.protect_rtp(room, layout.len) {
        out.commit(len);
    }
}
