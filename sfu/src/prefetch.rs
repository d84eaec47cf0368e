//! Asks for memory before it is needed: a packet goes to many receivers, and what belongs to each is out of the caches by
//! its next turn. While one is served, the next one's comes in.

/// Bytes that come in together.
const LINE: usize = 64;

/// Asks for all of a value.
#[inline]
pub(crate) fn value<T>(value: &T) {
    let start = std::ptr::from_ref(value).cast::<u8>();
    for at in (0..size_of::<T>()).step_by(LINE) {
        line(start.wrapping_add(at));
    }
}

/// Asks for the first `len` bytes, as far as there are so many.
#[inline]
pub(crate) fn bytes(bytes: &[u8], len: usize) {
    for at in (0..bytes.len().min(len)).step_by(LINE) {
        line(bytes.as_ptr().wrapping_add(at));
    }
}

/// Asks for a value's neighbour too, where the next one will be put.
#[inline]
pub(crate) fn value_and_next<T>(value: &T) {
    self::value(value);
    line(std::ptr::from_ref(value).wrapping_add(1).cast());
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn line(at: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a hint: nothing is read, and an address that is not mapped is ignored.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn line(_: *const u8) {}
