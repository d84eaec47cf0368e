//! Session keys from a master key (RFC 3711, 4.3; RFC 6188 for 256 bits).
//!
//! The generator is AES in counter mode over the master salt with the label mixed in. With a key derivation rate of zero
//! there is one derivation, for index zero.

use aes::{
    Aes128, Aes256,
    cipher::{KeyIvInit, StreamCipher},
};
use ctr::Ctr128BE;

use super::{MasterKey, Profile, SrtpError};

/// What a session key is for (RFC 3711, 4.3.1 and 4.3.2).
#[derive(Clone, Copy, Debug)]
pub(super) enum Label {
    RtpEncryption = 0,
    RtpAuthentication = 1,
    RtpSalt = 2,
    RtcpEncryption = 3,
    RtcpAuthentication = 4,
    RtcpSalt = 5,
}

/// Fills `out` with the session key of `label`.
///
/// # Errors
/// [`SrtpError::KeyLength`] never happens for a [`MasterKey`], whose lengths were checked.
pub(super) fn derive(master: &MasterKey, label: Label, out: &mut [u8]) -> Result<(), SrtpError> {
    let mut iv = [0; 16];
    iv[..14].copy_from_slice(master.salt());
    iv[7] ^= label as u8;
    out.fill(0);
    match master.profile() {
        Profile::AeadAes256Gcm => Ctr128BE::<Aes256>::new_from_slices(master.key(), &iv)
            .map_err(|_| SrtpError::KeyLength)?
            .apply_keystream(out),
        Profile::AeadAes128Gcm | Profile::Aes128CmSha1_80 => Ctr128BE::<Aes128>::new_from_slices(master.key(), &iv)
            .map_err(|_| SrtpError::KeyLength)?
            .apply_keystream(out),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::srtp::tests::hex;

    #[test]
    fn session_keys_match_rfc_3711_appendix_b3() {
        let master = MasterKey::new(
            Profile::Aes128CmSha1_80,
            &hex("E1F97A0D3E018BE0D64FA32C06DE4139"),
            &hex("0EC675AD498AFEEBB6960B3AABE6"),
        )
        .unwrap();
        let (mut key, mut salt, mut auth) = ([0; 16], [0; 14], [0; 94]);
        derive(&master, Label::RtpEncryption, &mut key).unwrap();
        derive(&master, Label::RtpSalt, &mut salt).unwrap();
        derive(&master, Label::RtpAuthentication, &mut auth).unwrap();
        assert_eq!(key.as_slice(), hex("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(salt.as_slice(), hex("30CBBC08863D8C85D49DB34A9AE1"));
        assert_eq!(
            auth.as_slice(),
            hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCEE049646C43D9327AD175578EF7227098\
                 6371C10C9A369AC2F94A8C5FBCDDDC256D6E919A48B610EF17C2041E47403576\
                 6B68642C59BBFC2F34DB60DBDFB2")
        );
    }
}
