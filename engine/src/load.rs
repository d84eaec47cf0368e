//! Doors for programs that play many clients at once: media coded ahead of time, and whom a client trusts as its server. Not
//! part of the public interface.

use crate::{
    Bitrate, Timestamp,
    audio::{AudioSettings, OpusEncoder, OpusError, SAMPLES_PER_PACKET},
    media::MediaError,
    signaling::{self, Fingerprint},
};
use bytes::Bytes;
use std::{f64::consts::TAU, sync::Arc};

/// The TLS configuration of a client that trusts public authorities, or only the certificate with this fingerprint.
///
/// # Errors
/// Where the TLS library has no version that it supports.
pub fn tls(pin: Option<Fingerprint>) -> Result<Arc<rustls::ClientConfig>, rustls::Error> {
    signaling::client_config(pin)
}

/// The WebSocket address of a server as people write it.
///
/// # Errors
/// Where it is none.
pub fn server_url(address: &str) -> Result<String, crate::BuildError> {
    crate::engine::server_url(address).map(String::from)
}

/// `packets` Opus payloads of 20 ms each: something with the pitch, the syllables and the pauses of a voice.
///
/// # Errors
/// Where libopus fails.
pub fn speech(packets: usize, bitrate: Bitrate) -> Result<Vec<Bytes>, OpusError> {
    let mut encoder = OpusEncoder::new(&AudioSettings { bitrate, complexity: 5, ..AudioSettings::default() })?;
    let mut coded = Vec::with_capacity(packets);
    for packet in 0..packets {
        let first = packet * SAMPLES_PER_PACKET;
        let pcm: Vec<f32> = (first..first + SAMPLES_PER_PACKET).map(|n| voice(n as f64 / 48_000.0)).collect();
        coded.extend(encoder.encode(&pcm)?.map(|encoded| encoded.payload));
    }
    Ok(coded)
}

/// The voice at a time in seconds.
fn voice(at: f64) -> f32 {
    // Pitch falls within a phrase of two seconds; four syllables a second.
    let phrase = at % 2.0;
    let phase = TAU * (at * 115.0 + 4.0 * (TAU * 0.37 * at).sin());
    let syllable = (TAU * 2.0 * at).sin().abs() * (1.0 - phrase / 2.5);
    let harmonics: f64 = (1..12).map(|k| (f64::from(k) * phase).sin() / f64::from(k)).sum();
    (0.2 * syllable * harmonics) as f32
}

/// A picture as it goes into packets.
#[cfg(feature = "video")]
#[derive(Clone, Debug)]
pub struct CodedPicture {
    /// Whether decoding can start here.
    pub key_frame: bool,
    /// RTP payloads, in order.
    pub payloads: Vec<Bytes>,
}

/// The test pattern coded as AV1, beginning with the only key frame: it can be sent again and again from the start.
///
/// # Errors
/// Where libaom fails, or the size is not possible.
#[cfg(feature = "video")]
pub fn pictures(
    (width, height): (u32, u32),
    frame_rate: f64,
    bitrate: Bitrate,
    count: u64,
    max_payload: usize,
) -> Result<Vec<CodedPicture>, MediaError> {
    use crate::{
        av1::packetize::packetize,
        video::{
            Content,
            encoder::{Encoder, EncoderConfig, KeyFrame},
            pattern,
        },
    };
    let mut encoder = Encoder::new(EncoderConfig { bitrate, frame_rate, content: Content::Camera });
    let mut coded: Vec<CodedPicture> = Vec::new();
    for number in 0..count {
        let at = Timestamp::from_nanos((number as f64 * 1e9 / frame_rate) as u64);
        let frame = pattern::draw(width, height, number, at)?;
        // Rate control leaves some pictures out.
        let Some(picture) = encoder.encode(&frame, KeyFrame::AsNeeded)? else { continue };
        if picture.key_frame && !coded.is_empty() {
            // A second key frame ends the loop early: the first serves as well.
            break;
        }
        let payloads = packetize(&picture.data, max_payload);
        coded.push(CodedPicture { key_frame: picture.key_frame, payloads });
    }
    Ok(coded)
}

/// Decodes a picture that needs no other, from the payloads of all of its packets in order; its width and height.
///
/// # Errors
/// Where they are no whole picture, or dav1d cannot decode it.
#[cfg(feature = "video")]
pub fn decode(payloads: &[Vec<u8>]) -> Result<(u32, u32), MediaError> {
    use crate::{av1::packetize::depacketize, video::decoder::Decoder};
    let failed = |cause: String| MediaError::new(format!("a picture cannot be decoded: {cause}"));
    let unit = depacketize(payloads.iter().map(Vec::as_slice)).map_err(|error| failed(error.to_string()))?;
    let picture = Decoder::new()?.decode(unit, Timestamp::ZERO).map_err(|error| failed(error.to_string()))?;
    picture.map(|frame| (frame.width(), frame.height())).ok_or_else(|| failed("it shows nothing".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speech_is_as_many_packets_of_about_the_rate_asked_for() {
        let packets = speech(100, Bitrate::from_kbps(32)).unwrap();
        let bytes: usize = packets.iter().map(Bytes::len).sum();
        assert_eq!(packets.len(), 100);
        assert!((3_000..14_000).contains(&bytes), "{bytes} bytes in 2 s");
    }

    #[cfg(feature = "video")]
    #[test]
    fn pictures_begin_with_their_only_key_frame_and_keep_to_the_payload_size() {
        let pictures = pictures((320, 180), 15.0, Bitrate::from_kbps(300), 30, 1_100).unwrap();
        assert!(pictures.len() > 20 && pictures[0].key_frame && pictures[1..].iter().all(|p| !p.key_frame));
        assert!(pictures.iter().flat_map(|p| &p.payloads).all(|payload| payload.len() <= 1_100));
        let payloads = |n: usize| pictures[n].payloads.iter().map(|payload| payload.to_vec()).collect::<Vec<_>>();
        assert_eq!(decode(&payloads(0)).unwrap(), (320, 180));
        assert!(decode(&payloads(1)).is_err(), "it needs the one before");
        let bytes: usize = pictures.iter().flat_map(|p| &p.payloads).map(Bytes::len).sum();
        assert!((20_000..150_000).contains(&bytes), "{bytes} bytes in 2 s at 300 kbit/s");
    }
}
