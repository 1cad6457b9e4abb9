//! `make reliability`: has every scenario happen, and writes what came of it
//! into the table of docs/RELIABILITY.md.
#![forbid(unsafe_code)]

use std::fmt::Write;
use std::process::ExitCode;

use faults::{Counts, SCENARIOS, Skipped};

fn main() -> ExitCode {
    match rig::document::write_table("RELIABILITY.md", "reliability", &table()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn table() -> String {
    let mut table = String::from(
        "| What happens | Sent | Lost | Duplicated | In order |\n|---|---:|---:|---:|---|\n",
    );
    for scenario in SCENARIOS {
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
                    None => "Fluent Bit's",
                }
            ),
        };
        eprintln!("  {row}");
        writeln!(table, "{row}").expect("a String takes everything");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_a_row_for_each_scenario() {
        let document = include_str!("../../../docs/RELIABILITY.md");
        for scenario in SCENARIOS {
            let row = format!("| {} | ", scenario.title);
            assert!(
                document.contains(&row),
                "make reliability: {}",
                scenario.title
            );
        }
    }
}
