//! Tokens, as the tables `[[token]]` of a file have them.

use std::fmt;
use std::sync::Arc;

use aircheck_api::TokenHash;
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use crate::access::scope::Scope;
use crate::access::token::{Token, check_name};

/// One table, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with name, hash and scopes")]
struct Table {
    name: String,
    hash: String,
    scopes: Vec<String>,
}

/// Reads a list of tokens, whose names and hashes are all different.
pub(super) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Arc<Token>>, D::Error> {
    deserializer.deserialize_seq(ListVisitor)
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = Vec<Arc<Token>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tables with name, hash and scopes, each headed [[token]]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut tables: A) -> Result<Self::Value, A::Error> {
        let mut tokens: Vec<Arc<Token>> = Vec::new();
        loop {
            let number = tokens.len() + 1;
            let wrong = |sentence: String| A::Error::custom(format!("number {number}: {sentence}"));
            let table = tables.next_element::<Table>().map_err(|error| wrong(error.to_string()))?;
            let Some(table) = table else { return Ok(tokens) };
            let token = token(&table).map_err(wrong)?;
            if let Some(same) = tokens.iter().find(|other| other.name == token.name || other.hash == token.hash) {
                let what = if same.name == token.name { "name" } else { "hash" };
                return Err(wrong(format!("its {what} is that of the token `{}`, too", same.name)));
            }
            tokens.push(Arc::new(token));
        }
    }
}

fn token(Table { name, hash, scopes }: &Table) -> Result<Token, String> {
    check_name(name).map_err(|wrong| format!("`name` {wrong}"))?;
    // A hash that is wrong may be the token itself, so it is not shown.
    let hash: TokenHash = hash.parse().map_err(|wrong| format!("`hash` {wrong}"))?;
    if scopes.is_empty() {
        return Err(format!("`scopes` must have at least one of {}", crate::access::scope::TAKES));
    }
    let scopes: Result<Vec<Scope>, _> = scopes.iter().map(|scope| scope.parse()).collect();
    Ok(Token { name: name.clone(), hash, scopes: scopes.map_err(|wrong| format!("`scopes` {wrong}"))? })
}

/// Refuses a token as a flag: the command line has no such flag, and the schema must have a parser for it.
pub(super) fn not_a_text(_: &str) -> Result<Arc<Token>, String> {
    Err("only a file can have a token".to_owned())
}
