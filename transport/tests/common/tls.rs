//! Servers for TLS tests: one based on rustls that presents any certificate, and
//! `openssl s_server`.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use rcgen::{CertificateParams, KeyPair, SigningKey};
use rig::process::Process;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer};
use rustls::{
    ConfigBuilder, DigitallySignedStruct, DistinguishedName, ServerConfig, ServerConnection,
    SignatureAlgorithm, SignatureScheme, SupportedProtocolVersion, WantsVerifier,
};
use transport::tls::{Pem, TlsOptions, TlsTarget};
use transport::{Endpoint, Sender, Transport};
use x509_cert::der::asn1::BitString;
use x509_cert::der::{Decode, Encode};

use super::{BOUND, Fixture, open_target, target};

/// A certificate chain in DER, and the private key of the leaf.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: Arc<dyn rustls::sign::SigningKey>,
}

impl Identity {
    pub(crate) fn new(certificate: impl Into<CertificateDer<'static>>, key: &KeyPair) -> Self {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        let chain = vec![certificate.into()];
        Self { chain, key }
    }

    /// Creates a self-signed certificate.
    pub(crate) fn self_signed(params: &CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self::new(certificate.der().clone(), &key)
    }

    fn into_resolver(self) -> Arc<FixedCertificate> {
        Arc::new(FixedCertificate(Arc::new(CertifiedKey::new(
            self.chain, self.key,
        ))))
    }

    /// Returns the leaf in PEM.
    pub(crate) fn pem(&self) -> Pem {
        pem(&self.chain[0])
    }
}

/// Converts a certificate to PEM in memory.
pub(crate) fn pem(certificate: &CertificateDer<'_>) -> Pem {
    let block = pem::Pem::new("CERTIFICATE", certificate.to_vec());
    let text = pem::encode(&block).into_bytes();
    let name = "the test's CA".to_owned();
    Pem::Text { name, text }
}

/// Converts a certificate to X.509 version 1, which has no extensions.
pub(crate) fn version_1(
    certificate: &CertificateDer<'_>,
    key: &KeyPair,
) -> CertificateDer<'static> {
    let mut certificate = x509_cert::Certificate::from_der(certificate).unwrap();
    let signed = &mut certificate.tbs_certificate;
    signed.version = x509_cert::Version::V1;
    signed.extensions = None;
    let signature = key.sign(&signed.to_der().unwrap()).unwrap();
    certificate.signature = BitString::from_bytes(&signature).unwrap();
    certificate.to_der().unwrap().into()
}

/// A key that always signs with the scheme `actual`, and claims to have used the scheme
/// `claimed`.
#[derive(Debug)]
pub(crate) struct Claiming {
    pub(crate) key: Arc<dyn rustls::sign::SigningKey>,
    pub(crate) actual: SignatureScheme,
    pub(crate) claimed: SignatureScheme,
}

#[derive(Debug)]
struct ClaimingSigner(Box<dyn Signer>, SignatureScheme);

impl rustls::sign::SigningKey for Claiming {
    fn choose_scheme(&self, _offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let signer = self.key.choose_scheme(&[self.actual])?;
        Some(Box::new(ClaimingSigner(signer, self.claimed)))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm()
    }
}

impl Signer for ClaimingSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.0.sign(message)
    }

    fn scheme(&self) -> SignatureScheme {
        self.1
    }
}

/// A server based on rustls that reads from each connection until the end. Invalid
/// certificates are possible: rustls does not check the server's own certificate.
pub(crate) struct Server {
    port: u16,
    received: mpsc::Receiver<Vec<u8>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

type Serve = fn(TcpStream, Arc<ServerConfig>, &mpsc::Sender<Vec<u8>>) -> io::Result<()>;

fn builder(
    version: &'static SupportedProtocolVersion,
) -> ConfigBuilder<ServerConfig, WantsVerifier> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    builder.with_protocol_versions(&[version]).unwrap()
}

/// Requests an optional client certificate.
#[derive(Debug)]
struct OptionalClientAuth;

impl ClientCertVerifier for OptionalClientAuth {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms =
            &rustls::crypto::ring::default_provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms =
            &rustls::crypto::ring::default_provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = rustls::crypto::ring::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[derive(Debug)]
struct FixedCertificate(Arc<CertifiedKey>);

impl ResolvesServerCert for FixedCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl Server {
    pub(crate) fn start(identity: Identity, version: &'static SupportedProtocolVersion) -> Self {
        let config = builder(version).with_no_client_auth();
        Self::run(config.with_cert_resolver(identity.into_resolver()), serve)
    }

    /// Starts a server that requests a client certificate, and closes the connection
    /// after the handshake without an alert or a ticket.
    pub(crate) fn requesting_client_certificate(identity: Identity) -> Self {
        let config = builder(&rustls::version::TLS13)
            .with_client_cert_verifier(Arc::new(OptionalClientAuth));
        let mut config = config.with_cert_resolver(identity.into_resolver());
        config.send_tls13_tickets = 0;
        Self::run(config, |stream, config, _| {
            let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
            let mut stream = stream;
            connection.complete_io(&mut stream).map(drop)
        })
    }

    fn run(config: ServerConfig, serve: Serve) -> Self {
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, received) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (config, sender) = (Arc::clone(&config), sender.clone());
                thread::spawn(move || {
                    // Fails if the client rejects the certificate.
                    let _ = serve(stream?, config, &sender);
                    io::Result::Ok(())
                });
            }
        });
        Self {
            port,
            received,
            stop,
            thread: Some(thread),
        }
    }

    /// Opens a sink to the server at `host`, a name or address of this machine.
    pub(crate) fn open(&self, sender: &Arc<Sender>, host: &str, options: TlsOptions) -> Fixture {
        open_port(sender, host, self.port, options)
    }

    /// Delivers a message, and waits until the server has received it.
    pub(crate) fn assert_receives(&self, fixture: &Fixture) {
        fixture.deliver(&["one"]);
        let mut all = Vec::new();
        while !all.ends_with(b" one") {
            all.extend(self.received.recv_timeout(BOUND).unwrap());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A connection wakes the thread.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    sender: &mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = rustls::StreamOwned::new(connection, stream);
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 || sender.send(buffer[..count].to_vec()).is_err() {
            return Ok(());
        }
    }
}

pub(crate) fn open_port(
    sender: &Arc<Sender>,
    host: &str,
    port: u16,
    options: TlsOptions,
) -> Fixture {
    let tls = TlsTarget::new(options).unwrap();
    let servers = vec![Endpoint::new(host, port).unwrap()];
    open_target(sender, target(servers, Transport::Tls(tls)))
}

/// The command line of OpenSSL, run in a temporary folder.
pub(crate) struct OpenSsl {
    program: PathBuf,
    dir: tempfile::TempDir,
}

/// A running `openssl s_server`.
pub(crate) struct OpenSslServer {
    pub(crate) port: u16,
    errors: PathBuf,
    output: BufReader<ChildStdout>,
    _process: Process,
}

impl OpenSsl {
    /// Finds OpenSSL. Skips the test and returns None if it is not installed.
    pub(crate) fn find() -> Option<Self> {
        let Some(program) = rig::program("openssl") else {
            rig::skip("openssl is not installed (Debian: openssl)");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        Some(Self { program, dir })
    }

    /// Runs a command in the folder. Its arguments are separated by spaces.
    pub(crate) fn run(&self, command: &str) {
        rig::process::run(&mut self.command(command));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns a PEM file of the folder.
    pub(crate) fn pem(&self, name: &str) -> Pem {
        Pem::File(self.path(name))
    }

    fn command(&self, command: &str) -> Command {
        let mut openssl = Command::new(&self.program);
        openssl
            .args(command.split_whitespace())
            .current_dir(self.dir.path())
            .stdin(Stdio::piped());
        openssl
    }

    /// Starts `openssl s_server` and waits until it listens.
    pub(crate) fn serve(&self, options: &str) -> OpenSslServer {
        let port = rig::port::free_port();
        let mut command = self.command(&format!("s_server -accept {port} {options}"));
        let errors = self.path("errors");
        let child = command
            .stdout(Stdio::piped())
            .stderr(File::create(&errors).unwrap());
        let mut child: Child = child.spawn().unwrap();
        let mut server = OpenSslServer {
            port,
            errors,
            output: BufReader::new(child.stdout.take().unwrap()),
            _process: Process(child),
        };
        server.wait_for("ACCEPT");
        server
    }
}

impl OpenSslServer {
    /// Reads the server's output until it ends with `text`.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let mut read = Vec::new();
        while !read.ends_with(text.as_bytes()) {
            let mut byte = [0];
            let count = self.output.read(&mut byte).unwrap();
            if count == 0 {
                let errors = fs::read_to_string(&self.errors).unwrap();
                panic!("s_server ended before {text:?}: {errors}");
            }
            read.push(byte[0]);
        }
    }
}

/// Reads a private key from a PEM file, for a server based on rustls.
pub(crate) fn key(path: &Path) -> Arc<dyn rustls::sign::SigningKey> {
    use rustls::pki_types::pem::PemObject;
    let key = PrivateKeyDer::from_pem_file(path).unwrap();
    rustls::crypto::ring::sign::any_supported_type(&key).unwrap()
}

/// Reads a certificate from a PEM file.
pub(crate) fn certificate(path: &Path) -> CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_file(path).unwrap()
}
