//! A receiver that counts the numbered lines of many containers instead of keeping them.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;

/// A receiver of lines `<container> <number> ...`, over TCP with a line feed after each
/// message. It runs until the process
/// ends.
#[derive(Clone, Debug)]
pub(crate) struct Arrivals {
    containers: Arc<Mutex<Vec<Numbers>>>,
}

/// The numbers of a container's lines that have arrived.
#[derive(Clone, Debug, Default)]
struct Numbers {
    /// The first number that has not arrived.
    next: u64,
    /// Later numbers that have arrived.
    beyond: BTreeSet<u64>,
    duplicated: usize,
    /// Whether each number arrived after all lower ones, at first.
    is_in_order: bool,
}

/// The sum over all containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) arrived: usize,
    pub(crate) duplicated: usize,
    pub(crate) is_in_order: bool,
}

impl Arrivals {
    /// Starts the receiver on a port, for a number of containers.
    pub(crate) fn start(port: u16, containers: usize) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let numbers = Numbers {
            is_in_order: true,
            ..Numbers::default()
        };
        let this = Self {
            containers: Arc::new(Mutex::new(vec![numbers; containers])),
        };
        let arrivals = this.clone();
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let arrivals = arrivals.clone();
                thread::spawn(move || arrivals.receive(&connection));
            }
        });
        this
    }

    /// Returns what has arrived.
    pub(crate) fn sum(&self) -> Sum {
        let containers = self.containers.lock();
        let arrived = |numbers: &Numbers| numbers.next as usize + numbers.beyond.len();
        Sum {
            arrived: containers.iter().map(arrived).sum(),
            duplicated: containers.iter().map(|numbers| numbers.duplicated).sum(),
            is_in_order: containers.iter().all(|numbers| numbers.is_in_order),
        }
    }

    fn receive(&self, connection: &TcpStream) {
        let mut reader = BufReader::with_capacity(256 * 1024, connection);
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
            self.count(&line);
            line.clear();
        }
    }

    fn count(&self, line: &str) {
        let parse = || {
            // The text follows the structured data.
            let (_, text) = line.rsplit_once("] ")?;
            let mut words = text.split(' ');
            let container: usize = words.next()?.parse().ok()?;
            let number: u64 = words.next()?.parse().ok()?;
            Some((container, number))
        };
        let (container, number) = parse().unwrap_or_else(|| panic!("unexpected line: {line:?}"));
        self.containers.lock()[container].add(number);
    }
}

impl Numbers {
    fn add(&mut self, number: u64) {
        if number < self.next || !self.beyond.insert(number) {
            self.duplicated += 1;
            return;
        }
        self.is_in_order &= number == self.next;
        while self.beyond.remove(&self.next) {
            self.next += 1;
        }
    }
}
