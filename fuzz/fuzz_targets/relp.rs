//! Whatever a RELP server says, in pieces of any size, memory is bounded and
//! no message counts as acknowledged that was not sent.
#![no_main]

use libfuzzer_sys::fuzz_target;
use syslog::Relp;

const WINDOW: usize = 8;

fuzz_target!(|data: &[u8]| {
    let Some((piece, said)) = data.split_first() else {
        return;
    };
    let mut relp = Relp::new(WINDOW);
    for piece in said.chunks(usize::from(*piece).max(1)) {
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
