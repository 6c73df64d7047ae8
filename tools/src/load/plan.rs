//! The stream of a run, which all its listeners have in common.

use aircheck_api::StreamFormat;

use super::url::LoadUrl;

/// The stream of a run.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The stream that they listen to.
    pub(crate) url: LoadUrl,
    /// The format of an aircheck's blocks; `None` of other servers, which have no rows and no names.
    pub(crate) format: Option<StreamFormat>,
}
