//! A report as one HTML file: tables, plots, origin, and how to repeat it.

use std::fmt::Write as _;

use crate::report::log::Log;
use crate::report::percentiles::table;
use crate::report::plot::{escape, svg};

const STYLE: &str = "\
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .75rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #8884; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.scroll { overflow-x: auto; } svg { width: 100%; height: auto; margin-top: 1rem; }
dt { font-weight: 600; } dd { margin: 0 0 .5rem; } code { overflow-wrap: anywhere; }";

/// A part of the page: one log under a heading.
#[derive(Clone, Debug)]
pub struct Part {
    /// The heading.
    pub title: String,
    /// The circumstances, in a sentence or two.
    pub about: String,
    /// The measurements.
    pub log: Log,
}

/// Returns the page. `facts` stand at its top, each with its name.
#[must_use]
pub fn html(title: &str, facts: &[(String, String)], parts: &[Part]) -> String {
    let title = escape(title);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{STYLE}\n</style>\n</head>\n<body>\n<h1>{title}</h1>\n<dl>\n"
    );
    // Writing to a string cannot fail, here and below.
    for (what, fact) in facts {
        let _ = writeln!(html, "<dt>{}</dt><dd><code>{}</code></dd>", escape(what), escape(fact));
    }
    html += "</dl>\n";
    for part in parts {
        let _ = writeln!(html, "<h2>{}</h2>\n<p>{}</p>", escape(&part.title), escape(&part.about));
        html += "<div class=\"scroll\"><table>\n";
        for (index, row) in table(&part.log).iter().enumerate() {
            let cell = if index == 0 { "th" } else { "td" };
            let cells = row.iter().map(|text| format!("<{cell}>{}</{cell}>", escape(text)));
            let _ = writeln!(html, "<tr>{}</tr>", cells.collect::<String>());
        }
        html += "</table></div>\n";
        html += &svg(&part.title, &part.log.series);
    }
    html + "</body>\n</html>\n"
}
