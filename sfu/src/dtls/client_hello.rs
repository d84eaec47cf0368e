//! What a ClientHello offers, read before a server's handshake begins: it decides the version.
//!
//! In DTLS 1.3 `dimpl` takes the client's first SRTP profile, in DTLS 1.2 the best one for the server. Chromium lists AES-CM
//! first, which costs four times as much per packet as AES-GCM does, for every packet of the call. So a client that can do
//! both, but prefers AES-CM, is answered in DTLS 1.2.
//!
//! Invariant: nothing is decided before the whole message is there (it may come in several datagrams and in any order), unless
//! it does not come together within a bound. RFC 9147, 5.3 and 5.5; RFC 5764, 4.1.1; RFC 8446, 4.2.1.

/// Datagrams that wait for the message to be complete.
const MAX_WAITING: usize = 16;
/// Longest message; those of browsers have 1.5 kB.
const MAX_LEN: usize = 8_192;

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const USE_SRTP: u16 = 14;
const SUPPORTED_VERSIONS: u16 = 43;
const DTLS_1_2: u16 = 0xfefd;
const AES_CM_SHA1_80: u16 = 1;
const AEAD_AES_128_GCM: u16 = 7;
const AEAD_AES_256_GCM: u16 = 8;

/// Which version to answer in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// The highest in common.
    Highest,
    /// DTLS 1.2, for a better SRTP profile.
    Dtls12,
}

/// The first datagrams of a client, until its ClientHello is whole.
#[derive(Debug, Default)]
pub(super) struct Opening {
    datagrams: Vec<Vec<u8>>,
}

impl Opening {
    /// Takes a datagram; the version once it is known. Then [`Opening::into_datagrams`] are to be handled.
    pub(super) fn add(&mut self, datagram: &[u8]) -> Option<Version> {
        self.datagrams.push(datagram.to_vec());
        match self.message() {
            Some(message) => Some(version(&message).unwrap_or(Version::Highest)),
            None if self.datagrams.len() >= MAX_WAITING => Some(Version::Highest),
            None => None,
        }
    }

    /// All datagrams, in the order in which they came.
    pub(super) fn into_datagrams(self) -> Vec<Vec<u8>> {
        self.datagrams
    }

    /// The body of the ClientHello, once all of it is there.
    fn message(&self) -> Option<Vec<u8>> {
        let mut fragments: Vec<_> = self.datagrams.iter().flat_map(|datagram| Fragments(datagram)).collect();
        fragments.sort_by_key(|fragment| fragment.offset);
        let total = fragments.first()?.total;
        let mut message = Vec::new();
        for fragment in fragments.iter().filter(|fragment| fragment.total == total && total <= MAX_LEN) {
            // What overlaps is there already; behind a gap nothing can be used.
            let known = message.len().checked_sub(fragment.offset)?;
            message.extend_from_slice(fragment.bytes.get(known..).unwrap_or_default());
        }
        (message.len() == total).then_some(message)
    }
}

/// A piece of a ClientHello.
#[derive(Clone, Copy, Debug)]
struct Fragment<'a> {
    total: usize,
    offset: usize,
    bytes: &'a [u8],
}

/// The pieces in a datagram's unencrypted records, as far as they can be read.
struct Fragments<'a>(&'a [u8]);

impl<'a> Iterator for Fragments<'a> {
    type Item = Fragment<'a>;

    fn next(&mut self) -> Option<Fragment<'a>> {
        loop {
            let mut datagram = Reader(self.0);
            let kind = datagram.u8()?;
            // Version, epoch, number.
            datagram.take(10)?;
            let len = datagram.u16()?;
            let record = datagram.take(usize::from(len))?;
            self.0 = datagram.0;
            if kind == HANDSHAKE_RECORD
                && let Some(fragment) = fragment(record)
            {
                return Some(fragment);
            }
        }
    }
}

fn fragment(record: &[u8]) -> Option<Fragment<'_>> {
    let mut record = Reader(record);
    let (kind, total) = (record.u8()?, record.u24()?);
    // The message's number.
    record.u16()?;
    let (offset, len) = (record.u24()?, record.u24()?);
    let bytes = record.take(len)?;
    (kind == CLIENT_HELLO && offset.checked_add(len)? <= total).then_some(Fragment { total, offset, bytes })
}

/// The version to answer a ClientHello in; `None` where it cannot be read.
fn version(message: &[u8]) -> Option<Version> {
    let mut hello = Reader(message);
    // Version and random.
    hello.take(34)?;
    for _session_id_and_cookie in 0..2 {
        let len = hello.u8()?;
        hello.take(usize::from(len))?;
    }
    let suites = hello.u16()?;
    hello.take(usize::from(suites))?;
    let compression = hello.u8()?;
    hello.take(usize::from(compression))?;
    let len = hello.u16()?;
    let mut extensions = Reader(hello.take(usize::from(len))?);
    let (mut offers_1_2, mut srtp) = (false, None);
    while let Some(kind) = extensions.u16() {
        let len = extensions.u16()?;
        let mut extension = Reader(extensions.take(usize::from(len))?);
        match kind {
            SUPPORTED_VERSIONS => {
                let len = extension.u8()?;
                offers_1_2 = Reader(extension.take(usize::from(len))?).words().any(|version| version == DTLS_1_2);
            }
            USE_SRTP => {
                let len = extension.u16()?;
                srtp = Some(extension.take(usize::from(len))?);
            }
            _ => {}
        }
    }
    let mut known =
        Reader(srtp?).words().filter(|profile| [AES_CM_SHA1_80, AEAD_AES_128_GCM, AEAD_AES_256_GCM].contains(profile));
    let prefers_cm = known.next() == Some(AES_CM_SHA1_80);
    let has_gcm = known.any(|profile| profile != AES_CM_SHA1_80);
    Some(if offers_1_2 && prefers_cm && has_gcm { Version::Dtls12 } else { Version::Highest })
}

/// Reads from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn u24(&mut self) -> Option<usize> {
        self.take(3).map(|bytes| usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]))
    }

    fn words(mut self) -> impl Iterator<Item = u16> {
        std::iter::from_fn(move || self.u16())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &(body.len() as u16).to_be_bytes(), body].concat()
    }

    fn hello(versions: &[u16], profiles: &[u16]) -> Vec<u8> {
        let words = |words: &[u16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
        let mut message = vec![0xfe, 0xfd];
        message.extend([7; 32]);
        message.extend([3, 1, 2, 3]);
        message.extend([2, 9, 9]);
        message.extend([0, 4, 0x13, 1, 0xc0, 0x2b]);
        message.extend([1, 0]);
        let mut extensions = extension(51, &[0; 1_216]);
        if !versions.is_empty() {
            extensions.extend(extension(43, &[&[2 * versions.len() as u8][..], &words(versions)].concat()));
        }
        if !profiles.is_empty() {
            let list = [&(2 * profiles.len() as u16).to_be_bytes()[..], &words(profiles), &[0]].concat();
            extensions.extend(extension(14, &list));
        }
        extensions.extend(extension(23, &[]));
        message.extend((extensions.len() as u16).to_be_bytes());
        message.extend(extensions);
        message
    }

    fn datagram(message: &[u8], from: usize, to: usize) -> Vec<u8> {
        let u24 = |value: usize| (value as u32).to_be_bytes()[1..].to_vec();
        let mut datagram = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0];
        datagram.extend((12 + to as u16 - from as u16).to_be_bytes());
        datagram.push(1);
        datagram.extend(u24(message.len()));
        datagram.extend([0, 0]);
        datagram.extend(u24(from));
        datagram.extend(u24(to - from));
        datagram.extend(&message[from..to]);
        datagram
    }

    fn answered_in(versions: &[u16], profiles: &[u16]) -> Version {
        let message = hello(versions, profiles);
        Opening::default().add(&datagram(&message, 0, message.len())).unwrap()
    }

    #[test]
    fn only_who_prefers_aes_cm_and_can_do_better_in_1_2_gets_1_2() {
        let both = [0xfefc, 0xfefd];
        assert_eq!(answered_in(&both, &[1, 8, 7]), Version::Dtls12);
        assert_eq!(answered_in(&both, &[2, 1, 7]), Version::Dtls12, "unknown ones do not count");
        assert_eq!(answered_in(&both, &[7, 8, 1]), Version::Highest);
        assert_eq!(answered_in(&both, &[1, 2]), Version::Highest, "there is no better one");
        assert_eq!(answered_in(&[0xfefc], &[1, 7]), Version::Highest, "only 1.3");
        assert_eq!(answered_in(&[], &[1, 7]), Version::Highest, "1.2 anyway");
        assert_eq!(answered_in(&both, &[]), Version::Highest);
    }

    #[test]
    fn a_message_that_never_comes_together_is_not_waited_for() {
        let message = hello(&[0xfefc, 0xfefd], &[1, 7]);
        let mut opening = Opening::default();
        let half = datagram(&message, 0, 700);
        let decided = (0..100).find_map(|n| opening.add(&half).map(|version| (n, version)));
        assert_eq!(decided, Some((MAX_WAITING - 1, Version::Highest)));
        assert_eq!(opening.into_datagrams().len(), MAX_WAITING);
    }

    proptest! {
        #[test]
        fn pieces_in_any_order_and_number_are_put_together(
            cuts in prop::collection::vec(0usize..1_290, 0..4), order in any::<prop::sample::Index>(), twice: bool,
        ) {
            let message = hello(&[0xfefc, 0xfefd], &[1, 7]);
            let mut cuts = [&[0][..], &cuts, &[message.len()]].concat();
            cuts.sort_unstable();
            cuts.dedup();
            let mut pieces: Vec<_> = cuts.windows(2).map(|cut| datagram(&message, cut[0], cut[1])).collect();
            let first = order.index(pieces.len());
            pieces.rotate_left(first);
            if twice && pieces.len() > 1 {
                pieces.insert(0, pieces[0].clone());
            }
            let mut opening = Opening::default();
            let (last, before) = pieces.split_last().unwrap();
            for piece in before {
                prop_assert_eq!(opening.add(piece), None);
            }
            prop_assert_eq!(opening.add(last), Some(Version::Dtls12));
            prop_assert_eq!(opening.into_datagrams(), pieces);
        }

        #[test]
        fn damaged_messages_are_read_without_a_panic(at in 0usize..1_400, value: u8, len in 0usize..1_400) {
            let message = hello(&[0xfefc, 0xfefd], &[1, 7]);
            let mut bytes = datagram(&message, 0, message.len());
            let at = at % bytes.len();
            bytes[at] = value;
            bytes.truncate(len);
            Opening::default().add(&bytes);
        }
    }
}
