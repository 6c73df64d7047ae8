//! Rules between settings.

use aircheck_api::span::Short;

use super::on_loss::LossPolicy;
use super::record_split::RecordSplit;
use super::schema::{Config, MIN_LAG_BLOCKS};
use super::source::SourceSpec;
use crate::access::policy::has_listen;

impl Config {
    /// Checks the settings against each other, `given` ones against those that they depend on.
    ///
    /// # Errors
    ///
    /// The wrong key, and the rest of the sentence that begins with it.
    pub(super) fn check(&self, given: impl Iterator<Item = &'static str>) -> Result<(), (&'static str, String)> {
        if let SourceSpec::Nats { .. } = self.capture.source {
            return Err(("source", format!("{} is not supported yet", self.capture.source)));
        }
        if self.http.listen.is_empty() {
            return Err(("listen", "must name an address, such as 127.0.0.1:8700".to_owned()));
        }
        let reachable = self.http.listen.iter().find(|address| address.is_reachable());
        if let Some(listen) = reachable
            && !self.http.insecure_public
            && !self.tokens.iter().any(|token| has_listen(token))
        {
            return Err((
                "listen",
                format!(
                    "lets other machines reach {listen}, and no token is needed to listen: make one with `aircheck token new \
                     --name NAME --scope listen`, or permit that with --insecure-public"
                ),
            ));
        }
        let (block, buffer) = (self.capture.block, self.delivery.buffer);
        if buffer < block {
            let (block, buffer) = (Short(block), Short(buffer));
            return Err(("buffer", format!("must be at least one block of {block}, not {buffer}")));
        }
        let min_lag = MIN_LAG_BLOCKS * block;
        if let Some(max_lag) = self.delivery.max_lag.filter(|max_lag| *max_lag < min_lag) {
            let (min_lag, max_lag) = (Short(min_lag), Short(max_lag));
            return Err(("max_lag", format!("must be at least {MIN_LAG_BLOCKS} blocks, {min_lag}, not {max_lag}")));
        }
        let given: Vec<_> = given.collect();
        let policy = self.capture.on_source_loss;
        if policy == LossPolicy::Fallback && self.capture.fallback.is_none() {
            return Err(("on_source_loss", "needs a sound to play: set --fallback".to_owned()));
        }
        let has_other_policy = policy == LossPolicy::End || given.contains(&"on_source_loss");
        if self.capture.fallback.is_some() && policy != LossPolicy::Fallback && has_other_policy {
            return Err(("fallback", format!("goes only with on_source_loss = \"fallback\", not with {policy}")));
        }
        match (&self.http.tls_cert, &self.http.tls_key) {
            (Some(_), None) => return Err(("tls_cert", "needs the certificate's key: set --tls-key".to_owned())),
            (None, Some(_)) => return Err(("tls_key", "needs the key's certificate: set --tls-cert".to_owned())),
            (Some(_), Some(_)) if self.http.tls_self_signed => {
                return Err(("tls_self_signed", "makes a certificate of its own: leave --tls-cert out".to_owned()));
            }
            _ => {}
        }
        let mut without_effect = given.into_iter().filter_map(|key| Some((key, self.unmet_condition(key)?)));
        // A switch that is off is right everywhere.
        match without_effect.find(|(key, _)| match *key {
            "loop" => self.capture.looped,
            "wait_for_source" => self.capture.wait_for_source,
            "record_align" => self.recorder.record_align,
            _ => true,
        }) {
            Some((key, condition)) => Err((key, format!("goes only with {condition}"))),
            None => Ok(()),
        }
    }

    /// Returns the condition under which a setting has an effect, if the other settings do not meet it.
    pub(super) fn unmet_condition(&self, key: &str) -> Option<String> {
        let source = &self.capture.source;
        let (has_effect, sources) = match key {
            "loop" => (matches!(source, SourceSpec::Wav(_)), "wav:PATH"),
            "rate" | "channels" => (source.takes_format(), "stdin, mic or auto"),
            "wait_for_source" => (matches!(source, SourceSpec::Auto | SourceSpec::Mic(_)), "mic or auto"),
            "sample" | "pace" => (*source == SourceSpec::Stdin, "stdin"),
            "record_split" | "record_align" | "record_keep" | "record_reserve" | "record_format"
                if self.recorder.record.is_none() =>
            {
                return Some("a directory to record to: set --record".to_owned());
            }
            "fallback_after" if self.capture.fallback.is_none() => {
                return Some("a sound to play: set --fallback".to_owned());
            }
            "record_align" if matches!(self.recorder.record_split, RecordSplit::Bytes(_)) => {
                return Some("files of a length: set --record-split to one, such as 1h".to_owned());
            }
            "notify_form" | "silence_after" | "silence_level" if self.notify.targets.is_empty() => {
                return Some("a URL to post to: set --notify".to_owned());
            }
            _ => return None,
        };
        (!has_effect).then(|| format!("the source {sources}, not with {source}"))
    }
}
