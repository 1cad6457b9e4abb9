//! What came of a run: a table for people, and the one of docs/BENCHMARKS.md.

use std::fmt::Write;

use crate::plot::Plot;

/// One line of the table.
#[derive(Debug)]
struct Row {
    what: String,
    measured: String,
    target: String,
    /// None where there is no target, or nothing was measured.
    met: Option<bool>,
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    plots: Vec<Plot>,
}

/// The bound of a figure, in its unit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Report {
    /// A figure that has a target.
    pub(crate) fn figure(&mut self, what: &str, figure: f64, unit: &str, target: Target) {
        self.detailed(what, figure, unit, target, "");
    }

    /// The same, with what it was made of.
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

    /// Something to know, which has no target.
    pub(crate) fn fact(&mut self, what: &str, measured: &str) {
        self.rows.push(Row {
            what: what.to_owned(),
            measured: measured.to_owned(),
            target: String::new(),
            met: None,
        });
    }

    /// Something that cannot be measured here.
    pub(crate) fn skip(&mut self, what: &str, reason: &str) {
        self.fact(what, &format!("skipped: {reason}"));
    }

    pub(crate) fn plot(&mut self, plot: Plot) {
        self.plots.push(plot);
    }

    pub(crate) fn print(&self) {
        print!("{}", self.table());
    }

    /// Writes the table and the pictures into the documents.
    pub(crate) fn write(&self) {
        rig::document::write_table("BENCHMARKS.md", "bench", &self.table()).unwrap();
        let folder = rig::document::path("benchmarks");
        std::fs::create_dir_all(&folder).unwrap();
        for plot in &self.plots {
            plot.draw(&folder);
        }
    }

    fn table(&self) -> String {
        let mut table = String::from("| What | Measured | Target | |\n|---|---|---|---|\n");
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
                .expect("a String takes everything");
        }
        table
    }
}

/// Three digits that count.
fn short(figure: f64) -> String {
    match figure {
        figure if figure >= 100.0 => format!("{figure:.0}"),
        figure if figure >= 10.0 => format!("{figure:.1}"),
        figure => format!("{figure:.2}"),
    }
}
