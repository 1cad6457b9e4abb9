//! A proxy to the API server whose connections can be blocked or closed.

use std::net::SocketAddr;

use kube::{Client, Config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards bytes while the gate is open.
pub(crate) struct Gate {
    way: watch::Sender<Way>,
    address: SocketAddr,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
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
        let (way, is) = watch::channel(Way::Open);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass(stream, server.clone(), is.clone()));
            }
        });
        Self { way, address }
    }

    /// Returns a client that connects through the gate.
    pub(crate) fn client(&self, mut config: Config) -> Client {
        config.cluster_url = format!("https://{}", self.address).parse().unwrap();
        Client::try_from(config).unwrap()
    }

    pub(crate) fn open(&self) {
        self.way.send_replace(Way::Open);
    }

    pub(crate) fn shut(&self) {
        self.way.send_replace(Way::Shut);
    }

    pub(crate) fn cut(&self) {
        self.way.send_replace(Way::Cut);
    }
}

async fn pass(client: TcpStream, server: String, mut way: watch::Receiver<Way>) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let there = one_way(client_reads, server_writes, way.clone());
    let back = one_way(server_reads, client_writes, way.clone());
    tokio::select! {
        _ = there => {}
        _ = back => {}
        _ = way.wait_for(|way| *way == Way::Cut) => {}
    }
}

async fn one_way(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut way: watch::Receiver<Way>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let _ = way.wait_for(|way| *way == Way::Open).await;
        to.write_all(&buffer[..count]).await?;
    }
}
