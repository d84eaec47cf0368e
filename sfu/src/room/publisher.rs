//! What a participant sends: its sections, which packet belongs to which stream, feedback to it, and its limit.
//!
//! An SSRC that the offer did not declare is latched from the mid and rid of its first packets (RFC 9143, section 9.2;
//! RFC 8852); after that the SSRC alone decides. The table of SSRCs is bounded: when it is full nothing more is latched.

use super::{
    config::{ParticipantConfig, ParticipantId, PublishedSection, SourceId, SourceKind},
    interface::RequestedLayers,
    stream::Stream,
};
use crate::rtp::{ExtensionIds, RtpHeader};
use halloo_transport::{Bitrate, Mid, Rid, Ssrc, Timestamp, twcc::ArrivalLog};
use std::time::Duration;

/// Encodings of a source that are used.
const MAX_ENCODINGS: usize = 4;
/// SSRCs that a participant may use in its whole stay.
const MAX_SSRCS: usize = 64;
/// A source whose packets stop for this long counts as gone (video only; audio may pause).
pub(super) const GONE_AFTER: Duration = Duration::from_millis(3_000);
/// What may come at once, as time at the limit.
const POLICE_BURST: Duration = Duration::from_millis(1_000);

/// A slot that shows a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Listener {
    /// The subscriber's place.
    pub(super) subscriber: u16,
    pub(super) slot: u8,
}

/// Where a packet belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Route {
    pub(super) section: u8,
    pub(super) encoding: u8,
    pub(super) retransmission: bool,
}

/// A published section: one source.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) source: SourceId,
    mid: Mid,
    payload_type: u8,
    rtx_payload_type: Option<u8>,
    rids: Vec<Option<Rid>>,
    pub(super) streams: Vec<Stream>,
    pub(super) listeners: Vec<Listener>,
    pub(super) muted: bool,
    pub(super) published: bool,
    /// Packets come.
    pub(super) live: bool,
    pub(super) last_packet_at: Timestamp,
    pub(super) requested: Option<RequestedLayers>,
    /// Fewer layers are wanted since then.
    pub(super) fewer_since: Option<Timestamp>,
    nack: bool,
}

impl Section {
    fn new(participant: ParticipantId, config: &PublishedSection) -> Self {
        let one = [crate::room::Encoding::default()];
        let encodings = if config.encodings.is_empty() { &one[..] } else { &config.encodings };
        let encodings = encodings.get(..encodings.len().min(MAX_ENCODINGS)).unwrap_or_default();
        let kind = config.kind.slot_kind();
        let ssrc = |ssrc: Option<Ssrc>| ssrc.map(|ssrc| ssrc.0);
        let stream = |e: &crate::room::Encoding| Stream::new(kind, config.nack, ssrc(e.ssrc), ssrc(e.rtx_ssrc));
        Self {
            source: SourceId::new(participant, config.kind),
            mid: config.mid.clone(),
            payload_type: config.payload_type.0,
            rtx_payload_type: config.rtx_payload_type.map(|pt| pt.0),
            rids: encodings.iter().map(|e| e.rid.clone()).collect(),
            streams: encodings.iter().map(stream).collect(),
            listeners: Vec::new(),
            muted: false,
            published: true,
            live: false,
            last_packet_at: Timestamp::ZERO,
            requested: None,
            fewer_since: None,
            nack: config.nack,
        }
    }

    /// Whether slots may show it.
    pub(super) const fn is_available(&self) -> bool {
        self.live && self.published && !self.muted
    }

    pub(super) fn remove_listener(&mut self, listener: Listener) {
        self.listeners.retain(|l| *l != listener);
    }

    /// A stream whose SSRC changed starts from nothing.
    fn latch(&mut self, ssrc: u32, route: Route) {
        let kind = self.source.kind().slot_kind();
        let Some(stream) = self.streams.get_mut(usize::from(route.encoding)) else { return };
        let known = if route.retransmission { stream.rtx_ssrc } else { stream.ssrc };
        if known == Some(ssrc) {
            return;
        }
        if route.retransmission {
            stream.rtx_ssrc = Some(ssrc);
        } else if stream.is_started() {
            *stream = Stream::new(kind, self.nack, Some(ssrc), None);
        } else {
            stream.ssrc = Some(ssrc);
        }
    }
}

/// A participant as a sender.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) id: ParticipantId,
    pub(super) ids: ExtensionIds,
    pub(super) feedback_ssrc: Ssrc,
    pub(super) sections: Vec<Section>,
    routes: Vec<(u32, Route)>,
    pub(super) arrivals: ArrivalLog,
    pub(super) any_ssrc: Ssrc,
    /// By how much its wall clock is behind ours, in nanoseconds; the least that its reports showed.
    behind: Option<i128>,
    limit: Bitrate,
    /// When what came so far fits the limit.
    busy_until: Timestamp,
    pub(super) policed_at: Option<Timestamp>,
}

impl Publisher {
    /// When what is missing of it is next asked for.
    pub(super) fn next_request_at(&self) -> Option<Timestamp> {
        self.sections.iter().flat_map(|section| &section.streams).filter_map(Stream::next_timeout).min()
    }

    pub(super) fn new(id: ParticipantId, config: &ParticipantConfig) -> Self {
        let mut sections: Vec<Section> = Vec::new();
        for section in config.published.iter().filter(|s| config.grants.publish(s.kind)) {
            if sections.iter().all(|s| s.source.kind() != section.kind) {
                sections.push(Section::new(id, section));
            }
        }
        let mut publisher = Self {
            id,
            ids: config.incoming_extensions,
            feedback_ssrc: config.feedback_ssrc,
            sections,
            routes: Vec::new(),
            arrivals: ArrivalLog::new(),
            any_ssrc: Ssrc(0),
            behind: None,
            limit: config.limits.publish,
            busy_until: Timestamp::ZERO,
            policed_at: None,
        };
        publisher.declare_routes();
        publisher
    }

    pub(super) fn section(&self, kind: SourceKind) -> Option<&Section> {
        self.sections.iter().find(|s| s.source.kind() == kind)
    }

    pub(super) fn section_mut(&mut self, kind: SourceKind) -> Option<&mut Section> {
        self.sections.iter_mut().find(|s| s.source.kind() == kind)
    }

    /// Charges a packet to the limit: whether it may pass.
    pub(super) fn police(&mut self, now: Timestamp, size: usize) -> bool {
        if self.busy_until.since(now) > POLICE_BURST {
            return false;
        }
        self.busy_until = self.busy_until.max(now) + self.limit.time_for(size);
        true
    }

    /// Where a packet belongs; latches what is new.
    pub(super) fn route(&mut self, header: &RtpHeader<'_>) -> Option<Route> {
        let ssrc = header.ssrc();
        if let Some(at) = self.routes.iter().position(|(known, _)| *known == ssrc) {
            // Found sooner the next time.
            if at > 2 {
                self.routes.swap(at, at / 2);
                return self.routes.get(at / 2).map(|(_, route)| *route);
            }
            return self.routes.get(at).map(|(_, route)| *route);
        }
        let route = self.latched(header)?;
        if self.routes.len() >= MAX_SSRCS {
            return None;
        }
        self.sections.get_mut(usize::from(route.section))?.latch(ssrc, route);
        self.routes.push((ssrc, route));
        Some(route)
    }

    /// The stream that a media SSRC names.
    pub(super) fn stream_mut(&mut self, ssrc: u32) -> Option<&mut Stream> {
        self.sections.iter_mut().flat_map(|s| &mut s.streams).find(|s| s.ssrc == Some(ssrc))
    }

    /// Takes a sender report: `ntp` is its wall clock and `ours` that of now, both in nanoseconds since 1900.
    pub(super) fn on_clock(&mut self, ours: i128, ntp: i128) {
        /// Slower than clocks drift apart, faster than a wrong first sample matters.
        const FORGET: i128 = 100_000;
        let sample = ours - ntp;
        self.behind = Some(self.behind.map_or(sample, |least| sample.min(least + FORGET)));
    }

    pub(super) const fn behind(&self) -> Option<i128> {
        self.behind
    }

    fn declare_routes(&mut self) {
        for (section, s) in self.sections.iter().enumerate() {
            for (encoding, stream) in s.streams.iter().enumerate() {
                let route = |retransmission| Route { section: section as u8, encoding: encoding as u8, retransmission };
                self.routes.extend(stream.ssrc.map(|ssrc| (ssrc, route(false))));
                self.routes.extend(stream.rtx_ssrc.map(|ssrc| (ssrc, route(true))));
            }
        }
    }

    fn latched(&self, header: &RtpHeader<'_>) -> Option<Route> {
        let text = |id| header.extension(id).and_then(|v| std::str::from_utf8(v).ok());
        let payload_type = header.payload_type();
        let is_of = |s: &Section| s.payload_type == payload_type || s.rtx_payload_type == Some(payload_type);
        let (index, section) = match text(self.ids.mid) {
            Some(mid) => self.sections.iter().enumerate().find(|(_, s)| s.mid.0 == mid).filter(|(_, s)| is_of(s))?,
            // Without mid only where no other section has the payload type.
            None => {
                let mut found = self.sections.iter().enumerate().filter(|(_, s)| is_of(s));
                found.next().filter(|_| found.next().is_none())?
            }
        };
        let retransmission = section.rtx_payload_type == Some(payload_type);
        let rid = text(if retransmission { self.ids.repaired_rid } else { self.ids.rid });
        let encoding = match rid {
            Some(rid) => section.rids.iter().position(|r| r.as_ref().is_some_and(|r| r.0 == rid))?,
            None if section.streams.len() == 1 => 0,
            None => return None,
        };
        Some(Route { section: index as u8, encoding: encoding as u8, retransmission })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        room::{Encoding, Grants, Limits},
        rtp::OutgoingHeader,
    };
    use halloo_transport::PayloadType;

    const IDS: ExtensionIds = ExtensionIds {
        mid: Some(4),
        rid: Some(10),
        repaired_rid: Some(11),
        transport_cc: Some(3),
        abs_send_time: None,
        audio_level: Some(1),
        dependency_descriptor: None,
        video_orientation: None,
    };

    fn publisher(grants: Grants) -> Publisher {
        let section = |mid: &str, kind, pt, encodings| PublishedSection {
            mid: Mid(mid.into()),
            kind,
            payload_type: PayloadType(pt),
            rtx_payload_type: (pt == 45).then_some(PayloadType(46)),
            nack: true,
            encodings,
        };
        let rid = |rid: &str| Encoding { rid: Some(Rid(rid.into())), ..Encoding::default() };
        let config = ParticipantConfig {
            published: vec![
                section(
                    "0",
                    SourceKind::Microphone,
                    111,
                    vec![Encoding { ssrc: Some(Ssrc(1)), ..Encoding::default() }],
                ),
                section("1", SourceKind::Camera, 45, vec![rid("q"), rid("h")]),
                section("2", SourceKind::Screen, 45, vec![]),
            ],
            slots: vec![],
            incoming_extensions: IDS,
            outgoing_extensions: IDS,
            grants,
            limits: Limits { publish: Bitrate::from_kbps(80), ..Limits::default() },
            feedback_ssrc: Ssrc(99),
            cname: "c".into(),
            seed: 1,
        };
        Publisher::new(ParticipantId::new(0, 0), &config)
    }

    /// A packet with a mid, and a rid or repaired rid under the id given.
    fn packet(ssrc: u32, pt: u8, mid: Option<&str>, rid: Option<(u8, &str)>) -> Vec<u8> {
        let ids = ExtensionIds { mid: Some(4), video_orientation: None, ..ExtensionIds::default() };
        let ids = ExtensionIds { dependency_descriptor: rid.map(|(id, _)| id), ..ids };
        let header = OutgoingHeader {
            mid: mid.map(str::as_bytes),
            dependency_descriptor: rid.map(|(_, rid)| rid.as_bytes()),
            ..OutgoingHeader::new(Ssrc(ssrc), PayloadType(pt), 1, 1, &ids)
        };
        let mut out = vec![0; 100];
        let layout = header.write_packet(b"x", &mut out).unwrap();
        out.truncate(layout.len);
        out
    }

    fn route(publisher: &mut Publisher, packet: &[u8]) -> Option<(u8, u8, bool)> {
        let header = RtpHeader::parse(packet).unwrap();
        publisher.route(&header).map(|r| (r.section, r.encoding, r.retransmission))
    }

    #[test]
    fn a_stream_is_known_by_its_ssrc_once_mid_and_rid_said_whose_it_is() {
        let mut publisher = publisher(Grants::ALL);
        assert_eq!(route(&mut publisher, &packet(1, 111, None, None)), Some((0, 0, false)));
        assert_eq!(route(&mut publisher, &packet(20, 45, None, None)), None, "could be camera or screen");
        assert_eq!(route(&mut publisher, &packet(20, 45, Some("1"), None)), None, "which encoding?");
        assert_eq!(route(&mut publisher, &packet(20, 45, Some("1"), Some((10, "h")))), Some((1, 1, false)));
        assert_eq!(route(&mut publisher, &packet(20, 45, None, None)), Some((1, 1, false)));
        assert_eq!(route(&mut publisher, &packet(21, 46, Some("1"), Some((11, "h")))), Some((1, 1, true)));
        assert_eq!(route(&mut publisher, &packet(30, 45, Some("2"), None)), Some((2, 0, false)));
        assert_eq!(route(&mut publisher, &packet(40, 45, Some("0"), None)), None, "not that section's payload type");
        assert_eq!(route(&mut publisher, &packet(41, 45, Some("1"), Some((10, "zz")))), None);
    }

    #[test]
    fn latching_is_bounded_and_what_is_not_granted_is_unknown() {
        let mut all = publisher(Grants::ALL);
        let latched =
            (1_000..2_000).filter(|ssrc| route(&mut all, &packet(*ssrc, 45, Some("2"), None)).is_some()).count();
        assert!(latched < MAX_SSRCS);
        let mut listener = publisher(Grants { camera: false, ..Grants::ALL });
        assert_eq!(route(&mut listener, &packet(20, 45, Some("1"), Some((10, "h")))), None);
    }

    #[test]
    fn what_exceeds_the_limit_is_refused_until_it_fits_again() {
        let mut publisher = publisher(Grants::ALL);
        // 80 kbit/s: 10 packets of 1,000 bytes a second, and a second's worth at once.
        let at_once = (0..100).filter(|_| publisher.police(Timestamp::ZERO, 1_000)).count();
        assert_eq!(at_once, 11);
        let later = (1..=300).filter(|i| publisher.police(Timestamp::from_millis(10 * i), 1_000)).count();
        assert!((28..=31).contains(&later), "{later}");
    }
}
