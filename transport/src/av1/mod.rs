//! What AV1 carries beside its payload: the dependency descriptor (RTP Payload Format For AV1, appendix A) and the one bit of
//! the payload that stays readable where there is none.
//!
//! ```text
//!  first packet of a key frame -> Structure (kept per stream)
//!  any packet + Structure      -> Descriptor: frame number, layers, who needs the frame, what it refers to
//!  Descriptor + Rewrite        -> descriptor for one receiver
//!  TemplateStructure + frame   -> descriptors of a frame that this side encoded
//! ```

mod aggregation_header;
mod bits;
mod descriptor;
mod structure;
#[cfg(any(test, feature = "synthetic"))]
pub mod synthetic;
mod writer;

pub use aggregation_header::starts_coded_video_sequence;
pub use descriptor::{Descriptor, MAX_DESCRIPTOR, Rewrite};
pub use structure::{Indication, Resolution, Structure, Template};
pub use writer::{FrameDependencies, FrameToSend, TemplateStructure};

/// Why bytes are not a descriptor that can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DescriptorError {
    /// It ends too early.
    #[error("the descriptor ends within a field")]
    Truncated,
    /// It refers to templates of a structure that was not seen, or is not the current one.
    #[error("the descriptor's template is not known")]
    UnknownTemplate,
    /// A count is outside what the specification allows.
    #[error("the template structure is malformed")]
    Malformed,
}
