//! A proxy to the API server whose connections can be blocked or closed.

use std::net::SocketAddr;

use kube::{Client, Config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards bytes while the gate is open.
pub(crate) struct Gate {
    state: watch::Sender<State>,
    address: SocketAddr,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Open,
    /// Bytes are not forwarded, but connections stay open.
    Shut,
    /// All connections are closed, and new ones are refused.
    Cut,
}

impl Gate {
    /// Starts an open gate to the server of `config`.
    pub(crate) async fn new(config: &Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = format!("127.0.0.1:{}", config.cluster_url.port_u16().unwrap());
        let (state, current) = watch::channel(State::Open);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass(stream, server.clone(), current.clone()));
            }
        });
        Self { state, address }
    }

    /// Returns a client that connects through the gate.
    pub(crate) fn client(&self, mut config: Config) -> Client {
        config.cluster_url = format!("https://{}", self.address).parse().unwrap();
        Client::try_from(config).unwrap()
    }

    pub(crate) fn open(&self) {
        self.state.send_replace(State::Open);
    }

    pub(crate) fn shut(&self) {
        self.state.send_replace(State::Shut);
    }

    pub(crate) fn cut(&self) {
        self.state.send_replace(State::Cut);
    }
}

async fn pass(client: TcpStream, server: String, mut state: watch::Receiver<State>) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let to_server = copy_while_open(client_reads, server_writes, state.clone());
    let to_client = copy_while_open(server_reads, client_writes, state.clone());
    tokio::select! {
        _ = to_server => {}
        _ = to_client => {}
        _ = state.wait_for(|state| *state == State::Cut) => {}
    }
}

async fn copy_while_open(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut state: watch::Receiver<State>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let _ = state.wait_for(|state| *state == State::Open).await;
        to.write_all(&buffer[..count]).await?;
    }
}
