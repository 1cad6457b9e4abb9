//! A CA and the certificates that it signs, as PEM files.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

/// The files of a CA, a receiver and a client.
#[derive(Debug)]
pub struct Pki {
    dir: TempDir,
}

/// A certificate and its private key.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

type Ca = Issuer<'static, KeyPair>;

impl Pki {
    /// Generates all files.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let ca = ca(dir.path(), "ca", "Test CA");
        let other = ca_only("Other CA");
        fs::write(dir.path().join("other-ca.pem"), other.1).expect("a file");
        let names = ["localhost", "127.0.0.1", "::1"];
        leaf(dir.path(), &ca, "server", &names, |_| {});
        leaf(
            dir.path(),
            &ca,
            "wrong-name",
            &["elsewhere.example"],
            |_| {},
        );
        leaf(dir.path(), &ca, "expired", &names, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2020, 12, 31);
        });
        leaf(dir.path(), &ca, "client", &["client.example"], |_| {});
        leaf(
            dir.path(),
            &other.0,
            "foreign-client",
            &["client.example"],
            |_| {},
        );
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn pair(&self, name: &str) -> Pair {
        Pair {
            cert: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
        }
    }

    /// Returns the CA of all pairs except [`Pki::foreign_client`].
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Returns a CA that signed none of the receivers' certificates.
    #[must_use]
    pub fn other_ca(&self) -> PathBuf {
        self.path("other-ca.pem")
    }

    /// Returns a receiver's certificate for localhost, 127.0.0.1 and `::1`.
    #[must_use]
    pub fn server(&self) -> Pair {
        self.pair("server")
    }

    /// Returns a receiver's certificate for a different host.
    #[must_use]
    pub fn wrong_name(&self) -> Pair {
        self.pair("wrong-name")
    }

    /// Returns a receiver's certificate that expired at the end of 2020.
    #[must_use]
    pub fn expired(&self) -> Pair {
        self.pair("expired")
    }

    /// Returns a client's certificate.
    #[must_use]
    pub fn client(&self) -> Pair {
        self.pair("client")
    }

    /// Returns a client's certificate that a different CA signed.
    #[must_use]
    pub fn foreign_client(&self) -> Pair {
        self.pair("foreign-client")
    }
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

fn ca(dir: &Path, file: &str, name: &str) -> Ca {
    let (ca, pem) = ca_only(name);
    fs::write(dir.join(format!("{file}.pem")), pem).expect("a file");
    ca
}

fn ca_only(name: &str) -> (Ca, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).expect("a certificate");
    (Issuer::new(params, key), certificate.pem())
}

fn leaf(
    dir: &Path,
    ca: &Ca,
    file: &str,
    names: &[&str],
    change: impl FnOnce(&mut CertificateParams),
) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name.push(DnType::CommonName, file);
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    change(&mut params);
    let certificate = params.signed_by(&key, ca).expect("a certificate");
    fs::write(dir.join(format!("{file}.pem")), certificate.pem()).expect("a file");
    fs::write(dir.join(format!("{file}.key")), key.serialize_pem()).expect("a file");
}
