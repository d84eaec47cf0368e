//! Video: sources, AV1 in both directions, packets, and sinks.
//!
//! ```text
//!  VideoSource -> VideoSender thread: reduce -> encode (in layers where the route carries them) -> packetize -> route
//!  route -> VideoReceiver thread: frame buffer -> decode -> every attached VideoSink
//! ```

pub mod adapt;
mod aom;
mod cadence;
mod callback;
#[cfg(all(feature = "camera", target_os = "linux"))]
pub mod camera;
pub mod convert;
pub mod decoder;
pub mod encoder;
pub mod frame_number;
pub mod i420;
pub mod layer_plan;
pub mod layered;
mod numbered;
pub mod pace;
pub mod pattern;
mod png;
pub(crate) mod receiver;
pub mod scalability;
pub mod scale;
#[cfg(all(feature = "screen", target_os = "linux"))]
pub mod screen;
pub(crate) mod sender;
mod sender_coder;
mod ssim;
#[cfg(test)]
mod tests;
#[cfg(feature = "window")]
pub mod window;
mod y4m;

pub use callback::CallbackSink;
pub use encoder::Content;
pub use numbered::NumberedSource;
pub use pattern::PatternSource;
pub use png::{PngSnapshot, write_png};
pub use receiver::{SinkId, VideoReceiverStats};
pub use sender::{Enabled, VideoSenderStats, VideoSettings};
pub use ssim::ssim;
pub use y4m::{Repeat, Y4mSink, Y4mSinkOptions, Y4mSinkStats, Y4mSource};
