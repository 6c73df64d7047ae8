//! Rules between settings.

use std::collections::BTreeSet;

use aircheck_api::span::Short;

use super::on_loss::LossPolicy;
use super::record_split::RecordSplit;
use super::schema::{Config, MIN_LAG_BLOCKS, MountConfig};
use super::source::SourceSpec;
use crate::access::policy::has_listen;
use crate::access::scope::Scope;

/// A rule that settings break.
#[derive(Debug)]
pub(super) struct Broken {
    /// The wrong key.
    pub(super) key: &'static str,
    /// The rest of the sentence that begins with it.
    pub(super) wrong: String,
}

impl Broken {
    fn new(key: &'static str, wrong: impl Into<String>) -> Self {
        Self { key, wrong: wrong.into() }
    }
}

impl Config {
    /// Checks the settings against each other, `given` ones against those that they depend on.
    ///
    /// # Errors
    ///
    /// The first rule that they break.
    pub(super) fn check(&self, given: &BTreeSet<&'static str>) -> Result<(), Broken> {
        self.check_http()?;
        self.check_tokens()?;
        if !given.contains("mount") {
            self.first_mount().check(given)?;
        } else if given.contains("source") {
            return Err(Broken::new("source", "goes into each [[mount]], because the file has some"));
        }
        match given.iter().find_map(|key| Some((*key, self.unmet_condition(key)?))) {
            Some((key, condition)) => Err(Broken::new(key, format!("goes only with {condition}"))),
            None => Ok(()),
        }
    }

    /// Finds scopes of mounts that are not there: such a token would open nothing.
    fn check_tokens(&self) -> Result<(), Broken> {
        let is_there = |name: &str| self.mounts.iter().any(|mount| mount.name == name);
        for token in &self.tokens {
            for scope in &token.scopes {
                if let Scope::Listen(Some(name)) = scope
                    && !is_there(name)
                {
                    let names: Vec<_> = self.mounts.iter().map(|mount| mount.name.as_str()).collect();
                    let wrong =
                        format!("`{}` has the scope {scope}, but the mounts are {}", token.name, names.join(", "));
                    return Err(Broken::new("token", wrong));
                }
            }
        }
        Ok(())
    }

    fn check_http(&self) -> Result<(), Broken> {
        let http = &self.http;
        if http.listen.is_empty() {
            return Err(Broken::new("listen", "must name an address, such as 127.0.0.1:8700"));
        }
        let reachable = http.listen.iter().find(|address| address.is_reachable());
        if let Some(listen) = reachable
            && !http.insecure_public
            && !self.tokens.iter().any(|token| has_listen(token))
        {
            return Err(Broken::new(
                "listen",
                format!(
                    "lets other machines reach {listen}, and no token is needed to listen: make one with `aircheck token new \
                     --name NAME --scope listen`, or permit that with --insecure-public"
                ),
            ));
        }
        match (&http.tls_cert, &http.tls_key) {
            (Some(_), None) => Err(Broken::new("tls_cert", "needs the certificate's key: set --tls-key")),
            (None, Some(_)) => Err(Broken::new("tls_key", "needs the key's certificate: set --tls-cert")),
            (Some(_), Some(_)) if http.tls_self_signed => {
                Err(Broken::new("tls_self_signed", "makes a certificate of its own: leave --tls-cert out"))
            }
            _ => Ok(()),
        }
    }

    /// Returns the condition under which a setting of the server has an effect, if the other settings do not meet it.
    fn unmet_condition(&self, key: &str) -> Option<String> {
        match key {
            "notify_form" | "silence_after" | "silence_level" if self.has_no_receiver() => {
                Some("a URL to post to: set --notify".to_owned())
            }
            "report_as" if self.audience.report.is_none() => Some("a subject to report on: set --report".to_owned()),
            _ => None,
        }
    }

    fn has_no_receiver(&self) -> bool {
        self.notify.targets.is_empty() && self.mounts.iter().all(|mount| mount.notify.is_empty())
    }

    /// Returns whether a setting has an effect: with mounts, on one of them.
    pub(super) fn has_effect(&self, key: &str) -> bool {
        let has_effect = |mount: &MountConfig| mount.unmet_condition(key).is_none();
        self.unmet_condition(key).is_none() && self.mounts.iter().any(has_effect)
    }
}

impl MountConfig {
    /// Checks the settings of a mount against each other, `given` ones against those that they depend on.
    ///
    /// # Errors
    ///
    /// The first rule that they break.
    pub(super) fn check(&self, given: &BTreeSet<&'static str>) -> Result<(), Broken> {
        let (block, buffer) = (self.capture.block, self.delivery.buffer);
        if buffer < block {
            let (block, buffer) = (Short(block), Short(buffer));
            return Err(Broken::new("buffer", format!("must be at least one block of {block}, not {buffer}")));
        }
        let min_lag = MIN_LAG_BLOCKS * block;
        if let Some(max_lag) = self.delivery.max_lag.filter(|max_lag| *max_lag < min_lag) {
            let (min_lag, max_lag) = (Short(min_lag), Short(max_lag));
            let wrong = format!("must be at least {MIN_LAG_BLOCKS} blocks, {min_lag}, not {max_lag}");
            return Err(Broken::new("max_lag", wrong));
        }
        let policy = self.capture.on_source_loss;
        if policy == LossPolicy::Fallback && self.capture.fallback.is_none() {
            return Err(Broken::new("on_source_loss", "needs a sound to play: set --fallback"));
        }
        let has_other_policy = policy == LossPolicy::End || given.contains("on_source_loss");
        if self.capture.fallback.is_some() && policy != LossPolicy::Fallback && has_other_policy {
            let wrong = format!("goes only with on_source_loss = \"fallback\", not with {policy}");
            return Err(Broken::new("fallback", wrong));
        }
        let mut without_effect = given.iter().filter_map(|key| Some((*key, self.unmet_condition(key)?)));
        // A switch that is off is right everywhere.
        match without_effect.find(|(key, _)| match *key {
            "loop" => self.capture.looped,
            "wait_for_source" => self.capture.wait_for_source,
            "record_align" => self.recorder.record_align,
            _ => true,
        }) {
            Some((key, condition)) => Err(Broken::new(key, format!("goes only with {condition}"))),
            None => Ok(()),
        }
    }

    /// Returns the condition under which a setting of a mount has an effect, if its other settings do not meet it.
    fn unmet_condition(&self, key: &str) -> Option<String> {
        let source = &self.capture.source;
        let (has_effect, sources) = match key {
            "loop" => (matches!(source, SourceSpec::Wav(_) | SourceSpec::File(_)), "wav:PATH or file:PATH"),
            "rate" | "channels" => (source.takes_format(), "stdin, mic, auto or put"),
            "wait_for_source" => {
                (matches!(source, SourceSpec::Auto | SourceSpec::Mic(_) | SourceSpec::Nats(_)), "mic, auto or nats://…")
            }
            "hop_wait" => (matches!(source, SourceSpec::Nats(_)), "nats://…"),
            "sample" | "pace" => (*source == SourceSpec::Stdin, "stdin"),
            "record_split" | "record_align" | "record_keep" | "record_reserve" | "record_format"
                if self.recorder.record.is_none() =>
            {
                return Some("a directory to record to: set --record".to_owned());
            }
            "replay" | "publish_format" if self.publish.publish.is_none() => {
                return Some("a subject to publish on: set --publish".to_owned());
            }
            "fallback_after" if self.capture.fallback.is_none() => {
                return Some("a sound to play: set --fallback".to_owned());
            }
            "record_align" if matches!(self.recorder.record_split, RecordSplit::Bytes(_)) => {
                return Some("files of a length: set --record-split to one, such as 1h".to_owned());
            }
            _ => return None,
        };
        (!has_effect).then(|| format!("the source {sources}, not with {source}"))
    }
}
