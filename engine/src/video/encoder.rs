//! AV1 encoding by libaom in real-time mode: one frame in, at most one temporal unit out, at once.
//!
//! Invariants: the codec context lives exactly as long as [`Encoder`]; presentation times given to it strictly increase. A new
//! picture size makes a new context and thus a key frame.

use super::aom::{Context, Settings};
use crate::{
    Timestamp,
    media::{MediaError, VideoFrame},
};
use bytes::Bytes;
use halloo_transport::Bitrate;

/// What a source shows, which decides how it is best coded and reduced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Content {
    /// Natural pictures: motion matters most.
    #[default]
    Camera,
    /// Text and graphics: sharpness matters most.
    Screen,
}

/// What an encoder is made for; all but the size may change while it runs.
#[derive(Clone, Copy, Debug)]
pub struct EncoderConfig {
    /// Bits per second to hold.
    pub bitrate: Bitrate,
    /// Frames per second to expect, for the first frames' budget; afterwards their times count.
    pub frame_rate: f64,
    /// Natural or screen content.
    pub content: Content,
}

/// A coded picture.
#[derive(Clone, Debug)]
pub struct EncodedPicture {
    /// A temporal unit in the low-overhead bitstream format.
    pub data: Bytes,
    /// Whether decoding can start here.
    pub key_frame: bool,
    /// The quantizer used, 0 to 255.
    pub quantizer: u8,
}

/// Whether a picture must be a key frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyFrame {
    /// The encoder is asked for one.
    Force,
    /// Only where it is needed.
    AsNeeded,
}

/// An AV1 encoder.
#[derive(Debug)]
pub struct Encoder {
    config: EncoderConfig,
    context: Option<Context>,
    clock: PresentationClock,
}

/// Presentation times for libaom, which must increase.
#[derive(Debug)]
pub(super) struct PresentationClock {
    origin: Option<Timestamp>,
    last: i64,
}

/// Ticks of the encoder's clock in a second, as in RTP.
const TIMEBASE: u32 = 90_000;
/// libaom's rate control counts in kbit/s and cannot work with less.
const MIN_BITRATE_KBPS: u64 = 8;
const MAX_BITRATE_KBPS: u64 = 1_000_000;

impl Encoder {
    /// An encoder that begins with the first picture it is given.
    pub fn new(config: EncoderConfig) -> Self {
        Self { config, context: None, clock: PresentationClock::new() }
    }

    /// Holds this rate from the next picture on.
    ///
    /// # Errors
    /// Where libaom refuses it.
    pub fn set_bitrate(&mut self, bitrate: Bitrate) -> Result<(), MediaError> {
        if bitrate == self.config.bitrate {
            return Ok(());
        }
        self.config.bitrate = bitrate;
        self.context.as_mut().map_or(Ok(()), |context| context.set_bitrate(kbps(bitrate)))
    }

    /// Expects this many frames per second from the next picture on.
    pub fn set_frame_rate(&mut self, frame_rate: f64) {
        self.config.frame_rate = frame_rate;
    }

    /// Codes for this kind of content from the next key frame on.
    pub fn set_content(&mut self, content: Content) {
        if content != self.config.content {
            self.config.content = content;
            self.context = None;
        }
    }

    /// Codes one picture. `None` where rate control dropped it.
    ///
    /// # Errors
    /// Where libaom fails; it starts again with a key frame at the next picture.
    pub fn encode(&mut self, frame: &VideoFrame, key_frame: KeyFrame) -> Result<Option<EncodedPicture>, MediaError> {
        let size = (frame.width(), frame.height());
        let mut key_frame = key_frame;
        let mut context = match self.context.take().filter(|context| context.size() == size) {
            Some(context) => context,
            None => {
                key_frame = KeyFrame::Force;
                Context::new(settings(&self.config, size))?
            }
        };
        let (pts, duration) = (self.clock.pts(frame.captured_at), duration(self.config.frame_rate));
        let picture = context.encode(frame, pts, duration, key_frame)?;
        // Only a context that works is kept.
        self.context = Some(context);
        Ok(picture)
    }
}

impl PresentationClock {
    pub(super) const fn new() -> Self {
        Self { origin: None, last: -1 }
    }

    pub(super) fn pts(&mut self, captured_at: Timestamp) -> i64 {
        let origin = *self.origin.get_or_insert(captured_at);
        let ticks = (captured_at.since(origin).as_nanos() * u128::from(TIMEBASE) / 1_000_000_000) as i64;
        self.last = ticks.max(self.last + 1);
        self.last
    }
}

/// Ticks that a frame is expected to last.
pub(super) fn duration(frame_rate: f64) -> u32 {
    (f64::from(TIMEBASE) / frame_rate.clamp(1.0, 240.0)) as u32
}

/// How a context for pictures of this size is set up.
pub(super) fn settings(config: &EncoderConfig, (width, height): (u32, u32)) -> Settings {
    let pixels = u64::from(width) * u64::from(height);
    Settings {
        width,
        height,
        bitrate_kbps: kbps(config.bitrate),
        timebase: TIMEBASE,
        screen: config.content == Content::Screen,
        bt709: height >= 720,
        // Small pictures leave time to search better; measured at 640x360 and 1280x720.
        speed: match pixels {
            0..=130_000 => 8,
            130_001..=600_000 => 9,
            _ => 10,
        },
        // A second thread shortens a frame's latency but costs CPU in all: only where one cannot keep up.
        threads: if pixels > 1_280 * 800 { 2 } else { 1 },
    }
}

pub(super) fn kbps(bitrate: Bitrate) -> u32 {
    (bitrate.as_bps() / 1_000).clamp(MIN_BITRATE_KBPS, MAX_BITRATE_KBPS) as u32
}
