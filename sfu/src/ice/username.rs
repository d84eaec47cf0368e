//! The user fragment that a STUN request names, read before anything is verified: it only chooses whose key to verify with
//! (RFC 8445, 7.3; RFC 8489, 5 and 14.3).

const HEADER: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const USERNAME: u16 = 0x0006;

/// Our user fragment in the USERNAME of a Binding request (the part before the colon), if `datagram` looks like one.
/// Allocates nothing and verifies nothing.
pub fn local_ufrag(datagram: &[u8]) -> Option<&[u8]> {
    let header = datagram.first_chunk::<HEADER>()?;
    if header[..2] != BINDING_REQUEST || header[4..8] != MAGIC_COOKIE {
        return None;
    }
    if usize::from(u16::from_be_bytes([header[2], header[3]])) + HEADER != datagram.len() {
        return None;
    }
    let mut attributes = &datagram[HEADER..];
    while let Some((&[t0, t1, l0, l1], rest)) = attributes.split_first_chunk::<4>() {
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        let value = rest.get(..len)?;
        if u16::from_be_bytes([t0, t1]) == USERNAME {
            let colon = value.iter().position(|byte| *byte == b':')?;
            return Some(&value[..colon]);
        }
        attributes = rest.get(len.next_multiple_of(4)..)?;
    }
    None
}
