//! The text of an answer (RFC 8829, section 5.3), one media section for each of the offer.

use super::{
    extension::Extension,
    local::{Hex, LocalTransport},
    negotiate::{Agreed, Role, SlotSsrcs, Terms, slot_extensions},
    offer::{Offer, OfferedMedia, Section},
};
use crate::room::SlotKind;
use halloo_transport::{Bitrate, PayloadType, session::MediaKind};
use sdp_types::{AddrType, Attribute, Bandwidth, Connection, Media, NetType, Origin, Session};
use std::net::Ipv4Addr;

pub(super) fn write(
    offer: &Offer,
    local: &LocalTransport,
    terms: &Terms,
    agreed: &Agreed,
    role_of: impl Fn(usize) -> Role,
) -> String {
    let origin = Origin::new(agreed.session_id, agreed.version, NetType::In, AddrType::Ip4, Ipv4Addr::UNSPECIFIED);
    let mut session = Session::new(origin, "-");
    let accepted = offer.sections.iter().enumerate().filter(|(index, _)| role_of(*index) != Role::Rejected);
    let mids: Vec<&str> = accepted.filter_map(|(_, section)| section.mid.as_ref()).map(|mid| mid.0.as_str()).collect();
    session.add_attribute_with_value("group", format!("BUNDLE {}", mids.join(" ")));
    session.add_attribute_from_str("ice-lite");
    if offer.mixed_extensions {
        session.add_attribute_from_str("extmap-allow-mixed");
    }
    session.add_attribute_with_value("msid-semantic", "WMS *");
    let mut candidates = Some(local);
    for (index, section) in offer.sections.iter().enumerate() {
        let media = match (&section.media, role_of(index)) {
            (None, _) | (_, Role::Rejected) => rejected(section),
            (Some(offered), role) => {
                let mut writer = Writer { media: accepted_line(section, offered), offered, terms };
                writer.transport(local, candidates.take());
                writer.section(role, &agreed.cname);
                writer.media
            }
        };
        session.add_media(media);
    }
    let mut text = Vec::new();
    // Writing to a vector cannot fail.
    let _ = session.write(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn line(section: &Section, port: u16, formats: String) -> Media {
    let mut media = Media {
        media: section.line.media.clone(),
        port,
        num_ports: None,
        proto: section.line.proto.clone(),
        fmt: formats,
        media_title: None,
        connections: Vec::new(),
        bandwidths: Vec::new(),
        key: None,
        attributes: Vec::new(),
    };
    media.add_connection(Connection::from_ip_addr(Ipv4Addr::UNSPECIFIED));
    media
}

/// Port zero and no place in the bundle (RFC 9143, section 7.3.3).
fn rejected(section: &Section) -> Media {
    let mut media = line(section, 0, section.line.formats.clone());
    if let Some(mid) = &section.mid {
        media.add_attribute_with_value("mid", &mid.0);
    }
    media.add_attribute_from_str("inactive");
    media
}

fn accepted_line(section: &Section, offered: &OfferedMedia) -> Media {
    let rtx = offered.rtx.map_or_else(String::new, |rtx| format!(" {}", rtx.0));
    line(section, 9, format!("{}{rtx}", offered.payload_type.0))
}

struct Writer<'a> {
    media: Media,
    offered: &'a OfferedMedia,
    terms: &'a Terms,
}

impl Writer<'_> {
    fn attribute(&mut self, name: &str, value: impl ToString) {
        self.media.attributes.push(Attribute { attribute: name.to_owned(), value: Some(value.to_string()) });
    }

    fn flag(&mut self, name: &str) {
        self.media.attributes.push(Attribute { attribute: name.to_owned(), value: None });
    }

    /// The transport is the same everywhere; its candidates stand in the first section only.
    fn transport(&mut self, local: &LocalTransport, with_candidates: Option<&LocalTransport>) {
        if let Some(local) = with_candidates {
            for (place, candidate) in local.candidates.iter().enumerate() {
                self.attribute("candidate", candidate.line(place));
            }
            self.flag("end-of-candidates");
        }
        self.attribute("ice-ufrag", &local.ufrag);
        self.attribute("ice-pwd", &local.pwd);
        self.attribute("fingerprint", format!("sha-256 {}", Hex(&local.fingerprint)));
        self.attribute("setup", "passive");
        self.attribute("mid", &self.offered.mid.0);
    }

    fn section(&mut self, role: Role, cname: &str) {
        match role {
            Role::Publish(_) => self.published(),
            Role::Slot(kind, ssrcs) => self.slot(kind, ssrcs, cname),
            Role::Idle | Role::Rejected => {
                self.extensions(&self.offered.extensions);
                self.flag("inactive");
                self.codec(None);
            }
        }
    }

    fn published(&mut self) {
        if self.offered.kind == MediaKind::Video {
            let bps = self.terms.limits.publish.as_bps();
            self.media.bandwidths.push(Bandwidth { bwtype: "TIAS".to_owned(), bandwidth: bps });
        }
        self.extensions(&self.offered.extensions);
        self.flag("recvonly");
        self.codec(self.terms.start_publish.filter(|_| self.offered.kind == MediaKind::Video));
        let rids: Vec<String> =
            self.offered.encodings.iter().filter_map(|e| e.rid.as_ref()).map(|rid| rid.0.clone()).collect();
        for rid in &rids {
            self.attribute("rid", format!("{rid} recv"));
        }
        if !rids.is_empty() {
            self.attribute("simulcast", format!("recv {}", rids.join(";")));
        }
    }

    fn slot(&mut self, kind: SlotKind, ssrcs: SlotSsrcs, cname: &str) {
        self.extensions(&slot_extensions(self.offered));
        self.flag("sendonly");
        let mid = &self.offered.mid.0;
        let name = match kind {
            SlotKind::Audio => "audio",
            SlotKind::Video => "video",
        };
        self.attribute("msid", format!("slot-{mid} {name}-{mid}"));
        self.codec(None);
        let media = ssrcs.media.0;
        if self.offered.rtx.is_some() {
            let rtx = ssrcs.rtx.0;
            self.attribute("ssrc-group", format!("FID {media} {rtx}"));
            self.attribute("ssrc", format!("{media} cname:{cname}"));
            self.attribute("ssrc", format!("{rtx} cname:{cname}"));
        } else {
            self.attribute("ssrc", format!("{media} cname:{cname}"));
        }
    }

    fn extensions(&mut self, extensions: &[(u8, Extension)]) {
        for (id, extension) in extensions {
            self.attribute("extmap", format!("{id} {}", extension.uri()));
        }
    }

    fn codec(&mut self, start: Option<Bitrate>) {
        self.flag("rtcp-mux");
        let offered = self.offered;
        if offered.reduced_size {
            self.flag("rtcp-rsize");
        }
        let (codec, pt) = (offered.codec, offered.payload_type.0);
        let channels = if codec.channels() > 1 { format!("/{}", codec.channels()) } else { String::new() };
        self.attribute("rtpmap", format!("{pt} {}/{}{channels}", codec.name(), codec.clock_rate()));
        for feedback in codec.feedback().iter().filter(|feedback| offered.feedback.contains(feedback)) {
            self.attribute("rtcp-fb", format!("{pt} {}", feedback.text()));
        }
        let mut parameters = codec.answer(&offered.parameters);
        if let Some(start) = start {
            parameters.push("x-google-start-bitrate", format!("{}", start.as_bps() / 1_000));
        }
        if !parameters.is_empty() {
            self.attribute("fmtp", format!("{pt} {parameters}"));
        }
        if let Some(PayloadType(rtx)) = offered.rtx {
            self.attribute("rtpmap", format!("{rtx} rtx/{}", codec.clock_rate()));
            self.attribute("fmtp", format!("{rtx} apt={pt}"));
        }
    }
}
