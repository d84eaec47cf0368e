//! SRTP against the RFCs' vectors, an independent implementation, and hostile packets.

use proptest::prelude::*;
use rtc_srtp::{context::Context, protection_profile::ProtectionProfile};

use super::{cipher::GcmKey, *};

const PROFILES: [Profile; 3] = [Profile::AeadAes128Gcm, Profile::AeadAes256Gcm, Profile::Aes128CmSha1_80];

pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn master(profile: Profile) -> MasterKey {
    let key: Vec<u8> = (1..=profile.key_len() as u8).collect();
    let salt: Vec<u8> = (101..=100 + profile.salt_len() as u8).collect();
    MasterKey::new(profile, &key, &salt).unwrap()
}

fn pair(profile: Profile) -> (Outbound, Inbound) {
    (Outbound::new(&master(profile)).unwrap(), Inbound::new(&master(profile)).unwrap())
}

fn peer(profile: Profile) -> Context {
    let theirs = match profile {
        Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Profile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        Profile::Aes128CmSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    let master = master(profile);
    let crypto = rtc_crypto::default_provider().unwrap();
    let salt = &master.salt()[..profile.salt_len()];
    Context::new(master.key(), salt, theirs, None, None, crypto.crypto()).unwrap()
}

/// A packet with two CSRCs and an extension of one word.
fn rtp(seq: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x92, 0x60];
    packet.extend(seq.to_be_bytes());
    packet.extend(hex("00000001 cafebabe 00000011 00000022 bede0001 10aa0000"));
    packet.extend(payload);
    packet
}

fn receiver_report() -> Vec<u8> {
    hex("81c90007 cafebabe 11223344 00000000 00000001 00000002 00000003 00000004")
}

fn protect(outbound: &mut Outbound, packet: &[u8]) -> Vec<u8> {
    let mut buffer = [packet, &[0; MAX_RTP_OVERHEAD]].concat();
    let len = outbound.protect_rtp(&mut buffer, packet.len()).unwrap();
    buffer.truncate(len);
    buffer
}

fn protect_rtcp(outbound: &mut Outbound, packet: &[u8]) -> Vec<u8> {
    let mut buffer = [packet, &[0; MAX_RTCP_OVERHEAD]].concat();
    let len = outbound.protect_rtcp(&mut buffer, packet.len()).unwrap();
    buffer.truncate(len);
    buffer
}

fn unprotect(inbound: &mut Inbound, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
    let mut packet = packet.to_vec();
    let len = inbound.unprotect_rtp(&mut packet)?;
    packet.truncate(len);
    Ok(packet)
}

fn unprotect_rtcp(inbound: &mut Inbound, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
    let mut packet = packet.to_vec();
    let len = inbound.unprotect_rtcp(&mut packet)?;
    packet.truncate(len);
    Ok(packet)
}

/// A context of AES-GCM with the session key and salt of RFC 7714, 16 and 17.
fn rfc_7714(key_len: u8) -> cipher::Cipher {
    let key: Vec<u8> = (0..key_len).collect();
    let gcm = || GcmKey::new(&key, *b"Quid pro quo").unwrap();
    cipher::Cipher::Gcm { rtp: gcm(), rtcp: gcm() }
}

#[test]
fn gcm_seals_rtp_as_in_rfc_7714_section_16() {
    let plain = hex("8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973
                     20646976 69736120 696e2070 61727465 73207472 6573");
    let sealed_128 = hex("8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5
                          0d294e6f 42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce");
    let sealed_256 = hex("8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238
                          9a58e2f3 b50b2a02 76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13");
    for (key_len, sealed) in [(16, sealed_128), (32, sealed_256)] {
        assert_eq!(protect(&mut Outbound::with_cipher(rfc_7714(key_len)), &plain), sealed);
        assert_eq!(unprotect(&mut Inbound::with_cipher(rfc_7714(key_len)), &sealed), Ok(plain.clone()));
    }
}

#[test]
fn gcm_seals_rtcp_as_in_rfc_7714_section_17() {
    let plain = hex("81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
                     deadbeef deadbeef deadbeef deadbeef deadbeef");
    let sealed = hex("81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d
                      c676a5f1 730d6fda 4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4");
    let mut outbound = Outbound::with_cipher(rfc_7714(16));
    outbound.set_rtcp_index(0x5d3);
    assert_eq!(protect_rtcp(&mut outbound, &plain), sealed);
    assert_eq!(unprotect_rtcp(&mut Inbound::with_cipher(rfc_7714(16)), &sealed), Ok(plain));
}

#[test]
fn an_independent_implementation_opens_what_we_seal_and_the_reverse() {
    for profile in PROFILES {
        let (mut outbound, mut inbound) = pair(profile);
        let (mut their_inbound, mut their_outbound) = (peer(profile), peer(profile));
        for seq in (65_530..=65_535).chain(0..6) {
            let plain = rtp(seq, &[seq as u8; 700]);
            assert_eq!(their_inbound.decrypt_rtp(&protect(&mut outbound, &plain)).unwrap(), plain, "{profile:?} {seq}");
            let theirs = their_outbound.encrypt_rtp(&plain).unwrap();
            assert_eq!(unprotect(&mut inbound, &theirs).unwrap(), plain, "{profile:?} {seq}");

            let report = receiver_report();
            assert_eq!(their_inbound.decrypt_rtcp(&protect_rtcp(&mut outbound, &report)).unwrap(), report);
            let theirs = their_outbound.encrypt_rtcp(&report).unwrap();
            assert_eq!(unprotect_rtcp(&mut inbound, &theirs).unwrap(), report, "{profile:?}");
        }
    }
}

#[test]
fn a_damaged_packet_is_refused_and_the_true_one_still_accepted() {
    for profile in PROFILES {
        let (mut outbound, mut inbound) = pair(profile);
        let sealed = protect(&mut outbound, &rtp(9, b"payload"));
        let report = protect_rtcp(&mut outbound, &receiver_report());
        for at in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 0x40;
            assert!(unprotect(&mut inbound, &forged).is_err(), "{profile:?} byte {at}");
        }
        for at in 0..report.len() {
            let mut forged = report.clone();
            forged[at] ^= 0x40;
            assert!(unprotect_rtcp(&mut inbound, &forged).is_err(), "{profile:?} byte {at}");
        }
        assert_eq!(unprotect(&mut inbound, &sealed), Ok(rtp(9, b"payload")));
        assert_eq!(unprotect_rtcp(&mut inbound, &report), Ok(receiver_report()));
    }
}

#[test]
fn replayed_packets_are_refused() {
    for profile in PROFILES {
        let (mut outbound, mut inbound) = pair(profile);
        let sealed: Vec<_> = (0..600).map(|seq| protect(&mut outbound, &rtp(seq, b"x"))).collect();
        let late = sealed[590].clone();
        for (seq, packet) in sealed.iter().enumerate() {
            if seq != 590 {
                unprotect(&mut inbound, packet).unwrap();
                assert_eq!(unprotect(&mut inbound, packet), Err(SrtpError::Replayed));
            }
        }
        assert_eq!(unprotect(&mut inbound, &sealed[0]), Err(SrtpError::Replayed), "older than the window");
        assert_eq!(unprotect(&mut inbound, &late), Ok(rtp(590, b"x")), "late, but new");

        let report = protect_rtcp(&mut outbound, &receiver_report());
        unprotect_rtcp(&mut inbound, &report).unwrap();
        assert_eq!(unprotect_rtcp(&mut inbound, &report), Err(SrtpError::Replayed));
    }
}

#[test]
fn a_sender_refuses_to_use_a_number_twice() {
    let (mut outbound, _) = pair(Profile::AeadAes128Gcm);
    protect(&mut outbound, &rtp(7, b"one"));
    let mut second = [rtp(7, b"two"), vec![0; MAX_RTP_OVERHEAD]].concat();
    let len = second.len() - MAX_RTP_OVERHEAD;
    assert_eq!(outbound.protect_rtp(&mut second, len), Err(SrtpError::NumberReused));
}

#[test]
fn a_forged_first_packet_claims_no_stream() {
    let (mut outbound, mut inbound) = pair(Profile::AeadAes128Gcm);
    for ssrc in 0..2 * MAX_STREAMS as u32 {
        let mut forged = rtp(60_000, &[0; 40]);
        forged[8..12].copy_from_slice(&ssrc.to_be_bytes());
        assert_eq!(unprotect(&mut inbound, &forged), Err(SrtpError::Authentication));
    }
    let sealed = protect(&mut outbound, &rtp(1, b"x"));
    assert_eq!(unprotect(&mut inbound, &sealed), Ok(rtp(1, b"x")));
}

#[test]
fn streams_are_bounded() {
    let (mut outbound, mut inbound) = pair(Profile::AeadAes128Gcm);
    for ssrc in 0..=MAX_STREAMS as u32 {
        let mut packet = rtp(1, b"x");
        packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
        let mut buffer = [packet.as_slice(), &[0; MAX_RTP_OVERHEAD]].concat();
        let sealed = outbound.protect_rtp(&mut buffer, packet.len());
        if ssrc == MAX_STREAMS as u32 {
            assert_eq!(sealed, Err(SrtpError::TooManyStreams));
        } else {
            buffer.truncate(sealed.unwrap());
            assert!(unprotect(&mut inbound, &buffer).is_ok());
        }
    }
}

#[test]
fn a_packet_with_an_mki_is_refused() {
    for profile in PROFILES {
        let (mut outbound, mut inbound) = pair(profile);
        let sealed = protect(&mut outbound, &rtp(1, b"payload"));
        let mki = match profile {
            Profile::Aes128CmSha1_80 => sealed.len() - 10,
            _ => sealed.len(),
        };
        let with_mki = [&sealed[..mki], &[0, 0, 0, 1], &sealed[mki..]].concat();
        assert_eq!(unprotect(&mut inbound, &with_mki), Err(SrtpError::Authentication), "{profile:?}");
    }
}

#[test]
fn rtcp_in_the_clear_is_refused() {
    let (mut outbound, mut inbound) = pair(Profile::AeadAes128Gcm);
    let mut report = protect_rtcp(&mut outbound, &receiver_report());
    let word = report.len() - 4;
    report[word] &= 0x7f;
    assert_eq!(unprotect_rtcp(&mut inbound, &report), Err(SrtpError::NotEncrypted));
}

#[test]
fn a_buffer_without_room_is_refused() {
    for profile in PROFILES {
        let (mut outbound, _) = pair(profile);
        let packet = rtp(1, b"x");
        let mut buffer = packet.clone();
        assert_eq!(outbound.protect_rtp(&mut buffer, packet.len()), Err(SrtpError::NoRoom));
        assert_eq!(outbound.protect_rtp(&mut buffer, packet.len() + 1), Err(SrtpError::NoRoom));
        assert_eq!(outbound.protect_rtcp(&mut receiver_report(), 32), Err(SrtpError::NoRoom));
    }
}

#[test]
fn exported_keys_are_split_by_role() {
    for profile in PROFILES {
        let exported: Vec<u8> = (0..2 * (profile.key_len() + profile.salt_len()) as u8).collect();
        let client = SessionKeys::from_exporter(profile, &exported, DtlsRole::Client).unwrap();
        let server = SessionKeys::from_exporter(profile, &exported, DtlsRole::Server).unwrap();
        assert_eq!(client.outbound, server.inbound);
        assert_eq!(client.inbound, server.outbound);
        assert_ne!(client.outbound, client.inbound);
        assert_eq!(client.outbound.key(), &exported[..profile.key_len()]);
        assert_eq!(
            SessionKeys::from_exporter(profile, &exported[1..], DtlsRole::Server),
            Err(SrtpError::KeyLength),
            "{profile:?}"
        );
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..120), at in 0usize..3) {
        let (_, mut inbound) = pair(PROFILES[at]);
        prop_assert!(inbound.unprotect_rtp(&mut bytes.clone()).is_err());
        prop_assert!(inbound.unprotect_rtcp(&mut bytes).is_err());
    }

    #[test]
    fn what_is_sealed_opens_to_the_same(payload in prop::collection::vec(any::<u8>(), 0..1_300), seq: u16, at in 0usize..3) {
        let (mut outbound, mut inbound) = pair(PROFILES[at]);
        let plain = rtp(seq, &payload);
        prop_assert_eq!(unprotect(&mut inbound, &protect(&mut outbound, &plain)), Ok(plain));
    }
}
