//! The query parameters of `/api/v1/listeners`.

/// Names of the parameters, for errors.
const PARAMETERS: &str = "limit, sort, name and mount";

/// Which rows of the table are wanted, and in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TableQuery {
    /// At most this many, the first ones of their order.
    pub(super) limit: Option<usize>,
    pub(super) sort: Sort,
    /// Only of listeners whose names contain this, in lower case.
    pub(super) name: Option<String>,
    /// Only of listeners of the mount of this name.
    pub(super) mount: Option<String>,
}

/// An order of rows. Rows that are equal in it are in the order of their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// By number, which is the order in which they joined.
    #[default]
    Id,
    /// Furthest behind first, without the lag that a listener asked for.
    Lag,
    /// Most lost blocks first.
    Lost,
    /// By name.
    Name,
}

impl Sort {
    const ALL: [(&'static str, Self); 4] =
        [("id", Self::Id), ("lag", Self::Lag), ("lost", Self::Lost), ("name", Self::Name)];

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find_map(|(known, sort)| (known == name).then_some(sort))
    }
}

impl TableQuery {
    /// Reads a query string. `_` means nothing: it makes a URL new to a browser's cache.
    ///
    /// # Errors
    ///
    /// A sentence that names the parameter and what it takes.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let (mut limit, mut sort, mut name, mut mount) = (None, None, None, None);
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let is_again = match &*key {
                "limit" => limit.replace(read_limit(&value)?).is_some(),
                "sort" => sort.replace(read_sort(&value)?).is_some(),
                "name" => name.replace(value.to_lowercase()).is_some(),
                "mount" => mount.replace(value.into_owned()).is_some(),
                "_" => false,
                _ => return Err(format!("`{key}` is not a parameter of this path; it takes {PARAMETERS}")),
            };
            if is_again {
                return Err(format!("{key}: is given more than once"));
            }
        }
        Ok(Self { limit, sort: sort.unwrap_or_default(), name, mount })
    }

    /// Returns whether it asks for the rows of at most `most` listeners, those furthest behind.
    pub(super) fn is_of_worst(&self, most: usize) -> bool {
        self.sort == Sort::Lag
            && self.name.is_none()
            && self.mount.is_none()
            && self.limit.is_some_and(|limit| limit <= most)
    }

    /// Returns whether the row of a listener with this name at this mount is wanted.
    pub(super) fn selects(&self, name: &str, mount: &str) -> bool {
        self.name.as_ref().is_none_or(|wanted| name.to_lowercase().contains(wanted))
            && self.mount.as_ref().is_none_or(|wanted| mount == wanted)
    }
}

fn read_limit(value: &str) -> Result<usize, String> {
    let limit = value.parse().ok().filter(|limit| *limit > 0);
    limit.ok_or_else(|| format!("limit: `{value}` is not a number of rows; it takes 1 or more"))
}

fn read_sort(value: &str) -> Result<Sort, String> {
    let names = Sort::ALL.map(|(name, _)| name).join(", ");
    Sort::from_name(value).ok_or_else(|| format!("sort: `{value}` is not an order; it takes one of {names}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_parameter_is_read_and_a_wrong_value_is_named() {
        let query = TableQuery::parse("limit=5&sort=lag&name=B%C3%BCro&mount=hall&_=1").unwrap();
        let (name, mount) = (Some("büro".to_owned()), Some("hall".to_owned()));
        assert_eq!(query, TableQuery { limit: Some(5), sort: Sort::Lag, name, mount });
        assert_eq!(TableQuery::parse("").unwrap(), TableQuery::default());
        for (query, named) in [
            ("limit=0", "limit"),
            ("limit=-1", "1 or more"),
            ("limit=", "limit"),
            ("sort=mood", "id, lag, lost, name"),
            ("limit=1&limit=2", "more than once"),
            ("order=lag", "limit, sort, name and mount"),
        ] {
            let error = TableQuery::parse(query).unwrap_err();
            assert!(error.contains(named), "{query}: {error}");
        }
    }

    #[test]
    fn a_name_is_found_in_any_case() {
        let query = TableQuery::parse("name=BAR").unwrap();
        assert!(query.selects("the bar, back", "main") && !query.selects("kitchen", "bar"));
        assert!(TableQuery::default().selects("", ""));
    }

    #[test]
    fn a_mount_is_selected_by_its_whole_name() {
        let query = TableQuery::parse("mount=hall").unwrap();
        assert!(query.selects("hall", "hall") && !query.selects("hall", "hall-2"));
    }
}
