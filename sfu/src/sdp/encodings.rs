//! Which streams a section sends: one, or several encodings of one picture (RFC 5576, RFC 8851, RFC 8853).

use super::error::{OfferError, clip};
use crate::room::Encoding;
use halloo_transport::{Rid, Ssrc};
use sdp_types::{Media, RidDirection, SsrcGroup};

/// Encodings of one source at most; what an offer lists beyond them is not accepted.
pub(super) const MAX_ENCODINGS: usize = 3;

/// The encodings to be sent: those of `a=simulcast` in its order, or the one with the declared SSRCs.
///
/// # Errors
/// [`OfferError::BadAttribute`] where `a=simulcast` names no `a=rid` line, or names one twice.
pub(super) fn read(media: &Media) -> Result<Vec<Encoding>, OfferError> {
    let rids = rids(media)?;
    if rids.is_empty() {
        let (ssrc, rtx_ssrc) = ssrcs(media);
        return Ok(vec![Encoding { rid: None, ssrc, rtx_ssrc }]);
    }
    Ok(rids.into_iter().map(|rid| Encoding { rid: Some(rid), ssrc: None, rtx_ssrc: None }).collect())
}

/// Of alternatives (`q,h`) the first is meant, and a paused encoding (`~q`) counts like any other.
fn rids(media: &Media) -> Result<Vec<Rid>, OfferError> {
    let Some(simulcast) = media.get_first_attribute_value("simulcast").flatten() else { return Ok(Vec::new()) };
    let refuse = |reason: String| OfferError::attribute("simulcast", reason);
    let mut words = simulcast.split(' ').filter(|word| !word.is_empty());
    let mut list = None;
    while let (Some(direction), Some(streams)) = (words.next(), words.next()) {
        if direction == "send" {
            list = Some(streams);
        }
    }
    let Some(list) = list else { return Ok(Vec::new()) };
    let declared: Vec<sdp_types::Rid> = media.attributes_typed().take(64).filter_map(Result::ok).collect();
    let mut rids: Vec<Rid> = Vec::new();
    for stream in list.split(';').take(64) {
        let first = stream.split(',').next().unwrap_or(stream).trim_start_matches('~');
        if !declared.iter().any(|rid| rid.id == first && rid.direction == RidDirection::Send) {
            return Err(refuse(format!("{} has no a=rid line to send", clip(first))));
        }
        if !is_rid(first) {
            return Err(refuse(format!("{} is no rid: 1 to 16 letters and digits are taken", clip(first))));
        }
        if rids.iter().any(|rid| rid.0 == first) {
            return Err(refuse(format!("{first} is named twice")));
        }
        rids.push(Rid(first.to_owned()));
    }
    rids.truncate(MAX_ENCODINGS);
    Ok(rids)
}

/// RFC 8852, section 3: letters and digits; 16 of them fit a one-byte header extension. Older implementations also use
/// `-` and `_`.
fn is_rid(text: &str) -> bool {
    (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// The first declared source and what repairs it (RFC 5576, sections 4.1 and 4.2).
fn ssrcs(media: &Media) -> (Option<Ssrc>, Option<Ssrc>) {
    let groups = media.attributes_typed::<SsrcGroup>().take(16).filter_map(Result::ok);
    for group in groups {
        if let ("FID", [ssrc, rtx, ..]) = (group.semantics.as_str(), group.ssrc_ids.as_slice()) {
            return (Some(Ssrc(*ssrc)), Some(Ssrc(*rtx)));
        }
    }
    let first = media.get_attribute_values("ssrc").flatten().find_map(|line| line.split(' ').next()?.parse().ok());
    (first.map(Ssrc), None)
}
