//! The offer of a client, laid out as browsers and the engine do, and what it needs of the answer (RFC 8829, RFC 9143).

use anyhow::{Context, Result, bail};
use halloo_sfu::{client::Server, ice::Credentials, room::SlotKind, rtp::ExtensionIds, sdp::Extension};
use halloo_transport::{PayloadType, Ssrc};
use sdp_types::{Fingerprint, HashFunc, Session, SsrcGroup};
use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
};

/// Opus.
pub const OPUS: PayloadType = PayloadType(111);
/// AV1.
pub const AV1: PayloadType = PayloadType(45);
/// AV1 sent again.
pub const AV1_RTX: PayloadType = PayloadType(46);
/// The ids of header extensions, as Chromium numbers them.
pub const IDS: ExtensionIds = ExtensionIds {
    mid: Some(4),
    rid: None,
    repaired_rid: None,
    transport_cc: Some(3),
    abs_send_time: Some(2),
    audio_level: Some(1),
    dependency_descriptor: Some(12),
    video_orientation: None,
};
/// Voices heard at once.
const AUDIO_SLOTS: usize = 3;

/// What a client says of itself.
#[derive(Clone, Debug)]
pub struct Identity {
    /// ICE credentials.
    pub credentials: Credentials,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// SSRC of the microphone.
    pub microphone: Ssrc,
    /// SSRC of the camera.
    pub camera: Ssrc,
    /// SSRC of what the camera sends again.
    pub camera_rtx: Ssrc,
    /// What receivers know its streams by.
    pub cname: String,
}

/// A slot as the answer fixed it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AgreedSlot {
    /// Sound or pictures.
    pub kind: SlotKind,
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// The SSRC of what is sent again.
    pub rtx: Option<Ssrc>,
}

/// What the answer says.
#[derive(Clone, Debug)]
pub struct Agreed {
    /// The other end of ICE and DTLS.
    pub server: Server,
    /// Where to send.
    pub address: SocketAddr,
    /// The receive slots.
    pub slots: Vec<AgreedSlot>,
}

/// Microphone and camera, used or not, three voices, and `pictures` slots for video.
pub fn offer(own: &Identity, pictures: usize) -> String {
    let slots = AUDIO_SLOTS + pictures;
    let mids: Vec<String> = (0..2 + slots).map(|mid| mid.to_string()).collect();
    let mut sdp = format!(
        "v=0\r\no=- {} 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n",
        own.camera.0,
        mids.join(" "),
    );
    let mut section = |mid: usize, kind, sends: &[Ssrc]| {
        let pts =
            if kind == SlotKind::Audio { "audio 9 UDP/TLS/RTP/SAVPF 111" } else { "video 9 UDP/TLS/RTP/SAVPF 45 46" };
        // Writing to a `String` cannot fail.
        let _ = write!(
            sdp,
            "m={pts}\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=ice-options:trickle\r\n\
             a=fingerprint:sha-256 {}\r\na=setup:actpass\r\na=mid:{mid}\r\n",
            own.credentials.ufrag(),
            own.credentials.pwd(),
            hex(&own.fingerprint),
        );
        let common = [
            (IDS.abs_send_time, Extension::AbsSendTime),
            (IDS.transport_cc, Extension::TransportCc),
            (IDS.mid, Extension::Mid),
        ];
        let own_kind = match kind {
            SlotKind::Audio => (IDS.audio_level, Extension::AudioLevel),
            SlotKind::Video => (IDS.dependency_descriptor, Extension::DependencyDescriptor),
        };
        for (id, extension) in common.into_iter().chain([own_kind]) {
            let _ = write!(sdp, "a=extmap:{} {}\r\n", id.unwrap_or_default(), extension.uri());
        }
        sdp.push_str(if sends.is_empty() { "a=recvonly\r\n" } else { "a=sendonly\r\n" });
        sdp.push_str("a=rtcp-mux\r\na=rtcp-rsize\r\n");
        sdp.push_str(match kind {
            SlotKind::Audio => {
                "a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n"
            }
            SlotKind::Video => {
                "a=rtpmap:45 AV1/90000\r\na=rtcp-fb:45 transport-cc\r\na=rtcp-fb:45 ccm fir\r\na=rtcp-fb:45 nack\r\n\
                 a=rtcp-fb:45 nack pli\r\na=fmtp:45 level-idx=5;profile=0;tier=0\r\na=rtpmap:46 rtx/90000\r\n\
                 a=fmtp:46 apt=45\r\n"
            }
        });
        if let [Ssrc(media), Ssrc(rtx)] = sends {
            let _ = write!(sdp, "a=ssrc-group:FID {media} {rtx}\r\n");
        }
        for Ssrc(ssrc) in sends {
            let _ = write!(sdp, "a=ssrc:{ssrc} cname:{}\r\n", own.cname);
        }
    };
    section(0, SlotKind::Audio, &[own.microphone]);
    section(1, SlotKind::Video, &[own.camera, own.camera_rtx]);
    for slot in 0..slots {
        section(2 + slot, if slot < AUDIO_SLOTS { SlotKind::Audio } else { SlotKind::Video }, &[]);
    }
    sdp
}

impl Agreed {
    /// Reads an answer.
    ///
    /// # Errors
    /// Where something that is needed is missing.
    pub fn read(answer: &str) -> Result<Self> {
        let session = Session::parse(answer.as_bytes()).context("the answer is no session description")?;
        let first = session.medias.first().context("the answer has no media sections")?;
        let value = |name: &'static str| {
            let value = first.get_first_attribute_value(name).flatten();
            value.with_context(|| format!("the answer has no a={name}"))
        };
        let credentials = Credentials::new(value("ice-ufrag")?, value("ice-pwd")?)?;
        let fingerprint = first.attributes_typed::<Fingerprint>().filter_map(std::result::Result::ok);
        let fingerprint = fingerprint
            .filter(|print| print.hash_func == HashFunc::Sha256)
            .find_map(|print| print.fingerprint.as_slice().try_into().ok())
            .context("the answer has no sha-256 fingerprint")?;
        let address = first
            .get_attribute_values("candidate")
            .flatten()
            .find_map(udp_candidate)
            .context("the answer has no UDP candidate")?;
        let mut slots = Vec::new();
        for media in session.medias.iter().skip(2) {
            if media.port == 0 || !media.has_attribute("sendonly") {
                bail!("the server refused a receive slot");
            }
            let kind = if media.media == "audio" { SlotKind::Audio } else { SlotKind::Video };
            let group = media.attributes_typed::<SsrcGroup>().filter_map(std::result::Result::ok).next();
            let (ssrc, rtx) = match group.as_ref().map(|group| group.ssrc_ids.as_slice()) {
                Some([media, rtx, ..]) => (*media, Some(Ssrc(*rtx))),
                _ => {
                    let line = media.get_first_attribute_value("ssrc").flatten();
                    let ssrc = line.and_then(|line| line.split(' ').next()?.parse().ok());
                    (ssrc.context("a receive slot has no SSRC")?, None)
                }
            };
            slots.push(AgreedSlot { kind, ssrc: Ssrc(ssrc), rtx });
        }
        Ok(Self { server: Server { credentials, fingerprint }, address, slots })
    }
}

fn udp_candidate(line: &str) -> Option<SocketAddr> {
    let mut words = line.split(' ').skip(2);
    let is_udp = words.next()?.eq_ignore_ascii_case("udp");
    let address: IpAddr = words.nth(1)?.parse().ok()?;
    let port = words.next()?.parse().ok()?;
    is_udp.then_some(SocketAddr::new(address, port))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use halloo_sfu::{
        room::{Grants, Limits},
        sdp::{Candidate, LocalTransport, Negotiated, Offer, Protocol, Terms, negotiate},
    };

    pub(crate) fn identity() -> Identity {
        Identity {
            credentials: Credentials::new("client", "passwordpasswordpassword").unwrap(),
            fingerprint: [7; 32],
            microphone: Ssrc(1),
            camera: Ssrc(2),
            camera_rtx: Ssrc(3),
            cname: "somebody".to_owned(),
        }
    }

    #[test]
    fn the_forwarding_unit_takes_the_offer_and_its_answer_is_understood() {
        let own = identity();
        let parsed = Offer::parse(&offer(&own, 9)).unwrap();
        let local = LocalTransport {
            ufrag: "server12".to_owned(),
            pwd: "passwordpasswordpassword".to_owned(),
            fingerprint: [9; 32],
            candidates: vec![
                Candidate { address: "[::1]:10001".parse().unwrap(), protocol: Protocol::TcpPassive },
                Candidate { address: "192.0.2.1:10000".parse().unwrap(), protocol: Protocol::Udp },
            ],
        };
        let terms = Terms { grants: Grants::ALL, limits: Limits::default(), start_publish: None, seed: 1 };
        let Negotiated { participant, answer, .. } = negotiate(&parsed, &local, &terms, None).unwrap();
        let declared = |section: usize| participant.published[section].encodings[0].clone();
        assert_eq!((declared(0).ssrc, declared(0).rtx_ssrc), (Some(own.microphone), None));
        assert_eq!((declared(1).ssrc, declared(1).rtx_ssrc), (Some(own.camera), Some(own.camera_rtx)));
        assert!(participant.published[1].nack);
        assert_eq!((participant.incoming_extensions, participant.outgoing_extensions), (IDS, IDS));

        let agreed = Agreed::read(&answer).unwrap();
        assert_eq!(agreed.address, "192.0.2.1:10000".parse::<SocketAddr>().unwrap());
        assert_eq!(agreed.server.fingerprint, [9; 32]);
        assert_eq!((agreed.server.credentials.ufrag(), agreed.slots.len()), ("server12", 12));
        for (slot, theirs) in agreed.slots.iter().zip(&participant.slots) {
            assert_eq!((slot.kind, slot.ssrc), (theirs.kind, theirs.ssrc));
            assert_eq!(slot.rtx, theirs.rtx.map(|rtx| rtx.ssrc));
        }
    }

    #[test]
    fn an_answer_without_what_is_needed_is_refused() {
        for answer in
            ["", "v=0\r\n", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 x 1\r\na=ice-ufrag:abcd\r\n"]
        {
            assert!(Agreed::read(answer).is_err());
        }
    }
}
