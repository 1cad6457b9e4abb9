//! The results of a run: a table on the terminal, and the one in docs/BENCHMARKS.md.

use std::fmt::Write;

use crate::plot::Plot;

/// A row of the table.
#[derive(Debug)]
struct Row {
    what: String,
    measured: String,
    target: String,
    /// Whether the target is met; `None` without a target or a measurement.
    met: Option<bool>,
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    plots: Vec<Plot>,
}

/// The target of a figure, in its unit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Report {
    /// Adds a figure with a target.
    pub(crate) fn figure(&mut self, what: &str, figure: f64, unit: &str, target: Target) {
        self.detailed(what, figure, unit, target, "");
    }

    /// Adds a figure with a target and details.
    pub(crate) fn detailed(
        &mut self,
        what: &str,
        figure: f64,
        unit: &str,
        target: Target,
        detail: &str,
    ) {
        let (word, bound, met) = match target {
            Target::AtMost(bound) => ("at most", bound, figure <= bound),
            Target::AtLeast(bound) => ("at least", bound, figure >= bound),
        };
        self.rows.push(Row {
            what: what.to_owned(),
            measured: format!("{}{unit}{detail}", short(figure)),
            target: format!("{word} {}{unit}", short(bound)),
            met: Some(met),
        });
    }

    /// Adds a result without a target.
    pub(crate) fn fact(&mut self, what: &str, measured: &str) {
        self.rows.push(Row {
            what: what.to_owned(),
            measured: measured.to_owned(),
            target: String::new(),
            met: None,
        });
    }

    /// Adds a result that cannot be measured here.
    pub(crate) fn skip(&mut self, what: &str, reason: &str) {
        self.fact(what, &format!("skipped: {reason}"));
    }

    pub(crate) fn plot(&mut self, plot: Plot) {
        self.plots.push(plot);
    }

    pub(crate) fn print(&self) {
        print!("{}", self.table());
    }

    /// Writes the table and the plots into the documents.
    pub(crate) fn write(&self) {
        rig::document::write_table("BENCHMARKS.md", "bench", &self.table()).unwrap();
        let folder = rig::document::path("benchmarks");
        std::fs::create_dir_all(&folder).unwrap();
        for plot in &self.plots {
            plot.draw(&folder);
        }
    }

    fn table(&self) -> String {
        let mut table =
            String::from("| Measurement | Result | Target | Status |\n|---|---|---|---|\n");
        for row in &self.rows {
            let Row {
                what,
                measured,
                target,
                met,
            } = row;
            let verdict = match met {
                None => "",
                Some(true) => "met",
                Some(false) => "**not met**",
            };
            writeln!(table, "| {what} | {measured} | {target} | {verdict} |")
                .expect("writing to a String succeeds");
        }
        table
    }
}

/// Formats a figure with three significant digits.
fn short(figure: f64) -> String {
    match figure {
        figure if figure >= 100.0 => format!("{figure:.0}"),
        figure if figure >= 10.0 => format!("{figure:.1}"),
        figure => format!("{figure:.2}"),
    }
}
