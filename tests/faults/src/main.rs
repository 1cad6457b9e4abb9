//! `make reliability`: has every scenario happen, and writes what came of it
//! into the table of docs/RELIABILITY.md.
#![forbid(unsafe_code)]

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use faults::{Counts, SCENARIOS, Skipped};

const BEGIN: &str = "<!-- begin of the table: make reliability -->";
const END: &str = "<!-- end of the table -->";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/RELIABILITY.md");
    let document = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
    let (head, rest) = document.split_once(BEGIN).ok_or("the table has no begin")?;
    let (_, tail) = rest.split_once(END).ok_or("the table has no end")?;
    let table = table();
    std::fs::write(&path, format!("{head}{BEGIN}\n{table}{END}{tail}"))
        .map_err(|error| error.to_string())
}

fn table() -> String {
    let mut table = String::from(
        "| What happens | Sent | Lost | Twice | In order |\n|---|---:|---:|---:|---|\n",
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
