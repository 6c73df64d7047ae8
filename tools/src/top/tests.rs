//! The whole screen without a terminal: keys in, lines out.
