//! Fuzzes the RELP client: for arbitrary bytes from the server, in pieces of any size,
//! memory must be bounded, and only messages that were sent may count as acknowledged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use syslog::Relp;

const WINDOW: usize = 8;

fuzz_target!(|data: &[u8]| {
    let Some((size, stream)) = data.split_first() else {
        return;
    };
    let mut relp = Relp::new(WINDOW);
    for piece in stream.chunks(usize::from(*size).max(1)) {
        while relp.send(b"<14>1 - - - - - -") {}
        relp.on_written(relp.output().len());
        let result = relp.receive(piece);
        assert!(relp.acknowledged() <= relp.sent());
        assert!(relp.sent() - relp.acknowledged() <= WINDOW as u64);
        if result.is_err() {
            return;
        }
    }
    relp.close();
});
