//! Small aligned tables for the terminal.

use std::fmt;

/// Rows of cells under a heading. The first column is aligned to the left, the others to the right.
///
/// ```
/// use aircheck_benches::Table;
///
/// let mut table = Table::new(["what", "ns"]);
/// table.row(["copy", "45"]);
/// assert_eq!(table.to_string(), "what  ns\n----  --\ncopy  45\n");
/// ```
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Begins a table with these column headings.
    #[must_use]
    pub fn new<const COLUMNS: usize>(heading: [&str; COLUMNS]) -> Self {
        Self { rows: vec![heading.map(str::to_owned).into()] }
    }

    /// Adds a row. Missing cells are empty.
    pub fn row<Cell: Into<String>>(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Returns the width of each column, which is that of its widest cell.
    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| self.rows.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max();
        (0..self.rows[0].len()).map(|column| width(column).unwrap_or(0)).collect()
    }
}

/// Returns a number with so many decimals, or `-` where there is none.
///
/// ```
/// use aircheck_benches::number;
///
/// assert_eq!(number(Some(2.346), 2), "2.35");
/// assert_eq!(number(None, 2), "-");
/// ```
#[must_use]
pub fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let line = |cells: &[String]| {
            let mut line = String::new();
            for (column, width) in widths.iter().enumerate() {
                let cell = cells.get(column).map_or("", String::as_str);
                line += &if column == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") };
            }
            line.trim_end().to_owned()
        };
        let rule: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
        writeln!(f, "{}\n{}", line(&self.rows[0]), line(&rule))?;
        self.rows[1..].iter().try_for_each(|row| writeln!(f, "{}", line(row)))
    }
}
