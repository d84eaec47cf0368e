//! Which layers of a source a subscriber gets ([`Selector`]), and how its bandwidth is divided ([`allocate`]).

mod allocator;
mod frame_window;
mod selector;

pub(crate) use allocator::TILE_SHARE;
pub use allocator::{Allocation, Class, Layer, Request, allocate};
pub use selector::{Choice, Goal, PacketLayers, Selector};
