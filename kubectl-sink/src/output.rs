//! Printing: documents, tables, ages.

use std::io::{self, Write};

use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use crate::cli::Output;
use crate::failure::Failure;

/// Writes to standard output. A reader that has closed its end, as `head` does, is no
/// error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(format!(
            "cannot write to standard output: {error}"
        ))),
        _ => Ok(()),
    }
}

/// Returns a value in JSON or YAML, with a line feed at the end.
pub(crate) fn document(value: &impl Serialize, output: Output) -> Result<String, Failure> {
    let text = match output {
        Output::Json => serde_json::to_string_pretty(value).map_err(|error| error.to_string()),
        Output::Yaml => serde_saphyr::to_string(value).map_err(|error| error.to_string()),
    };
    let text = text.map_err(Failure::new)?;
    Ok(format!("{}\n", text.trim_end()))
}

/// Aligns columns as kubectl does. The first row is the heading.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|c| width(c).unwrap_or_default()).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        format!("{}\n", cells.join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// Returns the time since `then` in one unit, as kubectl does.
pub(crate) fn age(then: Option<Timestamp>, now: Timestamp) -> String {
    let Some(then) = then else {
        return "<unknown>".to_owned();
    };
    let seconds = (now.as_second() - then.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["NAME", "AGE"], ["a-long-name", "2m"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "NAME          AGE\na-long-name   2m\n");
    }

    #[test]
    fn ages_have_one_unit() {
        let now: Timestamp = "2026-03-03T12:00:00Z".parse().unwrap();
        for (time, expected) in [
            ("2026-03-03T11:59:01Z", "59s"),
            ("2026-03-03T11:30:00Z", "30m"),
            ("2026-03-02T12:00:00Z", "24h"),
            ("2026-02-01T12:00:00Z", "30d"),
            // A clock that goes before ours.
            ("2026-03-03T12:00:05Z", "0s"),
            ("yesterday", "<unknown>"),
        ] {
            assert_eq!(age(time.parse().ok(), now), expected);
        }
    }
}
