//! Who speaks: the dominant speaker ([`Dominant`]), whom video slots follow, and the loudest few ([`Loudest`]), who are heard.
//!
//! Both read nothing but RFC 6464 levels. Speakers are places in a table of the caller's.

mod activity;
mod dominant;
mod loudest;
mod noise;

pub use dominant::Dominant;
pub use loudest::{Change, Loudest};
