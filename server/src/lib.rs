//! The aircheck service.
