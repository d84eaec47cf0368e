//! The one door to libopus: a voice encoder, a decoder with concealment, and a reader of packet headers.
//!
//! Nothing of the `opus` crate appears in a signature here. Payloads are those of RFC 7587: one Opus packet each, on a
//! 48 kHz clock whatever the sender's own rate. Packet headers are read by RFC 6716, section 3.1, without libopus.

use super::{Muted, SAMPLES_PER_PACKET};
use bytes::Bytes;
use halloo_transport::Bitrate;

/// Longest packet that RFC 6716 allows: 120 ms.
pub(crate) const MAX_PACKET_FRAMES: usize = 5_760;
/// Shortest step that libopus conceals in: 2.5 ms.
const CONCEAL_STEP: usize = 120;
/// Payloads up to this size hold a header and no sound: the sender is in discontinuous transmission.
const DTX_PAYLOAD: usize = 2;

/// What libopus refused.
#[derive(Debug, Clone, thiserror::Error)]
#[error("libopus could not {doing}: {reason}")]
pub struct OpusError {
    doing: &'static str,
    reason: String,
}

impl OpusError {
    fn new(doing: &'static str) -> impl FnOnce(opus::Error) -> Self {
        move |e| Self { doing, reason: e.description().to_owned() }
    }
}

/// What the encoder tunes itself for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Application {
    /// Speech: intelligible at low rates, can carry in-band FEC.
    #[default]
    Voice,
    /// Music and mixed sound.
    Music,
}

/// Whether lost packets can be rebuilt from the packet that follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fec {
    /// In-band FEC, spent only as far as the expected loss asks for it.
    #[default]
    InBand,
    /// None.
    Off,
}

/// Whether silence is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Dtx {
    /// Every packet is sent.
    #[default]
    Off,
    /// In silence one update each 400 ms is sent.
    On,
}

/// How a published track is encoded.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AudioSettings {
    /// What the encoder tunes itself for.
    pub application: Application,
    /// Target rate of the Opus payloads.
    pub bitrate: Bitrate,
    /// 1, or 2 where the source gives stereo and it should be heard.
    pub channels: u8,
    /// Forward error correction.
    pub fec: Fec,
    /// Share of packets that is expected to be lost, 0 to 1; decides how much FEC is spent.
    pub expected_loss: f64,
    /// Discontinuous transmission.
    pub dtx: Dtx,
    /// libopus' effort, 0 to 10.
    pub complexity: u8,
    /// Whether the track begins silenced: nothing of the source is heard before it is unmuted.
    pub muted: Muted,
}

impl Default for AudioSettings {
    fn default() -> Self {
        Self {
            application: Application::Voice,
            bitrate: Bitrate::from_kbps(32),
            channels: 1,
            fec: Fec::InBand,
            expected_loss: 0.0,
            dtx: Dtx::Off,
            complexity: 9,
            muted: Muted::No,
        }
    }
}

/// Encodes 20 ms at a time.
pub(crate) struct OpusEncoder {
    encoder: opus::Encoder,
    channels: usize,
    in_dtx: bool,
    packet: Vec<u8>,
}

/// An encoded packet and how it relates to the one before.
pub(crate) struct Encoded {
    /// The RTP payload.
    pub(crate) payload: Bytes,
    /// Whether it is the first after a pause in transmission (RFC 3551, section 4.1).
    pub(crate) after_silence: bool,
}

impl OpusEncoder {
    pub(crate) fn new(settings: &AudioSettings) -> Result<Self, OpusError> {
        let channels = if settings.channels >= 2 { opus::Channels::Stereo } else { opus::Channels::Mono };
        let application = match settings.application {
            Application::Voice => opus::Application::Voip,
            Application::Music => opus::Application::Audio,
        };
        let mut encoder =
            opus::Encoder::new(48_000, channels, application).map_err(OpusError::new("create an encoder"))?;
        encoder.set_complexity(i32::from(settings.complexity.min(10))).map_err(OpusError::new("set the complexity"))?;
        encoder.set_inband_fec(settings.fec == Fec::InBand).map_err(OpusError::new("set forward error correction"))?;
        encoder.set_dtx(settings.dtx == Dtx::On).map_err(OpusError::new("set discontinuous transmission"))?;
        let mut this = Self { encoder, channels: channels as usize, in_dtx: false, packet: vec![0; 1_275] };
        this.set_bitrate(settings.bitrate)?;
        this.set_expected_loss(settings.expected_loss)?;
        Ok(this)
    }

    /// 1 or 2: how many samples a frame passed to [`Self::encode`] has.
    pub(crate) fn channels(&self) -> usize {
        self.channels
    }

    pub(crate) fn set_bitrate(&mut self, bitrate: Bitrate) -> Result<(), OpusError> {
        let bps = i32::try_from(bitrate.as_bps().clamp(6_000, 510_000)).unwrap_or(32_000);
        self.encoder.set_bitrate(opus::Bitrate::Bits(bps)).map_err(OpusError::new("set the bitrate"))
    }

    pub(crate) fn set_expected_loss(&mut self, share: f64) -> Result<(), OpusError> {
        let percent = (share.clamp(0.0, 1.0) * 100.0).round() as i32;
        self.encoder.set_packet_loss_perc(percent).map_err(OpusError::new("set the expected loss"))
    }

    /// Encodes [`SAMPLES_PER_PACKET`] interleaved frames; `None` where discontinuous transmission sends nothing. The first
    /// packet without sound is still sent, so that the receiver knows that the pause is no loss.
    pub(crate) fn encode(&mut self, pcm: &[f32]) -> Result<Option<Encoded>, OpusError> {
        debug_assert_eq!(pcm.len(), SAMPLES_PER_PACKET * self.channels);
        let len = self.encoder.encode_float(pcm, &mut self.packet).map_err(OpusError::new("encode a packet"))?;
        let was_in_dtx = self.in_dtx;
        self.in_dtx = len <= DTX_PAYLOAD;
        if self.in_dtx && was_in_dtx {
            return Ok(None);
        }
        Ok(Some(Encoded { payload: Bytes::copy_from_slice(&self.packet[..len]), after_silence: was_in_dtx }))
    }
}

/// Decodes packets of any duration, appending interleaved samples; never fails, only conceals.
pub(crate) struct OpusDecoder {
    decoder: opus::Decoder,
    channels: usize,
    scratch: Vec<f32>,
}

impl OpusDecoder {
    /// A decoder that gives 1 or 2 channels, whatever the packets hold.
    pub(crate) fn new(channels: usize) -> Result<Self, OpusError> {
        let kind = if channels >= 2 { opus::Channels::Stereo } else { opus::Channels::Mono };
        let decoder = opus::Decoder::new(48_000, kind).map_err(OpusError::new("create a decoder"))?;
        let channels = kind as usize;
        Ok(Self { decoder, channels, scratch: vec![0.0; MAX_PACKET_FRAMES * channels] })
    }

    pub(crate) fn channels(&self) -> usize {
        self.channels
    }

    /// Appends what `payload` holds.
    pub(crate) fn decode(&mut self, payload: &[u8], out: &mut Vec<f32>) -> Result<usize, OpusError> {
        let frames =
            self.decoder.decode_float(payload, &mut self.scratch, false).map_err(OpusError::new("decode a packet"))?;
        self.append(frames, out);
        Ok(frames)
    }

    /// Appends the `frames` that came before `next`, rebuilt from the redundancy in it.
    pub(crate) fn decode_fec(&mut self, next: &[u8], frames: usize, out: &mut Vec<f32>) -> Result<usize, OpusError> {
        let room = (round_to_step(frames) * self.channels).min(self.scratch.len());
        let made = self
            .decoder
            .decode_float(next, &mut self.scratch[..room], true)
            .map_err(OpusError::new("rebuild a lost packet"))?;
        self.append(made.min(frames), out);
        Ok(made.min(frames))
    }

    /// Appends `frames` that continue what was decoded last.
    pub(crate) fn conceal(&mut self, frames: usize, out: &mut Vec<f32>) {
        let room = (round_to_step(frames) * self.channels).min(self.scratch.len());
        match self.decoder.decode_float(&[], &mut self.scratch[..room], false) {
            Ok(made) => self.append(made.min(frames), out),
            Err(_) => out.resize(out.len() + frames * self.channels, 0.0),
        }
    }

    fn append(&mut self, frames: usize, out: &mut Vec<f32>) {
        out.extend_from_slice(&self.scratch[..frames * self.channels]);
    }
}

fn round_to_step(frames: usize) -> usize {
    frames.div_ceil(CONCEAL_STEP).clamp(1, MAX_PACKET_FRAMES / CONCEAL_STEP) * CONCEAL_STEP
}

/// What a packet's first bytes say of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PacketInfo {
    /// Samples per channel at 48 kHz, all of its Opus frames together.
    pub(crate) frames: usize,
    /// Samples per channel of one of its Opus frames: what its redundancy can rebuild.
    pub(crate) fec_frames: usize,
    /// 1 or 2.
    pub(crate) channels: usize,
    /// Whether it carries a low-rate copy of the Opus frame before it.
    pub(crate) has_fec: bool,
    /// Whether it says only that the sender has stopped sending.
    pub(crate) dtx: bool,
}

impl PacketInfo {
    /// Reads the table-of-contents byte and the frame count (RFC 6716, section 3.1); `None` where they are malformed.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let (&toc, rest) = payload.split_first()?;
        let config = toc >> 3;
        let fec_frames = match config {
            0..12 => [480, 960, 1_920, 2_880][usize::from(config & 3)],
            12..16 => [480, 960][usize::from(config & 1)],
            _ => [120, 240, 480, 960][usize::from(config & 3)],
        };
        let count = match toc & 3 {
            0 => 1,
            1 | 2 => 2,
            _ => usize::from(*rest.first()? & 0x3f),
        };
        let frames = count * fec_frames;
        if count == 0 || frames > MAX_PACKET_FRAMES {
            return None;
        }
        let channels = if toc & 4 == 0 { 1 } else { 2 };
        Some(Self {
            frames,
            fec_frames,
            channels,
            has_fec: config < 16 && toc & 3 == 0 && has_low_rate_copy(rest, fec_frames, channels),
            dtx: payload.len() <= DTX_PAYLOAD,
        })
    }
}

/// Whether the low-bit-rate redundancy flag of a SILK frame is set: it follows the voice activity flags, one per 20 ms
/// (RFC 6716, sections 4.2.3 and 4.2.4). These bits have even odds in the range coder, so they stand in the clear.
fn has_low_rate_copy(frame: &[u8], frames: usize, channels: usize) -> bool {
    let Some(&first) = frame.first() else { return false };
    let silk_frames = frames.div_ceil(960);
    let mid = (first >> (7 - silk_frames)) & 1 == 1;
    let side = channels == 2 && silk_frames <= 3 && (first >> (6 - 2 * silk_frames)) & 1 == 1;
    mid || side
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::test_signal::speech_like;

    fn packets(settings: &AudioSettings, pcm: &[f32]) -> Vec<Bytes> {
        let mut encoder = OpusEncoder::new(settings).unwrap();
        let mut out = Vec::new();
        for chunk in pcm.chunks_exact(SAMPLES_PER_PACKET * encoder.channels()) {
            out.extend(encoder.encode(chunk).unwrap().map(|e| e.payload));
        }
        out
    }

    #[test]
    fn header_agrees_with_libopus() {
        let speech = speech_like(48_000);
        for (channels, bitrate) in [(1, 12), (1, 32), (1, 96), (2, 64)] {
            let settings = AudioSettings { channels, bitrate: Bitrate::from_kbps(bitrate), ..AudioSettings::default() };
            let pcm: Vec<f32> = speech.iter().flat_map(|s| vec![*s; usize::from(channels)]).collect();
            for payload in packets(&settings, &pcm) {
                let info = PacketInfo::parse(&payload).unwrap();
                assert_eq!(info.frames, opus::packet::get_nb_samples(&payload, 48_000).unwrap());
                assert_eq!(info.channels, opus::packet::get_nb_channels(&payload).unwrap() as usize);
            }
        }
    }

    #[test]
    fn redundancy_is_seen_only_where_loss_is_expected() {
        let speech = speech_like(96_000);
        let none = packets(&AudioSettings::default(), &speech);
        assert!(none.iter().all(|p| !PacketInfo::parse(p).unwrap().has_fec));
        let some = packets(&AudioSettings { expected_loss: 0.15, ..AudioSettings::default() }, &speech);
        let with = some.iter().filter(|p| PacketInfo::parse(p).unwrap().has_fec).count();
        assert!(with * 2 > some.len(), "{with} of {} packets carry redundancy", some.len());
    }

    #[test]
    fn a_lost_packet_is_rebuilt_from_the_next_better_than_it_is_concealed() {
        let speech = speech_like(96_000);
        let sent = packets(&AudioSettings { expected_loss: 0.15, ..AudioSettings::default() }, &speech);
        let mut clean = OpusDecoder::new(1).unwrap();
        let mut rebuilt = OpusDecoder::new(1).unwrap();
        let mut concealed = OpusDecoder::new(1).unwrap();
        let (mut a, mut b, mut c) = (Vec::new(), Vec::new(), Vec::new());
        for (i, payload) in sent.iter().enumerate() {
            clean.decode(payload, &mut a).unwrap();
            if i % 5 == 4 && i + 1 < sent.len() {
                rebuilt.decode_fec(&sent[i + 1], 960, &mut b).unwrap();
                concealed.conceal(960, &mut c);
            } else {
                rebuilt.decode(payload, &mut b).unwrap();
                concealed.decode(payload, &mut c).unwrap();
            }
        }
        let error = |x: &[f32]| x.iter().zip(&a).map(|(x, a)| (x - a).powi(2)).sum::<f32>();
        assert!(error(&b) * 2.0 < error(&c), "rebuilt {} concealed {}", error(&b), error(&c));
    }

    #[test]
    fn silence_with_dtx_sends_little_and_marks_the_end_of_the_pause() {
        let settings = AudioSettings { dtx: Dtx::On, ..AudioSettings::default() };
        let mut encoder = OpusEncoder::new(&settings).unwrap();
        let speech = speech_like(48_000);
        let silence = vec![0.0; 960];
        for chunk in speech.chunks_exact(960) {
            encoder.encode(chunk).unwrap();
        }
        let sent = (0..100).filter(|_| encoder.encode(&silence).unwrap().is_some()).count();
        assert!(sent < 40, "{sent} of 100 silent packets were sent");
        let first = speech.chunks_exact(960).find_map(|chunk| encoder.encode(chunk).unwrap()).unwrap();
        assert!(first.after_silence);
    }

    #[test]
    fn malformed_headers_are_refused() {
        assert_eq!(PacketInfo::parse(&[]), None);
        assert_eq!(PacketInfo::parse(&[0b0000_0011]), None, "code 3 without a count");
        assert_eq!(PacketInfo::parse(&[0b0000_0011, 0]), None, "no frames");
        assert_eq!(PacketInfo::parse(&[0b0001_1011, 48]), None, "48 frames of 60 ms");
    }
}
