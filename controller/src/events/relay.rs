//! Moves Events from the API server to the sinks, as the distributor decides.

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
use super::connection::{Connection, ConnectionId, Notifier, Signal};
use super::distributor::Distributor;
use super::join::{Joined, Joins, PAGE};
use super::occurrence::Occurrence;
use super::route::{Route, Routes};
use super::store::Store;
use crate::delivery::{EventDelivery, Observations};
use crate::lenient::Lenient;
use crate::monitor::Monitor;
use crate::plan::explanation;
use crate::render::alias_of;
use crate::settings::Settings;
use crate::snapshot::SinkId;

/// The time for which a stopping leader waits for batches in flight, and then for the API
/// server.
const LAST: Duration = Duration::from_secs(2);

/// The relay of Events to sinks.
pub(crate) struct Relay<'a> {
    client: Client,
    store: Store,
    settings: &'a Settings,
    monitor: &'a Monitor,
    sender: Arc<Sender>,
    distributor: Distributor,
    sinks: BTreeMap<SinkId, SinkState>,
    /// The number of connections opened so far.
    opened: u64,
    space: Workspace,
    /// The two ends of the channel in which connections report their signals.
    notify: UnboundedSender<(ConnectionId, Signal)>,
    signals: UnboundedReceiver<(ConnectionId, Signal)>,
}

/// The connection of a sink, and its state.
#[derive(Debug)]
struct SinkState {
    /// The number of the connection.
    number: u64,
    /// The route that the connection was opened for.
    route: Arc<Route>,
    /// The route to change to, if it has changed since.
    wanted: Option<Arc<Route>>,
    /// None if it could not be opened.
    connection: Option<Connection>,
    is_connected: bool,
    failing: Option<ErrorKind>,
    /// Whether sending is suspended until the connection is established again.
    waits: bool,
}

impl<'a> Relay<'a> {
    /// Creates a relay that is not running yet.
    ///
    /// # Errors
    ///
    /// Returns an error if the event loop's thread cannot be started.
    pub(crate) fn new(
        client: &Client,
        settings: &'a Settings,
        monitor: &'a Monitor,
    ) -> io::Result<Self> {
        let (notify, signals) = unbounded_channel();
        Ok(Self {
            client: client.clone(),
            store: Store::new(client, settings),
            settings,
            monitor,
            sender: Sender::start()?,
            distributor: Distributor::new(Checkpoint::default(), settings.events),
            sinks: BTreeMap::new(),
            opened: 0,
            space: Workspace::default(),
            notify,
            signals,
        })
    }

    /// Sends Events for as long as it is polled: while this controller leads.
    pub(crate) async fn lead(
        &mut self,
        mut routes: watch::Receiver<Routes>,
        observations: &Mutex<Observations>,
    ) {
        // Events are not watched before a sink wants them.
        let some = |routes: &Routes| !routes.open.is_empty();
        if routes.wait_for(some).await.is_err() {
            return;
        }
        let checkpoint = self.store.read().await;
        self.distributor = Distributor::new(checkpoint.clone(), self.settings.events);
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
        let mut ticks = interval(self.settings.timing.checkpoint_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Routes first: the Events read later are queued for them.
                biased;
                Ok(()) = routes.changed() => {
                    let routes = routes.borrow_and_update().clone();
                    self.set_routes(&routes, &mut joins);
                }
                Some((id, signal)) = self.signals.recv() => self.on_signal(&id, &signal),
                _ = ticks.tick() => {
                    self.observe(observations);
                    let newest = self.distributor.checkpoint();
                    checkpoints.send_if_modified(|checkpoint| {
                        let is_news = *checkpoint != newest;
                        *checkpoint = newest;
                        is_news
                    });
                }
                joined = joins.next() => self.on_joined(joined),
                Some(change) = events.next() => match change {
                    Ok(change) => self.on_change(change),
                    Err(error) => tracing::warn!(%error, "the watch of events was interrupted"),
                },
            }
        }
    }

    /// Stores the checkpoint when this leader stops in an orderly way, so that the next
    /// one sends no Event again.
    pub(crate) async fn end(&mut self) {
        let answers = async {
            while self.distributor.awaits_any() {
                if let Some((id, Signal::Done(number, outcome))) = self.signals.recv().await {
                    self.distributor.on_outcome(&id.sink, number, outcome);
                }
            }
        };
        // Batches without an outcome by then are sent again.
        let _ = timeout(LAST, answers).await;
        if !self.sinks.is_empty() {
            let checkpoint = self.distributor.checkpoint();
            let _ = timeout(LAST, self.store.write(&checkpoint)).await;
        }
        self.stop();
    }

    /// Closes all connections: this controller no longer leads.
    pub(crate) fn stop(&mut self) {
        self.distributor = Distributor::new(Checkpoint::default(), self.settings.events);
        // When this controller leads again, it numbers its batches from the start, so
        // that late outcomes of batches still in flight must not reach it.
        (self.notify, self.signals) = unbounded_channel();
        for (_, state) in std::mem::take(&mut self.sinks) {
            state.close();
        }
    }

    fn set_routes(&mut self, routes: &Routes, joins: &mut Joins) {
        for (id, list) in self.distributor.set_routes(routes) {
            joins.begin(&self.client, id.clone(), list, &routes.open[&id].reads);
        }
        let gone = |id: &SinkId, _: &mut SinkState| !routes.open.contains_key(id);
        for (_, state) in self.sinks.extract_if(.., gone) {
            state.close();
        }
        for (id, route) in &routes.open {
            if let Some(state) = self.sinks.get_mut(id) {
                let is_another = state.route.output != route.output;
                state.wanted = is_another.then(|| Arc::clone(route));
            } else {
                self.open(id, Arc::clone(route));
            }
            self.send(id);
        }
    }

    /// Opens a connection, and closes the sink's previous one.
    fn open(&mut self, id: &SinkId, route: Arc<Route>) {
        self.distributor.start_over(id);
        self.opened += 1;
        let notifier = Notifier {
            id: ConnectionId {
                sink: id.clone(),
                number: self.opened,
            },
            signals: self.notify.clone(),
        };
        let connection = Connection::open(&route.output, &self.sender, notifier);
        let failing = connection.as_ref().err().map(|error| {
            let error = explanation(error);
            tracing::warn!(sink = %id, error, "cannot deliver events");
            ErrorKind::Tls
        });
        let state = SinkState {
            number: self.opened,
            route,
            wanted: None,
            connection: connection.ok(),
            is_connected: false,
            failing,
            waits: false,
        };
        if let Some(before) = self.sinks.insert(id.clone(), state) {
            before.close();
        }
    }

    fn on_change(&mut self, change: Change<Lenient<Event>>) {
        match change {
            Change::Init => self.distributor.begin_list(),
            Change::InitApply(event) => {
                if let Some(occurrence) = self.occurrence(event) {
                    self.distributor.on_listed(occurrence);
                }
            }
            Change::InitDone => {
                self.distributor.end_list();
                let all: Vec<SinkId> = self.sinks.keys().cloned().collect();
                self.send_all(&all);
            }
            Change::Apply(event) => {
                if let Some(occurrence) = self.occurrence(event) {
                    let wanting = self.distributor.on_watched(occurrence);
                    self.send_all(&wanting);
                }
            }
            Change::Delete(Lenient(event)) => {
                let uid = event.metadata.uid.unwrap_or_default();
                self.distributor.on_expired(&uid);
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
                    self.distributor.on_joined(&id, list, occurrence);
                }
            }
            Joined::Complete(id, list) => {
                self.distributor.end_joining(&id, list);
                self.send(&id);
            }
        }
    }

    fn on_signal(&mut self, ConnectionId { sink, number }: &ConnectionId, signal: &Signal) {
        // Closed connections count as well: their batches were in flight.
        if let Signal::Done(batch, outcome) = signal {
            self.distributor.on_outcome(sink, *batch, *outcome);
        }
        let Some(state) = self.sinks.get_mut(sink) else {
            return;
        };
        if state.number != *number {
            return self.send(sink);
        }
        match signal {
            Signal::Connected => {
                if state.failing.take().is_some() {
                    tracing::info!(%sink, "events are delivered again");
                }
                state.is_connected = true;
                state.waits = false;
            }
            Signal::Failed(kind, why) => {
                // Retried forever, but logged only once for each kind of failure.
                if state.failing.replace(*kind) != Some(*kind) {
                    tracing::warn!(%sink, why, "cannot deliver events");
                }
                state.is_connected = false;
            }
            Signal::GivenUp => self.distributor.on_given_up(sink),
            Signal::Done(_, outcome) => {
                let is_down = state.connection.as_ref().is_some_and(Connection::is_down);
                state.waits = *outcome != Outcome::Delivered && is_down;
            }
        }
        self.send(sink);
    }

    fn send_all(&mut self, ids: &[SinkId]) {
        for id in ids {
            self.send(id);
        }
    }

    /// Sends the next batch, if it may be sent now. The connection is replaced only
    /// between two batches.
    fn send(&mut self, id: &SinkId) {
        if !self.distributor.is_sending(id)
            && let Some(state) = self.sinks.get_mut(id)
            && let Some(route) = state.wanted.take()
        {
            self.open(id, route);
        }
        if let Some(state) = self.sinks.get(id)
            && let Some(connection) = &state.connection
            && !state.waits
            && let Some(outgoing) = self.distributor.next(id, Timestamp::now())
        {
            connection.send(outgoing, &mut self.space);
        }
    }

    /// Publishes the counts for the statuses and the metrics.
    fn observe(&self, observations: &Mutex<Observations>) {
        let mut deliveries = BTreeMap::new();
        for (id, tally) in self.distributor.tallies() {
            let state = self.sinks.get(id);
            let delivery = EventDelivery {
                is_connected: state.is_some_and(|state| state.is_connected),
                failing: state.and_then(|state| state.failing),
                tally,
            };
            deliveries.insert(alias_of(id), delivery);
        }
        self.monitor.events(self.distributor.totals());
        observations.lock().events = deliveries;
    }
}

impl SinkState {
    fn close(self) {
        if let Some(connection) = self.connection {
            connection.close();
        }
    }
}
