//! The two text formats of metrics: Prometheus's own and OpenMetrics.

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus's text format, version 0.0.4.
    Prometheus,
    /// OpenMetrics text, version 1.0.0.
    OpenMetrics,
}

impl Exposition {
    /// Returns the format for an `Accept` header: OpenMetrics if it is named with at least the weight of plain text.
    ///
    /// ```
    /// use aircheck_server::telemetry::metrics::Exposition;
    ///
    /// assert_eq!(Exposition::for_accept("*/*"), Exposition::Prometheus);
    /// let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    /// assert_eq!(Exposition::for_accept(prometheus), Exposition::OpenMetrics);
    /// ```
    #[must_use]
    pub fn for_accept(accept: &str) -> Self {
        let weight = |media_type: &str| {
            let ranges = accept.split(',').map(str::trim).filter_map(|range| {
                let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
                if !name.trim().eq_ignore_ascii_case(media_type) {
                    return None;
                }
                let quality = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("q="));
                Some(quality.map_or(1.0, |quality| quality.trim().parse::<f64>().unwrap_or(0.0)))
            });
            ranges.fold(0.0, f64::max)
        };
        let open = weight("application/openmetrics-text");
        if open > 0.0 && open >= weight("text/plain") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Returns the `Content-Type` of the answer.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Converts Prometheus's text to this format. OpenMetrics names a counter's family without `_total`, has no empty
    /// lines, and marks its end.
    pub(super) fn convert(self, text: String) -> String {
        if self == Self::Prometheus {
            return text;
        }
        let counter = |line: &str| Some(line.strip_prefix("# TYPE ")?.strip_suffix(" counter")?.to_owned());
        let counters: Vec<String> = text.lines().filter_map(counter).collect();
        let mut open = String::with_capacity(text.len());
        for line in text.lines().filter(|line| !line.is_empty()) {
            let family = line.strip_prefix("# ").and_then(|rest| rest.split(' ').nth(1));
            match family.filter(|family| counters.iter().any(|counter| counter == family)) {
                Some(family) => open.push_str(&line.replacen(family, family.trim_end_matches("_total"), 1)),
                None => open.push_str(line),
            }
            open.push('\n');
        }
        open.push_str("# EOF\n");
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_the_format_of_the_accept_header() {
        for (accept, expected) in [
            ("", Exposition::Prometheus),
            ("text/plain", Exposition::Prometheus),
            ("application/openmetrics-text", Exposition::OpenMetrics),
            ("Application/OpenMetrics-Text; version=1.0.0; q=0.7, text/plain;q=0.9", Exposition::Prometheus),
            ("application/openmetrics-text;q=0, */*", Exposition::Prometheus),
            ("application/openmetrics-text;q=x", Exposition::Prometheus),
        ] {
            assert_eq!(Exposition::for_accept(accept), expected, "{accept}");
        }
    }

    #[test]
    fn a_counter_s_family_has_no_suffix_in_open_metrics() {
        let text = "# HELP a_total A total.\n# TYPE a_total counter\na_total 1\n\n# HELP b_total B.\n# TYPE b_total gauge\nb_total 2\n";
        let open = "# HELP a A total.\n# TYPE a counter\na_total 1\n# HELP b_total B.\n# TYPE b_total gauge\nb_total 2\n# EOF\n";
        assert_eq!(Exposition::OpenMetrics.convert(text.to_owned()), open);
        assert_eq!(Exposition::Prometheus.convert(text.to_owned()), text);
    }
}
