//! Signs of life: pings for silent connections, an end for dead ones (RFC 7143 section 11.19), and for those that asked to
//! write and never send the data: they would keep its buffers for ever.

use super::Queued;
use super::Session;
use super::connection::{Connection, Standing};
use super::event::CloseCause;
use super::host::Payload;
use super::limits::CONNECTIONS_MAX;
use super::receive::Phase;

/// What is to be done about one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    Ping,
    Dead,
}

impl<P: Payload> Session<P> {
    /// When `handle_timeout` wants to be called, if at all. It moves as connections are heard from, so ask after every turn
    /// or accept a call that finds nothing to do.
    pub fn next_deadline(&self) -> Option<u64> {
        let open = self.connections.iter().flatten().filter(|c| c.standing != Standing::Closed);
        open.map(|connection| self.deadline(connection)).min()
    }

    fn deadline(&self, connection: &Connection<P>) -> u64 {
        let SessionTimes { interval_ns, timeout_ns } = self.times();
        if connection.is_ending() {
            // 0: not seen by `handle_timeout` yet, which then starts the clock.
            return connection.ending_ns.map_or(0, |since_ns| since_ns.saturating_add(timeout_ns));
        }
        let ping_ns = match connection.ping {
            Some((_, sent_ns)) => sent_ns.saturating_add(timeout_ns),
            None => connection.received_ns.saturating_add(interval_ns),
        };
        let stall_ns = match connection.tx.queued_bytes() {
            0 => u64::MAX,
            _ => connection.stalled_ns.saturating_add(timeout_ns),
        };
        ping_ns.min(stall_ns)
    }

    fn times(&self) -> SessionTimes {
        SessionTimes { interval_ns: self.config.ping_interval_ns, timeout_ns: self.config.ping_timeout_ns }
    }

    /// Pings idle connections and gives up dead ones.
    pub fn handle_timeout(&mut self, now_ns: u64) {
        let times = self.times();
        let backlog_bytes = self.config.tx_backlog_bytes;
        let overdue = self.connections_with_overdue_data(now_ns);
        for (index, is_overdue) in overdue.into_iter().enumerate() {
            let Some(connection) = self.connections[index].as_mut() else { continue };
            if connection.standing == Standing::Closed {
                continue;
            }
            let verdict = match is_overdue && !connection.is_ending() {
                true => Verdict::Dead,
                false => connection.judge(now_ns, times, backlog_bytes),
            };
            match verdict {
                Verdict::Fine => {}
                Verdict::Ping => {
                    let tag = self.new_tag(None);
                    self.open(index).ping = Some((tag, now_ns));
                    self.send_nop_in(index, Some(tag));
                }
                Verdict::Dead => {
                    // Nobody takes what is queued, so nothing is waited for.
                    let Some(connection) = self.connections[index].as_mut() else { continue };
                    connection.standing = Standing::Closed;
                    connection.rx.finish();
                    self.events.push_back(Queued::Close(index as u8, CloseCause::Unresponsive));
                }
            }
        }
    }
}

impl<P: Payload> Session<P> {
    fn connections_with_overdue_data(&mut self, now_ns: u64) -> [bool; CONNECTIONS_MAX] {
        let mut overdue = [false; CONNECTIONS_MAX];
        for task in self.tasks.iter_mut() {
            if task.is_overdue(now_ns, self.config.data_out_timeout_ns) {
                overdue[usize::from(task.connection)] = true;
            }
        }
        overdue
    }
}

#[derive(Clone, Copy)]
struct SessionTimes {
    interval_ns: u64,
    timeout_ns: u64,
}

impl<P: Payload> Connection<P> {
    fn judge(&mut self, now_ns: u64, times: SessionTimes, backlog_bytes: usize) -> Verdict {
        if self.is_ending() {
            // A peer that never takes the last bytes, or whose logout died with another connection, is not waited for.
            let since_ns = *self.ending_ns.get_or_insert(now_ns);
            return match now_ns.saturating_sub(since_ns) >= times.timeout_ns {
                true => Verdict::Dead,
                false => Verdict::Fine,
            };
        }
        let queued_bytes = self.tx.queued_bytes();
        if std::mem::take(&mut self.tx.progressed) || queued_bytes == 0 {
            self.stalled_ns = now_ns;
        }
        // A reader that only nibbles makes progress for ever; it has to get below the backlog limit in time.
        self.backlogged_ns = match queued_bytes > backlog_bytes {
            true => Some(self.backlogged_ns.unwrap_or(now_ns)),
            false => None,
        };
        let since = |then_ns: u64| now_ns.saturating_sub(then_ns);
        let stalled = since(self.stalled_ns) >= times.timeout_ns;
        if stalled || self.backlogged_ns.is_some_and(|then_ns| since(then_ns) >= times.timeout_ns) {
            return Verdict::Dead;
        }
        if self.rx.phase == Phase::Parked || self.backlogged_ns.is_some() {
            // It is we who do not listen.
            self.received_ns = now_ns;
            self.ping = None;
            return Verdict::Fine;
        }
        match self.ping {
            Some((_, sent_ns)) if since(sent_ns) >= times.timeout_ns => Verdict::Dead,
            None if since(self.received_ns) >= times.interval_ns => Verdict::Ping,
            _ => Verdict::Fine,
        }
    }
}
