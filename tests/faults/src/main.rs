//! `make reliability`: runs every scenario, and writes the results into the tables of
//! docs/RELIABILITY.md. With names of scenarios as arguments, it only prints their
//! rows.
#![forbid(unsafe_code)]

use std::fmt::Write;
use std::process::ExitCode;

use faults::{Counts, DIRECT, POD_LOGS, QUEUED, Scenario, Skipped};

/// The scenarios of each table, and the make target in the table's markers.
const TABLES: [(&str, &[Scenario]); 3] = [
    ("reliability", DIRECT),
    ("reliability, of pod logs", POD_LOGS),
    ("reliability, with queues", QUEUED),
];

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    for (target, scenarios) in TABLES {
        if names.is_empty() {
            let table = table(scenarios.iter());
            if let Err(error) = rig::document::write_table("RELIABILITY.md", target, &table) {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        } else {
            let is_chosen = |scenario: &&Scenario| names.iter().any(|name| name == scenario.name);
            print!("{}", table(scenarios.iter().filter(is_chosen)));
        }
    }
    ExitCode::SUCCESS
}

fn table<'s>(scenarios: impl Iterator<Item = &'s Scenario>) -> String {
    let mut table = String::from(
        "| Scenario | Sent | Lost | Duplicated | In order |\n|---|---:|---:|---:|---|\n",
    );
    for scenario in scenarios {
        eprintln!("{}", scenario.title);
        let row = match (scenario.run)() {
            Err(Skipped(reason)) => format!("| {} | skipped: {reason} | | | |", scenario.title),
            Ok(Counts {
                sent,
                lost,
                duplicated,
                in_order,
                ..
            }) => format!(
                "| {} | {sent} | {lost} | {duplicated} | {} |",
                scenario.title,
                match in_order {
                    Some(true) => "yes",
                    Some(false) => "no",
                    None => "decided by Fluent Bit",
                }
            ),
        };
        eprintln!("  {row}");
        writeln!(table, "{row}").expect("writing to a String succeeds");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_a_row_for_each_scenario() {
        let document = include_str!("../../../docs/RELIABILITY.md");
        for (target, scenarios) in TABLES {
            let begin = format!("<!-- begin of the table: make {target} -->");
            let (_, table) = document.split_once(&begin).unwrap();
            let (table, _) = table.split_once("<!-- end of the table -->").unwrap();
            for Scenario { title, .. } in scenarios {
                assert!(
                    table.contains(&format!("| {title} | ")),
                    "make {target}: {title}"
                );
            }
        }
    }
}
