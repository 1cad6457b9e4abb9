//! Moves Events from the API server to the sinks: does what the exchange
//! decides.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher::{self, Event as Change};
use kube::runtime::{WatchStreamExt, watcher::watcher};
use kube::{Api, Client};
use mapper::message::Workspace;
use parking_lot::Mutex;
use syslog::Outcome;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use transport::{ErrorKind, Sender};

use super::checkpoint::Checkpoint;
use super::exchange::Exchange;
use super::join::{Joined, Joins, PAGE};
use super::occurrence::Occurrence;
use super::port::{Line, Port, Signal, Ticket};
use super::route::{Route, Routes};
use super::store::Store;
use crate::delivery::{EventDelivery, Observations};
use crate::lenient::Lenient;
use crate::monitor::Monitor;
use crate::plan::explanation;
use crate::render::alias_of;
use crate::settings::Settings;
use crate::snapshot::SinkId;

/// How long the end waits for what is under way, and then for the API server.
const LAST: Duration = Duration::from_secs(2);

/// See the [module](self).
pub(crate) struct Relay<'a> {
    client: Client,
    store: Store,
    settings: &'a Settings,
    monitor: &'a Monitor,
    sender: Arc<Sender>,
    exchange: Exchange,
    connections: BTreeMap<SinkId, Connection>,
    /// How many ports were opened.
    ports: u64,
    space: Workspace,
    line: UnboundedSender<(Ticket, Signal)>,
    signals: UnboundedReceiver<(Ticket, Signal)>,
}

/// A sink's port, and how it is.
#[derive(Debug)]
struct Connection {
    number: u64,
    /// What the port was opened for, and what it shall be for, if that is another.
    route: Arc<Route>,
    wanted: Option<Arc<Route>>,
    /// None where it could not be opened.
    port: Option<Port>,
    is_connected: bool,
    failing: Option<ErrorKind>,
    /// Nothing is sent before there is a connection again.
    waits: bool,
}

impl<'a> Relay<'a> {
    /// One that does nothing yet.
    ///
    /// # Errors
    ///
    /// Where the process may have no more threads or descriptors.
    pub(crate) fn new(
        client: &Client,
        settings: &'a Settings,
        monitor: &'a Monitor,
    ) -> io::Result<Self> {
        let (line, signals) = unbounded_channel();
        Ok(Self {
            client: client.clone(),
            store: Store::new(client, settings),
            settings,
            monitor,
            sender: Sender::start()?,
            exchange: Exchange::new(Checkpoint::default(), settings.events),
            connections: BTreeMap::new(),
            ports: 0,
            space: Workspace::default(),
            line,
            signals,
        })
    }

    /// Sends Events for as long as it is polled: while this controller leads.
    pub(crate) async fn lead(
        &mut self,
        mut routes: watch::Receiver<Routes>,
        observations: &Mutex<Observations>,
    ) {
        // Nothing is watched that nobody wants.
        let some = |routes: &Routes| !routes.open.is_empty();
        if routes.wait_for(some).await.is_err() {
            return;
        }
        let checkpoint = self.store.read().await;
        self.exchange = Exchange::new(checkpoint.clone(), self.settings.events);
        let (checkpoints, newest) = watch::channel(checkpoint);
        let store = self.store.clone();
        tokio::join!(
            self.relay(routes, observations, &checkpoints),
            store.keep(newest)
        );
    }

    async fn relay(
        &mut self,
        mut routes: watch::Receiver<Routes>,
        observations: &Mutex<Observations>,
        checkpoints: &watch::Sender<Checkpoint>,
    ) {
        let mut joins = Joins::new();
        routes.mark_changed();
        let events: Api<Lenient<Event>> = Api::all(self.client.clone());
        let config = watcher::Config::default().page_size(PAGE);
        let mut events = std::pin::pin!(watcher(events, config).default_backoff());
        let mut ticks = interval(self.settings.pace.checkpoint);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Routes go first: what is read is put into their queues.
                biased;
                Ok(()) = routes.changed() => {
                    let routes = routes.borrow_and_update().clone();
                    self.set_routes(&routes, &mut joins);
                }
                Some((ticket, signal)) = self.signals.recv() => self.on_signal(&ticket, &signal),
                _ = ticks.tick() => {
                    self.observe(observations);
                    let newest = self.exchange.checkpoint();
                    checkpoints.send_if_modified(|checkpoint| {
                        let is_news = *checkpoint != newest;
                        *checkpoint = newest;
                        is_news
                    });
                }
                joined = joins.next() => self.on_joined(joined),
                Some(change) = events.next() => match change {
                    Ok(change) => self.on_change(change),
                    Err(error) => tracing::warn!(%error, "the watch of Events was interrupted"),
                },
            }
        }
    }

    /// Writes down what was delivered, as the last thing that a leader does that
    /// stops of its own will: the next one sends nothing again.
    pub(crate) async fn end(&mut self) {
        let answers = async {
            while self.exchange.awaits_any() {
                if let Some((ticket, Signal::Done(number, outcome))) = self.signals.recv().await {
                    self.exchange.on_outcome(&ticket.sink, number, outcome);
                }
            }
        };
        // What is not known by then is sent again.
        let _ = timeout(LAST, answers).await;
        if !self.connections.is_empty() {
            let checkpoint = self.exchange.checkpoint();
            let _ = timeout(LAST, self.store.write(&checkpoint)).await;
        }
        self.abdicate();
    }

    /// Sends nothing more: another controller leads.
    pub(crate) fn abdicate(&mut self) {
        self.exchange = Exchange::new(Checkpoint::default(), self.settings.events);
        // What is still under way is nothing to the next reign, which counts its
        // batches anew.
        (self.line, self.signals) = unbounded_channel();
        for (_, connection) in std::mem::take(&mut self.connections) {
            connection.close();
        }
    }

    fn set_routes(&mut self, routes: &Routes, joins: &mut Joins) {
        for (id, list) in self.exchange.set_routes(routes) {
            joins.begin(&self.client, id.clone(), list, &routes.open[&id].reads);
        }
        let gone = |id: &SinkId, _: &mut Connection| !routes.open.contains_key(id);
        for (_, connection) in self.connections.extract_if(.., gone) {
            connection.close();
        }
        for (id, route) in &routes.open {
            if let Some(connection) = self.connections.get_mut(id) {
                let is_another = connection.route.way != route.way;
                connection.wanted = is_another.then(|| Arc::clone(route));
            } else {
                self.open(id, Arc::clone(route));
            }
            self.send(id);
        }
    }

    /// Opens a port in the place of the one before, if there was any.
    fn open(&mut self, id: &SinkId, route: Arc<Route>) {
        self.exchange.start_over(id);
        self.ports += 1;
        let line = Line {
            of: Ticket {
                sink: id.clone(),
                number: self.ports,
            },
            to: self.line.clone(),
        };
        let port = Port::open(&route.way, &self.sender, line);
        let failing = port.as_ref().err().map(|error| {
            let error = explanation(error);
            tracing::warn!(sink = %id, error, "Events cannot be sent");
            ErrorKind::Tls
        });
        let connection = Connection {
            number: self.ports,
            route,
            wanted: None,
            port: port.ok(),
            is_connected: false,
            failing,
            waits: false,
        };
        if let Some(before) = self.connections.insert(id.clone(), connection) {
            before.close();
        }
    }

    fn on_change(&mut self, change: Change<Lenient<Event>>) {
        match change {
            Change::Init => self.exchange.begin_list(),
            Change::InitApply(event) => {
                if let Some(occurrence) = self.occurrence(event) {
                    self.exchange.on_listed(occurrence);
                }
            }
            Change::InitDone => {
                self.exchange.end_list();
                let all: Vec<SinkId> = self.connections.keys().cloned().collect();
                self.send_all(&all);
            }
            Change::Apply(event) => {
                if let Some(occurrence) = self.occurrence(event) {
                    let wanting = self.exchange.on_watched(occurrence);
                    self.send_all(&wanting);
                }
            }
            Change::Delete(Lenient(event)) => {
                let uid = event.metadata.uid.unwrap_or_default();
                self.exchange.on_expired(&uid);
            }
        }
    }

    fn occurrence(&self, event: Lenient<Event>) -> Option<Occurrence> {
        self.monitor.read_event();
        Occurrence::new(event)
    }

    fn on_joined(&mut self, joined: Joined) {
        match joined {
            Joined::Page(id, list, events) => {
                for occurrence in events.into_iter().filter_map(Occurrence::new) {
                    self.exchange.on_joined(&id, list, occurrence);
                }
            }
            Joined::Complete(id, list) => {
                self.exchange.end_joining(&id, list);
                self.send(&id);
            }
        }
    }

    fn on_signal(&mut self, Ticket { sink, number }: &Ticket, signal: &Signal) {
        // Also of a port that is closed: what it had sent was under way.
        if let Signal::Done(batch, outcome) = signal {
            self.exchange.on_outcome(sink, *batch, *outcome);
        }
        let Some(connection) = self.connections.get_mut(sink) else {
            return;
        };
        if connection.number != *number {
            return self.send(sink);
        }
        match signal {
            Signal::Connected => {
                if connection.failing.take().is_some() {
                    tracing::info!(%sink, "Events are sent again");
                }
                connection.is_connected = true;
                connection.waits = false;
            }
            Signal::Failed(kind, why) => {
                // It is tried for ever, and told once.
                if connection.failing.replace(*kind) != Some(*kind) {
                    tracing::warn!(%sink, why, "Events cannot be sent");
                }
                connection.is_connected = false;
            }
            Signal::GivenUp => self.exchange.on_given_up(sink),
            Signal::Done(_, outcome) => {
                let is_down = connection.port.as_ref().is_some_and(Port::is_down);
                connection.waits = *outcome != Outcome::Delivered && is_down;
            }
        }
        self.send(sink);
    }

    fn send_all(&mut self, ids: &[SinkId]) {
        for id in ids {
            self.send(id);
        }
    }

    /// Sends what is next, if that may be sent now. The port is changed only
    /// between two batches.
    fn send(&mut self, id: &SinkId) {
        if !self.exchange.is_sending(id)
            && let Some(connection) = self.connections.get_mut(id)
            && let Some(route) = connection.wanted.take()
        {
            self.open(id, route);
        }
        if let Some(connection) = self.connections.get(id)
            && let Some(port) = &connection.port
            && !connection.waits
            && let Some(outgoing) = self.exchange.next(id, Timestamp::now())
        {
            port.send(outgoing, &mut self.space);
        }
    }

    /// Tells those who write statuses and answer for metrics.
    fn observe(&self, observations: &Mutex<Observations>) {
        let mut deliveries = BTreeMap::new();
        for (id, tally) in self.exchange.tallies() {
            let connection = self.connections.get(id);
            let delivery = EventDelivery {
                is_connected: connection.is_some_and(|connection| connection.is_connected),
                failing: connection.and_then(|connection| connection.failing),
                tally,
            };
            deliveries.insert(alias_of(id), delivery);
        }
        self.monitor.events(self.exchange.totals());
        observations.lock().events = deliveries;
    }
}

impl Connection {
    fn close(self) {
        if let Some(port) = self.port {
            port.close();
        }
    }
}
