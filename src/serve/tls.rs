//! Certificates: one of its own for the local network, or the operator's in PEM.

use crate::{data, data::DataDir};
use anyhow::{Context, bail};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, SanType};
use rustls::{
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{
    fs,
    net::IpAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// A certificate holds for this long: phones refuse more than 825 days.
const LIFETIME: Duration = Duration::from_secs(820 * 86_400);
/// A certificate older than this is made anew.
const RENEW_AFTER: Duration = Duration::from_secs(790 * 86_400);

/// What the server needs for TLS.
pub(super) struct Tls {
    pub(super) config: Arc<rustls::ServerConfig>,
    /// SHA-256 of the certificate, as `AB:CD:...`, for native clients to pin.
    pub(super) fingerprint: String,
}

/// The server's own certificate, kept in the data folder so that clients can pin it.
pub(super) fn self_signed(data: &DataDir) -> anyhow::Result<Tls> {
    let path = data.join("lan.pem");
    let age = fs::metadata(&path)
        .and_then(|meta| meta.modified())
        .ok()
        .and_then(|at| SystemTime::now().duration_since(at).ok());
    if age.is_some_and(|age| age > RENEW_AFTER) {
        fs::remove_file(&path).with_context(|| format!("{} is too old and cannot be removed", path.display()))?;
    }
    if !path.exists() {
        data::write_private(&path, new_certificate()?.as_bytes())?;
    }
    from_pem(&path, &path).context("remove the file to get a new certificate")
}

fn new_certificate() -> anyhow::Result<String> {
    let key = KeyPair::generate().context("a key for the certificate could not be made")?;
    let mut params = CertificateParams::new(host_names()).context("the machine's name does not fit a certificate")?;
    params.subject_alt_names.extend(lan_addresses().into_iter().map(SanType::IpAddress));
    for local in [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])] {
        params.subject_alt_names.push(SanType::IpAddress(local));
    }
    params.distinguished_name.push(DnType::CommonName, "Halloo on this network");
    params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::DAY;
    params.not_after = now + LIFETIME;
    let certificate = params.self_signed(&key).context("the certificate could not be signed")?;
    Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
}

/// A certificate chain and its key from PEM files.
pub(super) fn from_pem(cert: &Path, key: &Path) -> anyhow::Result<Tls> {
    let read =
        |what, path: &Path| fs::read(path).with_context(|| format!("the {what} {} cannot be read", path.display()));
    let (cert_pem, key_pem) = (read("certificate", cert)?, read("private key", key)?);
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&cert_pem)
        .collect::<Result<_, _>>()
        .with_context(|| format!("the certificate {} is not PEM", cert.display()))?;
    let Some(leaf) = chain.first() else { bail!("there is no certificate in {}", cert.display()) };
    let fingerprint = fingerprint(leaf);
    let private = PrivateKeyDer::from_pem_slice(&key_pem)
        .with_context(|| format!("there is no private key in PEM in {}", key.display()))?;
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .context("TLS cannot be set up")?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .with_context(|| {
            format!("the certificate {} and the key {} do not belong together", cert.display(), key.display())
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Tls { config: Arc::new(config), fingerprint })
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

/// The names that this machine goes by.
pub(super) fn host_names() -> Vec<String> {
    let mut names = vec!["localhost".to_owned()];
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if !own.is_empty() && own.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.') {
        names.push(format!("{own}.local"));
        names.push(own);
    }
    names
}

/// This machine's addresses on its networks, the likeliest first.
pub(super) fn lan_addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let mut addresses: Vec<IpAddr> =
        interfaces.iter().filter(|i| !i.is_loopback() && !i.is_link_local()).map(if_addrs::Interface::ip).collect();
    let rank = |ip: &IpAddr| (ip.is_ipv6(), !halloo_signaling::is_private(*ip), is_container(ip));
    addresses.sort_by_key(|ip| (rank(ip), *ip));
    addresses.dedup();
    addresses
}

/// Whether it is in the range that container engines take for their bridges.
fn is_container(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if v4.octets()[0] == 172 && (17..32).contains(&v4.octets()[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> DataDir {
        let path = std::env::temp_dir().join(format!("halloo-tls-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        DataDir::new(Some(path)).unwrap()
    }

    #[test]
    fn the_own_certificate_is_made_once_and_kept() {
        let data = folder("kept");
        let first = self_signed(&data).unwrap().fingerprint;
        assert_eq!(first, self_signed(&data).unwrap().fingerprint);
        assert_eq!(first.len(), 32 * 3 - 1);
        assert_ne!(first, self_signed(&folder("other")).unwrap().fingerprint);
    }

    #[test]
    fn a_key_that_is_another_certificates_is_refused_by_name() {
        let (a, b) = (folder("a"), folder("b"));
        self_signed(&a).unwrap();
        self_signed(&b).unwrap();
        let error = from_pem(&a.join("lan.pem"), &b.join("lan.pem")).err().unwrap();
        assert!(format!("{error:#}").contains("do not belong together"));
        let error = from_pem(Path::new("/nonexistent.pem"), &b.join("lan.pem")).err().unwrap();
        assert!(format!("{error:#}").contains("/nonexistent.pem"));
    }
}
