//! Fuzzes the mapper: arbitrary bytes as a chunk must give valid messages.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mapper::config::{Config, Properties};
use mapper::message::{Mapper, Workspace};
use receiver::Splitter;
use syslog::Batch;

const TAG: &str = "kube.var.log.containers.web-0_shop_nginx-0000000000000000000000000000000000000000000000000000000000000000.log";

struct Options;

impl Properties for Options {
    fn get(&self, key: &str) -> Option<String> {
        let value = match key {
            "servers" => "localhost",
            "transport" => "tcp",
            "cluster" => "on",
            "severity" => "$level ?? $kubernetes['labels']['level']",
            "msgid" => "$kubernetes['labels']['app'] $list[1]",
            "structured_data" => "[a@1 b=\"$b\"]",
            "max_message_size" => "1024",
            _ => return None,
        };
        Some(value.to_owned())
    }
}

static MAPPER: LazyLock<(Mapper, Config)> = LazyLock::new(|| {
    let config = Config::parse(&Options).expect("the options are valid");
    (Mapper::new(&config, "node".to_owned()), config)
});

fuzz_target!(|data: &[u8]| {
    let (mapper, config) = &*MAPPER;
    let mut batch = Batch::new(config.framing);
    let tally = mapper.map_chunk(TAG, data, &mut batch, &mut Workspace::default());
    assert_eq!(tally.messages, batch.frames() as u64);

    let mut splitter = Splitter::octet_counting(1024);
    splitter.push(batch.bytes());
    let mut frames = 0;
    while let Some(frame) = splitter.next_frame().expect("every frame is valid") {
        receiver::message::parse(frame).expect("every message is valid");
        frames += 1;
    }
    assert_eq!(frames, batch.frames());
    assert!(!splitter.unfinished());
});
