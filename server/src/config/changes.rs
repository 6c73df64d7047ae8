//! The differences between mounts of two readings of the settings, in lines for people.

use super::push::PushTarget;
use super::schema::MountConfig;

/// Returns what is different in `new`, a line for each mount that came or went and for each of its settings.
#[must_use]
pub fn changes(old: &[MountConfig], new: &[MountConfig]) -> Vec<String> {
    let find = |mounts: &'_ [MountConfig], name: &str| mounts.iter().position(|mount| mount.name == name);
    let removed = old.iter().filter(|mount| find(new, &mount.name).is_none());
    let mut lines: Vec<_> = removed.map(|mount| format!("the mount `{}` is removed", mount.name)).collect();
    for mount in new {
        match find(old, &mount.name) {
            Some(index) => lines.extend(mount.changes_from(&old[index])),
            None => lines.push(format!("the mount `{}` is added: {}", mount.name, mount.capture.source)),
        }
    }
    let is_kept = |mount: &&MountConfig| find(old, &mount.name).is_some() && find(new, &mount.name).is_some();
    let order = |mounts: &[MountConfig]| mounts.iter().filter(is_kept).map(|it| it.name.clone()).collect::<Vec<_>>();
    if let Some(first) = new.first().filter(|first| old.first().is_none_or(|old| old.name != first.name)) {
        lines.push(format!("the mount `{}` is the first one, at /stream", first.name));
    } else if order(old) != order(new) {
        lines.push("the mounts have another order".to_owned());
    }
    lines
}

impl MountConfig {
    fn changes_from(&self, old: &Self) -> Vec<String> {
        let name = &self.name;
        let shown = |mount: &Self, key| mount.written.get(key).filter(|it| !it.is_empty()).cloned();
        let mut keys: Vec<_> = self.written.keys().chain(old.written.keys()).copied().collect();
        keys.sort_unstable();
        keys.dedup();
        let mut lines: Vec<_> = keys
            .into_iter()
            .filter(|key| self.written.get(key) != old.written.get(key))
            .map(|key| {
                let [was, is] = [old, self].map(|mount| shown(mount, key).unwrap_or_else(|| "not set".to_owned()));
                format!("the mount `{name}`: {key} is {is}, was {was}")
            })
            .collect();
        if self.delivery.push != old.delivery.push {
            // Without passwords, so that a changed one shows as a change alone.
            let shown = PushTarget::shown(&self.delivery.push);
            lines.push(format!("the mount `{name}`: push is {}", if shown.is_empty() { "not set" } else { &shown }));
        }
        if self.notify != old.notify {
            // Hosts only, because the rest of a URL is a secret.
            let hosts = self.notify.iter().map(|target| target.authority()).collect::<Vec<_>>().join(", ");
            lines.push(format!("the mount `{name}`: notify is {}", if hosts.is_empty() { "not set" } else { &hosts }));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::Config;
    use super::*;

    fn mounts(of: &[(&str, u64)]) -> Vec<MountConfig> {
        let mount = |(name, buffer): &(&str, u64)| {
            let mut mount = MountConfig { name: (*name).to_owned(), ..Config::default().first_mount().clone() };
            mount.written.insert("buffer", format!("{buffer}s"));
            mount
        };
        of.iter().map(mount).collect()
    }

    #[test]
    fn each_change_has_a_line() {
        assert!(changes(&mounts(&[("a", 1), ("b", 2)]), &mounts(&[("a", 1), ("b", 2)])).is_empty());
        assert_eq!(
            changes(&mounts(&[("a", 1), ("b", 2)]), &mounts(&[("b", 3), ("c", 1)])),
            [
                "the mount `a` is removed",
                "the mount `b`: buffer is 3s, was 2s",
                "the mount `c` is added: auto",
                "the mount `b` is the first one, at /stream"
            ]
        );
        assert_eq!(
            changes(&mounts(&[("a", 1), ("b", 2), ("c", 1)]), &mounts(&[("a", 1), ("c", 1), ("b", 2)])),
            ["the mounts have another order"]
        );
    }
}
