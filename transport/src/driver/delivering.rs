//! The delivery of batches over the connection in use: sending, reading, and what has
//! ended.

use std::sync::atomic::Ordering;
use std::time::Duration;

use syslog::Outcome;
use syslog::session::EndedBatch;

use super::{BatchSource, Driver};
use crate::connection::ReadProgress;
use crate::context::Context;
use crate::{DeliveryEvent, Error};

/// The maximum number of bytes passed to a connection in one write. The progress
/// of a batch is known in steps of this size. Smaller writes cost more processor
/// time, and larger ones do not save any.
const MAX_WRITE: usize = 256 * 1024;
/// The first interval of polling for acknowledgements, if the kernel does not
/// signal them. The interval doubles with each poll.
const MIN_ACK_POLL: Duration = Duration::from_millis(1);
/// The maximum interval of polling for acknowledgements.
const MAX_ACK_POLL: Duration = Duration::from_millis(20);
/// The polling interval if the kernel does signal acknowledgements: a signal can
/// get lost if the socket is short of memory.
const FALLBACK_ACK_POLL: Duration = Duration::from_millis(200);
/// The maximum number of rounds of reading from the queue and sending before
/// other sinks are served.
const MAX_ROUNDS: usize = 16;

impl Driver {
    /// Delivers the batches of the session and the queue.
    pub(super) fn deliver(&mut self, cx: &Context<'_>) -> Result<(), Error> {
        for _ in 0..MAX_ROUNDS {
            let was_full = !self.has_room();
            let was_submitted = self.submit_from_queue(cx);
            self.pump(cx)?;
            // Ended batches make room for others.
            self.complete_batches();
            self.has_more = was_submitted || was_full && self.has_room();
            if !self.has_more {
                break;
            }
        }
        Ok(())
    }

    /// Returns whether the session has room for another batch of the queue.
    fn has_room(&self) -> bool {
        let unsent = self.session.unsent_bytes();
        self.consumer
            .as_ref()
            .is_some_and(|consumer| consumer.has_room(unsent))
            && self.session.is_up()
            && !self.session.is_searching()
            && self.close_deadline.is_none()
    }

    /// Submits a batch of the queue to the session, if there is room. Returns
    /// whether a batch was submitted.
    fn submit_from_queue(&mut self, cx: &Context<'_>) -> bool {
        if !self.has_room() {
            return false;
        }
        let Some(consumer) = &mut self.consumer else {
            return false;
        };
        match consumer.next(&mut cx.scratch.borrow_mut(), cx.now) {
            Ok(None) => false,
            Ok(Some(batch)) => {
                let first = batch.first();
                self.session.submit(batch, 0, BatchSource::Queue { first });
                true
            }
            Err(error) => {
                self.observer.on_event(&DeliveryEvent::QueueFailed(&error));
                false
            }
        }
    }

    /// Moves bytes from the session to the connection, and acknowledgements back,
    /// until nothing is left to do.
    fn pump(&mut self, cx: &Context<'_>) -> Result<(), Error> {
        while self.pump_once(cx)? {}
        Ok(())
    }

    /// Does one round of [`Driver::pump`]. Returns whether acknowledgements have
    /// released more frames: some are held back until they are alone in flight.
    fn pump_once(&mut self, cx: &Context<'_>) -> Result<bool, Error> {
        let is_drained = self.is_drained();
        let Some(active) = &mut self.active else {
            return Ok(false);
        };
        let connection = &mut active.connection;
        active.has_unread_data = connection.read()? == ReadProgress::MorePending;
        connection.flush()?;
        while !connection.is_near_key_limit() {
            let bytes = if connection.is_message_based() {
                self.session.transmit_frame()
            } else {
                let bytes = self.session.transmit();
                &bytes[..bytes.len().min(MAX_WRITE)]
            };
            if bytes.is_empty() {
                break;
            }
            let accepted = match connection.write(bytes) {
                Ok(accepted) => accepted,
                Err(error @ Error::DatagramTooLong { .. }) => {
                    self.observer
                        .on_event(&DeliveryEvent::MessageTooLong(&error));
                    self.session.on_refused(cx.now);
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.session
                .on_accepted(accepted, connection.wire_end(), cx.now);
            if accepted == 0 {
                break;
            }
        }
        let all_sent = self.session.transmit().is_empty();
        if is_drained {
            connection.close();
        }
        connection.flush()?;
        // Before the acknowledgements: the window decides how much of the
        // acknowledged data to keep.
        if self.session.awaits_acknowledgement()
            && let Some(window) = connection.window()
            && self.session.on_window(window)
        {
            let kept = self.session.replay_limit();
            self.observer
                .on_event(&DeliveryEvent::WindowExceedsReplay { window, kept });
        }
        let acknowledged = connection.acknowledged()?;
        self.session.on_acknowledged(acknowledged, cx.now);
        active.ack_poll = if self.session.awaits_acknowledgement() {
            let wait = match active.ack_poll {
                _ if connection.signals_acknowledgements() => FALLBACK_ACK_POLL,
                Some((at, wait)) if cx.now >= at => (wait * 2).min(MAX_ACK_POLL),
                Some((_, wait)) => wait,
                None => MIN_ACK_POLL,
            };
            Some((cx.now + wait, wait))
        } else {
            None
        };
        Ok(all_sent && !self.session.transmit().is_empty())
    }

    /// Reports the outcome of each finished batch to its source. Returns the
    /// number of batches that must be sent again.
    pub(super) fn complete_batches(&mut self) -> usize {
        let is_down = self.session.is_down() || self.session.is_searching();
        self.down.store(is_down, Ordering::Relaxed);
        while let Some(length) = self.session.poll_rejected() {
            self.notify(&DeliveryEvent::MessageRejected { length });
        }
        let mut retries = 0;
        while let Some(finished) = self.session.poll_ended() {
            match (finished.outcome, finished.took) {
                (Outcome::Retry { .. }, _) => retries += 1,
                (Outcome::Delivered, Some(took)) => {
                    if let Some(active) = &self.active {
                        self.servers.reset(active.server);
                    }
                    self.notify(&DeliveryEvent::Delivered { took });
                }
                // The batch was delivered before.
                (Outcome::Delivered, None) => {}
            }
            let EndedBatch {
                batch,
                token,
                outcome,
                took,
            } = finished;
            match (token, &mut self.consumer) {
                (BatchSource::Queue { first }, Some(consumer)) => {
                    consumer.on_finished(first, outcome, batch);
                }
                (BatchSource::Queue { .. }, None) => {}
                (BatchSource::Caller(reply), _) => reply(EndedBatch {
                    batch,
                    token: (),
                    outcome,
                    took,
                }),
            }
        }
        retries
    }

    /// Reports changes to the observer.
    pub(super) fn report_progress(&mut self, cx: &Context<'_>) {
        if let Some(consumer) = &mut self.consumer {
            let state = consumer.state(&mut cx.scratch.borrow_mut());
            if self.last_queue_state.replace(state) != Some(state) {
                self.notify(&DeliveryEvent::Queue(state));
            }
        }
        let (totals, replay_bytes) = (self.session.totals(), self.session.replay_bytes());
        if self.last_progress != (totals, replay_bytes) {
            self.last_progress = (totals, replay_bytes);
            self.notify(&DeliveryEvent::Progress {
                totals,
                replay_bytes,
            });
        }
    }
}
