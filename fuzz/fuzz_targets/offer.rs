//! A participant's SDP offer: whatever it says it is answered or refused, and an answer keeps to it.
#![no_main]

use halloo_sfu::{
    room::{Grants, Limits},
    sdp::{Candidate, LocalTransport, Offer, Protocol, Terms, negotiate},
};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;

fuzz_target!(|text: &str| {
    let Ok(offer) = Offer::parse(text) else { return };
    let local = LocalTransport {
        ufrag: "ufragufrag".to_owned(),
        pwd: "passwordpasswordpassword".to_owned(),
        fingerprint: [7; 32],
        candidates: vec![Candidate { address: ([192, 0, 2, 1], 10_000).into(), protocol: Protocol::Udp }],
    };
    let terms = Terms { grants: Grants::ALL, limits: Limits::default(), start_publish: None, seed: text.len() as u64 };
    let Ok(first) = negotiate(&offer, &local, &terms, None) else { return };
    let sections = |sdp: &str| sdp.lines().filter(|line| line.starts_with("m=")).count();
    assert_eq!(sections(&first.answer), offer.sections.len());
    let ssrcs = first.participant.slots.iter().flat_map(|slot| [Some(slot.ssrc), slot.rtx.map(|rtx| rtx.ssrc)]);
    let ssrcs: Vec<_> = ssrcs.flatten().collect();
    assert_eq!(ssrcs.iter().map(|ssrc| ssrc.0).collect::<BTreeSet<_>>().len(), ssrcs.len());
    // The same offer once more changes nothing.
    let Ok(again) = negotiate(&offer, &local, &terms, Some(&first.agreed)) else { panic!("refused the second time") };
    assert_eq!(again.participant, first.participant);
});
