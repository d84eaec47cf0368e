//! Descriptions shaped as real peers write them, and what is read from them.

use super::*;

/// Chromium's offer with microphone and camera, shortened to the lines that tell codecs and extensions apart.
const CHROMIUM_OFFER: &str = "v=0\r
o=- 4215775240449105457 2 IN IP4 127.0.0.1\r
s=-\r
t=0 0\r
a=group:BUNDLE 0 1\r
a=extmap-allow-mixed\r
a=msid-semantic: WMS 8c0d\r
m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126\r
c=IN IP4 0.0.0.0\r
a=rtcp:9 IN IP4 0.0.0.0\r
a=ice-ufrag:sRbk\r
a=ice-pwd:yZ6s3PzRCTPHYQLNVMNyHZ2S\r
a=ice-options:trickle\r
a=fingerprint:sha-256 3B:C4:91:1B:2A:88:5E:7F:0C:77:1D:90:AA:01:6F:42:0E:2B:B8:5A:36:11:7C:C2:11:90:41:E7:54:D6:0A:8F\r
a=setup:actpass\r
a=mid:0\r
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r
a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time\r
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r
a=sendrecv\r
a=msid:8c0d 6f1e\r
a=rtcp-mux\r
a=rtcp-rsize\r
a=rtpmap:111 opus/48000/2\r
a=rtcp-fb:111 transport-cc\r
a=fmtp:111 minptime=10;useinbandfec=1\r
a=rtpmap:63 red/48000/2\r
a=fmtp:63 111/111\r
a=rtpmap:9 G722/8000\r
a=rtpmap:0 PCMU/8000\r
a=rtpmap:8 PCMA/8000\r
a=rtpmap:13 CN/8000\r
a=rtpmap:110 telephone-event/48000\r
a=rtpmap:126 telephone-event/8000\r
a=ssrc:3570614608 cname:4TOk42mSjXCkVIa6\r
a=ssrc:3570614608 msid:8c0d 6f1e\r
m=video 9 UDP/TLS/RTP/SAVPF 96 97 98 99 45 46 51 52\r
c=IN IP4 0.0.0.0\r
a=rtcp:9 IN IP4 0.0.0.0\r
a=ice-ufrag:sRbk\r
a=ice-pwd:yZ6s3PzRCTPHYQLNVMNyHZ2S\r
a=ice-options:trickle\r
a=fingerprint:sha-256 3B:C4:91:1B:2A:88:5E:7F:0C:77:1D:90:AA:01:6F:42:0E:2B:B8:5A:36:11:7C:C2:11:90:41:E7:54:D6:0A:8F\r
a=setup:actpass\r
a=mid:1\r
a=extmap:14 urn:ietf:params:rtp-hdrext:toffset\r
a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time\r
a=extmap:13 urn:3gpp:video-orientation\r
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r
a=extmap:12 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay\r
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r
a=sendrecv\r
a=msid:8c0d 91f2\r
a=rtcp-mux\r
a=rtcp-rsize\r
a=rtpmap:96 VP8/90000\r
a=rtcp-fb:96 nack\r
a=rtpmap:97 rtx/90000\r
a=fmtp:97 apt=96\r
a=rtpmap:98 AV1/90000\r
a=rtcp-fb:98 nack\r
a=fmtp:98 level-idx=5;profile=1;tier=0\r
a=rtpmap:99 rtx/90000\r
a=fmtp:99 apt=98\r
a=rtpmap:45 AV1/90000\r
a=rtcp-fb:45 goog-remb\r
a=rtcp-fb:45 transport-cc\r
a=rtcp-fb:45 ccm fir\r
a=rtcp-fb:45 nack\r
a=rtcp-fb:45 nack pli\r
a=fmtp:45 level-idx=5;profile=0;tier=0\r
a=rtpmap:46 rtx/90000\r
a=fmtp:46 apt=45\r
a=rtpmap:51 red/90000\r
a=rtpmap:52 rtx/90000\r
a=fmtp:52 apt=51\r
a=ssrc-group:FID 1811447532 1298873122\r
a=ssrc:1811447532 cname:4TOk42mSjXCkVIa6\r
a=ssrc:1298873122 cname:4TOk42mSjXCkVIa6\r
";

/// An answer as this engine gives it to that offer.
const ANSWER: &str = "v=0\r
o=- 1 1 IN IP4 0.0.0.0\r
s=-\r
t=0 0\r
a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r
a=group:BUNDLE 0 1\r
m=audio 9 UDP/TLS/RTP/SAVPF 111\r
c=IN IP4 0.0.0.0\r
a=setup:active\r
a=mid:0\r
a=ice-ufrag:abcd\r
a=ice-pwd:abcdefghijklmnopqrstuvwx\r
a=rtcp-mux\r
a=rtpmap:111 opus/48000/2\r
a=fmtp:111 minptime=10;useinbandfec=1\r
a=rtcp-fb:111 transport-cc\r
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r
a=msid:s audio\r
a=ssrc:1001 cname:s\r
a=sendrecv\r
m=video 9 UDP/TLS/RTP/SAVPF 45 46\r
c=IN IP4 0.0.0.0\r
a=setup:active\r
a=mid:1\r
a=ice-ufrag:abcd\r
a=ice-pwd:abcdefghijklmnopqrstuvwx\r
a=rtcp-mux\r
a=rtpmap:45 AV1/90000\r
a=fmtp:45 level-idx=5;profile=0;tier=0\r
a=rtcp-fb:45 nack\r
a=rtcp-fb:45 nack pli\r
a=rtpmap:46 rtx/90000\r
a=fmtp:46 apt=45\r
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r
a=msid:s video\r
a=ssrc-group:FID 2002 3003\r
a=ssrc:2002 cname:s\r
a=ssrc:3003 cname:s\r
a=sendrecv\r
";

#[test]
fn chromiums_offer_is_read() {
    let offer = read(CHROMIUM_OFFER).unwrap();
    assert_eq!(offer.ice_ufrag, "sRbk");
    let audio = offer.section(MediaKind::Audio).unwrap();
    assert_eq!(
        audio,
        &Section {
            kind: MediaKind::Audio,
            mid: Mid("0".into()),
            rejected: false,
            sends: true,
            receives: true,
            codec: Some(Codec { payload_type: PayloadType(111), clock_rate: 48_000, rtx: None, nack: false }),
            extensions: ExtensionIds {
                transport_cc: Some(3),
                mid: Some(4),
                abs_send_time: Some(2),
                audio_level: Some(1),
                dependency_descriptor: None,
            },
            ssrc: Some(Ssrc(3_570_614_608)),
            rtx_ssrc: None,
        }
    );
    let video = offer.section(MediaKind::Video).unwrap();
    assert_eq!(
        video.codec,
        Some(Codec { payload_type: PayloadType(45), clock_rate: 90_000, rtx: Some(PayloadType(46)), nack: true })
    );
    assert_eq!((video.ssrc, video.rtx_ssrc), (Some(Ssrc(1_811_447_532)), Some(Ssrc(1_298_873_122))));
}

#[test]
fn streams_follow_both_descriptions() {
    let (local, remote) = (read(ANSWER).unwrap(), read(CHROMIUM_OFFER).unwrap());
    let streams = negotiate(&local, &remote);
    let [audio, video] = &streams.send[..] else { panic!("{streams:?}") };
    assert_eq!((audio.ssrc, audio.payload_type), (Ssrc(1001), PayloadType(111)));
    // abs-send-time was offered but not answered.
    assert_eq!(audio.extensions.abs_send_time, None);
    assert_eq!(audio.extensions.audio_level, Some(1));
    assert_eq!((video.ssrc, video.payload_type), (Ssrc(2002), PayloadType(45)));
    assert_eq!(video.rtx, Some(Rtx { ssrc: Some(Ssrc(3003)), payload_type: PayloadType(46) }));
    let [audio, video] = &streams.recv[..] else { panic!("{streams:?}") };
    assert_eq!((audio.ssrc, audio.nack), (Some(Ssrc(3_570_614_608)), false));
    assert_eq!((video.ssrc, video.nack), (Some(Ssrc(1_811_447_532)), true));
    assert_eq!(video.rtx, Some(Rtx { ssrc: Some(Ssrc(1_298_873_122)), payload_type: PayloadType(46) }));
    assert_eq!(video.extensions.transport_cc, Some(3));
}

#[test]
fn libwebrtcs_older_offer_without_av1_parameters_is_read() {
    // Milestone 106 writes AV1 without an fmtp line, and numbers it differently.
    let offer = CHROMIUM_OFFER
        .replace("a=fmtp:45 level-idx=5;profile=0;tier=0\r\n", "")
        .replace("m=video 9 UDP/TLS/RTP/SAVPF 96 97 98 99 45 46 51 52", "m=video 9 UDP/TLS/RTP/SAVPF 96 97 35 36")
        .replace(":45 ", ":35 ")
        .replace("a=rtpmap:46", "a=rtpmap:36")
        .replace("a=fmtp:46 apt=45", "a=fmtp:36 apt=35");
    let offer = read(&offer).unwrap();
    assert_eq!(
        offer.section(MediaKind::Video).unwrap().codec,
        Some(Codec { payload_type: PayloadType(35), clock_rate: 90_000, rtx: Some(PayloadType(36)), nack: true })
    );
}

#[test]
fn directions_and_rejection_decide_who_sends() {
    let cases = [
        ("a=sendrecv", "9", 2, 2),
        ("a=recvonly", "9", 2, 0),
        ("a=sendonly", "9", 0, 2),
        ("a=inactive", "9", 0, 0),
        ("a=sendrecv", "0", 0, 0),
    ];
    for (direction, port, send, recv) in cases {
        let remote = CHROMIUM_OFFER
            .replace("a=sendrecv", direction)
            .replace("m=audio 9 ", &format!("m=audio {port} "))
            .replace("m=video 9 ", &format!("m=video {port} "));
        let streams = negotiate(&read(ANSWER).unwrap(), &read(&remote).unwrap());
        assert_eq!((streams.send.len(), streams.recv.len()), (send, recv), "{direction}, port {port}");
    }
}

#[test]
fn without_rtx_on_one_side_there_is_none() {
    let remote = CHROMIUM_OFFER.replace("a=fmtp:46 apt=45", "a=fmtp:46 apt=98");
    let streams = negotiate(&read(ANSWER).unwrap(), &read(&remote).unwrap());
    assert!(streams.send.iter().all(|s| s.rtx.is_none()));
    assert!(streams.recv.iter().all(|s| s.rtx.is_none()));
}

#[test]
fn av1_of_another_profile_is_not_common() {
    let remote = CHROMIUM_OFFER.replace("profile=0", "profile=2");
    assert!(!read(&remote).unwrap().accepts(MediaKind::Video));
    assert!(read(&remote).unwrap().accepts(MediaKind::Audio));
}

#[test]
fn malformed_descriptions_are_refused_with_their_reason() {
    let cases: [(&str, String, WireError); 4] = [
        ("no fingerprint", drop_lines("a=fingerprint"), WireError::NoFingerprint),
        ("no ufrag", drop_lines("a=ice-ufrag"), WireError::BadSdp("it has no ICE user name fragment".into())),
        ("no password", drop_lines("a=ice-pwd"), WireError::BadSdp("it has no ICE password".into())),
        ("no mid", drop_lines("a=mid"), WireError::BadSdp("a media section has no mid".into())),
    ];
    for (name, sdp, expected) in cases {
        assert_eq!(read(&sdp), Err(expected), "{name}");
    }
    assert!(matches!(read(&CHROMIUM_OFFER.replace("3B:C4:", "3B:")), Err(WireError::BadFingerprint(_))));
    assert!(matches!(read(&CHROMIUM_OFFER.replace("3B:C4:", "3B:ZZ:")), Err(WireError::BadFingerprint(_))));
}

#[test]
fn any_prefix_and_any_changed_byte_is_read_or_refused_without_a_panic() {
    for len in 0..CHROMIUM_OFFER.len() {
        let _ = read(&CHROMIUM_OFFER[..len]);
    }
    for at in 0..CHROMIUM_OFFER.len() {
        for with in [b' ', b':', b'=', b'9', b'\r', b'/'] {
            let mut bytes = CHROMIUM_OFFER.as_bytes().to_vec();
            bytes[at] = with;
            if let Ok(text) = String::from_utf8(bytes)
                && let Ok(description) = read(&text)
            {
                let _ = negotiate(&description, &read(ANSWER).unwrap());
            }
        }
    }
}

#[test]
fn tracks_are_stripped_and_nothing_else() {
    let stripped = without_tracks(CHROMIUM_OFFER);
    assert!(!stripped.contains("ssrc:") && !stripped.contains("ssrc-group") && !stripped.contains("msid:8c0d"));
    assert!(stripped.contains("ssrc-audio-level") && stripped.contains("a=msid-semantic"));
    let (before, after) = (read(CHROMIUM_OFFER).unwrap(), read(&stripped).unwrap());
    for (before, after) in before.sections.iter().zip(&after.sections) {
        assert_eq!(after.ssrc, None);
        assert_eq!(&Section { ssrc: before.ssrc, rtx_ssrc: before.rtx_ssrc, ..after.clone() }, before);
    }
}

fn drop_lines(prefix: &str) -> String {
    CHROMIUM_OFFER.lines().filter(|line| !line.starts_with(prefix)).map(|line| format!("{line}\r\n")).collect()
}

/// Of an answer of the forwarding unit: the camera is taken, and two slots are given.
const ROOM_ANSWER: &str = "v=0\r
o=- 1 1 IN IP4 0.0.0.0\r
s=-\r
t=0 0\r
a=group:BUNDLE 0 1 2 3\r
a=ice-lite\r
m=audio 0 UDP/TLS/RTP/SAVPF 111\r
c=IN IP4 0.0.0.0\r
a=mid:9\r
a=inactive\r
m=video 9 UDP/TLS/RTP/SAVPF 45 46\r
c=IN IP4 0.0.0.0\r
a=ice-ufrag:sfu1\r
a=ice-pwd:abcdefghijklmnopqrstuvwx\r
a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r
a=setup:passive\r
a=mid:1\r
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r
a=recvonly\r
a=rtcp-mux\r
a=rtpmap:45 AV1/90000\r
a=rtcp-fb:45 nack\r
a=rtpmap:46 rtx/90000\r
a=fmtp:46 apt=45\r
m=video 9 UDP/TLS/RTP/SAVPF 45 46\r
c=IN IP4 0.0.0.0\r
a=mid:2\r
a=sendonly\r
a=rtpmap:45 AV1/90000\r
a=rtcp-fb:45 nack\r
a=rtpmap:46 rtx/90000\r
a=fmtp:46 apt=45\r
a=ssrc-group:FID 7001 7002\r
a=ssrc:7001 cname:x\r
a=ssrc:7002 cname:x\r
m=video 9 UDP/TLS/RTP/SAVPF 45 46\r
c=IN IP4 0.0.0.0\r
a=mid:3\r
a=sendonly\r
a=rtpmap:45 AV1/90000\r
a=rtcp-fb:45 nack\r
a=rtpmap:46 rtx/90000\r
a=fmtp:46 apt=45\r
a=ssrc-group:FID 8001 8002\r
a=ssrc:8001 cname:x\r
a=ssrc:8002 cname:x\r
";

#[test]
fn every_slot_of_a_room_is_a_stream_of_its_own() {
    // The offer differs from the answer in who sends, and has SSRCs of its own.
    let offer = ROOM_ANSWER
        .replace("m=audio 0", "m=audio 9")
        .replace("a=inactive", "a=sendonly")
        .replace("a=sendonly\r\na=rtpmap:45", "a=recvonly\r\na=rtpmap:45")
        .replace("a=recvonly\r\na=rtcp-mux", "a=sendonly\r\na=ssrc-group:FID 11 12\r\na=rtcp-mux");
    let (local, remote) = (read(&offer).unwrap(), read(ROOM_ANSWER).unwrap());
    assert_eq!(remote.sections.len(), 4);
    let streams = negotiate(&local, &remote);
    let [camera] = &streams.send[..] else { panic!("{streams:?}") };
    assert_eq!((camera.ssrc, camera.mid.clone()), (Ssrc(11), Some(Mid("1".into()))));
    assert_eq!(camera.rtx, Some(Rtx { ssrc: Some(Ssrc(12)), payload_type: PayloadType(46) }));
    let received: Vec<_> = streams.recv.iter().map(|s| (s.ssrc, s.rtx.and_then(|rtx| rtx.ssrc), s.nack)).collect();
    assert_eq!(received, [(Some(Ssrc(7001)), Some(Ssrc(7002)), true), (Some(Ssrc(8001)), Some(Ssrc(8002)), true)]);
    // A call between two has one section of each kind, whatever else a peer describes.
    assert_eq!(remote.first_of_each_kind().sections.len(), 2);
}

#[test]
fn a_description_with_too_many_sections_is_refused() {
    let section = &ROOM_ANSWER[ROOM_ANSWER.rfind("m=video").unwrap()..];
    assert!(matches!(read(&format!("{ROOM_ANSWER}{}", section.repeat(61))), Err(WireError::BadSdp(_))));
}
