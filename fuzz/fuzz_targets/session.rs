//! A transport session fed arbitrary packets at arbitrary times: no panic, no timer in the past, bounded output.
//!
//! The input is a list of records: a byte that says what comes, two bytes of length or of milliseconds, and the bytes.
#![no_main]

use halloo_transport::{
    Bitrate, Mid, PayloadType, RecvStream, RtpTime, SendStream, Session, SessionConfig, Ssrc, Timestamp,
    session::{ExtensionIds, MediaKind, MediaUnit, Rtx},
};
use libfuzzer_sys::fuzz_target;
use rtcp::packet::unmarshal;
use shared::marshal::Unmarshal;
use std::time::Duration;

const EXTENSIONS: ExtensionIds = ExtensionIds {
    transport_cc: Some(3),
    mid: Some(4),
    abs_send_time: Some(2),
    audio_level: Some(1),
    dependency_descriptor: None,
};

fn session() -> Session {
    let mut session = Session::new(SessionConfig {
        feedback_ssrc: Ssrc(1),
        cname: "fuzz".to_owned(),
        start_bitrate: Bitrate::from_kbps(500),
        min_bitrate: Bitrate::from_kbps(50),
        max_bitrate: Bitrate::from_kbps(4_000),
        seed: 1,
        ntp_at_zero: Duration::from_secs(3_900_000_000),
    });
    for (kind, ssrc, pt, clock_rate) in [(MediaKind::Audio, 1, 111, 48_000), (MediaKind::Video, 2, 45, 90_000)] {
        let video = kind == MediaKind::Video;
        session.add_send_stream(SendStream {
            kind,
            ssrc: Ssrc(ssrc),
            payload_type: PayloadType(pt),
            clock_rate,
            mid: Some(Mid(ssrc.to_string())),
            rtx: video.then_some(Rtx { ssrc: Some(Ssrc(3)), payload_type: PayloadType(46) }),
            extensions: EXTENSIONS,
        });
        session.add_recv_stream(RecvStream {
            kind,
            ssrc: None,
            payload_type: PayloadType(pt),
            clock_rate,
            mid: Some(Mid(ssrc.to_string())),
            rtx: video.then_some(Rtx { ssrc: None, payload_type: PayloadType(46) }),
            nack: video,
            extensions: EXTENSIONS,
        });
    }
    session
}

fuzz_target!(|data: &[u8]| {
    let mut session = session();
    let mut now = Timestamp::from_millis(1_000);
    let mut rest = data;
    let mut ticks = 0;
    while let [what, a, b, tail @ ..] = rest {
        let number = usize::from(u16::from_be_bytes([*a, *b]));
        rest = tail;
        match what % 4 {
            kind @ (0 | 1) => {
                let (mut packet, after) = tail.split_at(number.min(tail.len()).min(1_500));
                rest = after;
                if kind == 0 {
                    if let Ok(packet) = rtp::Packet::unmarshal(&mut packet) {
                        session.handle_rtp(now, packet);
                    }
                } else if let Ok(packets) = unmarshal(&mut packet) {
                    session.handle_rtcp(now, &packets);
                }
            }
            2 => {
                ticks += 3_000;
                let unit = MediaUnit {
                    rtp_time: RtpTime::new(ticks, 90_000),
                    captured_at: now,
                    payloads: vec![vec![0; number % 1_100 + 1].into(); usize::from(a % 5) + 1],
                    marker: true,
                    key_frame: b % 8 == 0,
                    audio_level: None,
                    dependency_descriptors: Vec::new(),
                };
                let _ = session.send(now, Ssrc(2), unit);
            }
            _ => {
                now += Duration::from_millis(number as u64 % 3_000);
                session.handle_timeout(now);
            }
        }
        let sent = std::iter::from_fn(|| session.poll_transmit(now)).take(100_000).count();
        assert!(sent < 100_000, "it never stops sending");
        while session.poll_event().is_some() {}
        session.handle_timeout(now);
        while session.poll_transmit(now).is_some() {}
        assert!(session.next_timeout().is_none_or(|at| at > now), "a timer that is due stays due");
    }
});
