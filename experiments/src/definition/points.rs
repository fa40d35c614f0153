//! The points of an experiment, from the tables `[vary]` and `[[points]]` of its definition.
//!
//! `[vary]` has a list of values for some keys, and every combination is a point. `[[points]]` lists points one by one; one
//! with `like = "NAME"` inherits the values of the point of that name, which must precede it. The name of a point contains
//! the values that distinguish it (`delay-40ms-rate-4000`), because plans, folders, tables and figures show only the name.

use std::collections::BTreeMap;

use terminal::{Document, DocumentError, TomlTable, overlay, take_table};
use toml::{
    Spanned, Value,
    de::{DeString, DeTable, DeValue},
};

use crate::definition::settings::Settings;

/// Name of the only point of a definition that varies nothing.
pub const ONLY_POINT: &str = record::Point::ONLY;

/// The key of a point's own systems.
pub const SYSTEMS: &str = "systems";

/// The key with the name of the point whose values are inherited.
const LIKE: &str = "like";

/// Most points of one definition: a typing error must not plan a year.
const MAX_POINTS: usize = 1000;

/// Keys that may differ between points, besides their systems in `[[points]]`; repetitions are the same for all of
/// them.
const VARIABLE: [&str; 7] = ["load", "function", "sandbox", "policy", "parameters", "expect", "seed"];

/// One combination of the values that an experiment varies.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Its name: of letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// The values that distinguish it, as text by dotted keys.
    pub values: BTreeMap<String, String>,
    /// Its effective settings.
    pub settings: Settings,
}

/// A point before its values override the rest.
struct Draft<'a> {
    name: String,
    values: BTreeMap<String, String>,
    over: TomlTable<'a>,
}

/// A dotted key in its segments, and the values it takes.
struct Axis<'a> {
    path: Vec<Spanned<DeString<'a>>>,
    values: Vec<Spanned<DeValue<'a>>>,
}

/// Turns a definition's table, without its overlays, into points. Values of `quick` override those of listed points, too:
/// otherwise the quick version would take as long as the full one.
///
/// # Errors
/// If a value is wrong, in a point or in what varies, with file, line and key.
pub(super) fn decode<'a>(
    document: &Document,
    mut table: TomlTable<'a>,
    quick: Option<&TomlTable<'a>>,
) -> Result<Vec<Point>, DocumentError> {
    let axes = axes(document, take_table(document, &mut table, "vary")?.unwrap_or_default())?;
    let listed = listed(document, table.remove("points").map(Spanned::into_inner), quick)?;
    let mut drafts = if axes.is_empty() { Vec::new() } else { product(document, &axes)? };
    drafts.extend(listed);
    if drafts.is_empty() {
        drafts.push(Draft { name: ONLY_POINT.to_owned(), values: BTreeMap::new(), over: TomlTable::new() });
    }
    if drafts.len() > MAX_POINTS {
        return Err(document.wrong("vary", format!("makes {} points, at most {MAX_POINTS}", drafts.len())));
    }
    let mut points: Vec<Point> = Vec::with_capacity(drafts.len());
    for draft in drafts {
        if points.iter().any(|point| point.name == draft.name) {
            return Err(document.wrong("vary", format!("two points are called {}", draft.name)));
        }
        let mut whole = table.clone();
        overlay(&mut whole, draft.over);
        let settings: Settings = document.decode(whole)?;
        settings.check().map_err(|(key, problem)| document.wrong(key, problem))?;
        points.push(Point { name: draft.name, values: draft.values, settings });
    }
    Ok(points)
}

fn axes<'a>(document: &Document, vary: TomlTable<'a>) -> Result<Vec<Axis<'a>>, DocumentError> {
    let mut found = Vec::new();
    collect_axes(document, vary, &[], &mut found)?;
    // Tables are sorted by key, but readers expect the order in which keys are written.
    found.sort_by_key(|axis| axis.path.last().map(|key| key.span().start));
    Ok(found)
}

/// Recursion is bounded by the parser's own limit.
fn collect_axes<'a>(
    document: &Document,
    table: TomlTable<'a>,
    above: &[Spanned<DeString<'a>>],
    found: &mut Vec<Axis<'a>>,
) -> Result<(), DocumentError> {
    for (key, value) in table {
        let path = [above, &[key]].concat();
        match value.into_inner() {
            DeValue::Table(inner) => collect_axes(document, inner, &path, found)?,
            DeValue::Array(values) if !values.is_empty() => {
                may_vary(document, &path, "vary.")?;
                found.push(Axis { path, values: values.into_iter().collect() });
            }
            _ => return Err(document.wrong(&format!("vary.{}", dotted(&path)), "expected a list of values")),
        }
    }
    Ok(())
}

fn may_vary(document: &Document, path: &[Spanned<DeString<'_>>], prefix: &str) -> Result<(), DocumentError> {
    let first = path.first().map_or("", |first| first.get_ref().as_ref());
    if VARIABLE.contains(&first) {
        return Ok(());
    }
    let problem = format!("is the same for all points; what may differ: {}", VARIABLE.join(", "));
    Err(document.wrong(&format!("{prefix}{}", dotted(path)), problem))
}

/// Every combination of values; the last axis varies fastest.
fn product<'a>(document: &Document, axes: &[Axis<'a>]) -> Result<Vec<Draft<'a>>, DocumentError> {
    let count = axes.iter().fold(1_usize, |count, axis| count.saturating_mul(axis.values.len()));
    if count > MAX_POINTS {
        return Err(document.wrong("vary", format!("makes {count} points, at most {MAX_POINTS}")));
    }
    let mut drafts = vec![Draft { name: String::new(), values: BTreeMap::new(), over: TomlTable::new() }];
    for axis in axes {
        let key = dotted(&axis.path);
        let mut longer = Vec::with_capacity(drafts.len() * axis.values.len());
        for draft in &drafts {
            for value in &axis.values {
                let text = scalar(value.get_ref()).ok_or_else(|| {
                    document.wrong(&format!("vary.{key}"), "expected texts, numbers or true and false")
                })?;
                let last = axis.path.last().map_or("", |last| last.get_ref().as_ref());
                let part = name_part(&format!("{last}-{text}"));
                let name = if draft.name.is_empty() { part } else { format!("{}-{part}", draft.name) };
                let mut values = draft.values.clone();
                values.insert(key.clone(), text);
                let mut over = draft.over.clone();
                overlay(&mut over, nested(&axis.path, value.clone()));
                longer.push(Draft { name, values, over });
            }
        }
        drafts = longer;
    }
    Ok(drafts)
}

/// The points of `[[points]]`.
fn listed<'a>(
    document: &Document,
    points: Option<DeValue<'a>>,
    quick: Option<&TomlTable<'a>>,
) -> Result<Vec<Draft<'a>>, DocumentError> {
    let Some(points) = points else { return Ok(Vec::new()) };
    let DeValue::Array(points) = points else { return Err(document.wrong("points", "expected a list: [[points]]")) };
    let mut drafts = Vec::new();
    let mut written: Vec<(String, TomlTable<'a>)> = Vec::new();
    for (index, point) in points.into_iter().enumerate() {
        let place = format!("points[{index}]");
        let DeValue::Table(mut over) = point.into_inner() else {
            return Err(document.wrong("points", "expected a table for each point"));
        };
        let name = match over.remove("name").map(Spanned::into_inner) {
            Some(DeValue::String(name)) if !name.is_empty() && name_part(&name) == name => name.into_owned(),
            Some(_) => {
                let problem = "expected letters, digits, `.`, `_` and `-`, and a letter or digit first";
                return Err(document.wrong(&format!("{place}.name"), problem));
            }
            None => return Err(document.wrong("points", format!("point {} has no name", index + 1))),
        };
        if let Some(like) = over.remove(LIKE) {
            over = inherited(&written, like.get_ref(), over)
                .ok_or_else(|| document.wrong(&format!("{place}.{LIKE}"), "expected the name of a point further up"))?;
        }
        written.push((name.clone(), over.clone()));
        for key in over.keys().filter(|key| key.get_ref() != SYSTEMS) {
            may_vary(document, std::slice::from_ref(key), &format!("{place}."))?;
        }
        if let Some(quick) = quick {
            remove_overridden(&mut over, quick);
        }
        let mut values = BTreeMap::new();
        leaves(&over, "", &mut values);
        if let Some(DeValue::Array(systems)) = over.get(SYSTEMS).map(Spanned::get_ref) {
            let names: Vec<String> = systems.iter().filter_map(|name| scalar(name.get_ref())).collect();
            values.insert(SYSTEMS.to_owned(), names.join(","));
        }
        drafts.push(Draft { name, values, over });
    }
    Ok(drafts)
}

/// A point's own table on top of the one that it inherits; `None` if no point `written` so far has that name.
fn inherited<'a>(written: &[(String, TomlTable<'a>)], like: &DeValue<'a>, own: TomlTable<'a>) -> Option<TomlTable<'a>> {
    let (_, mut whole) = written.iter().find(|(name, _)| like.as_str() == Some(name.as_str()))?.clone();
    overlay(&mut whole, own);
    Some(whole)
}

/// Removes all values that `stronger` has as well.
fn remove_overridden<'a>(table: &mut TomlTable<'a>, stronger: &TomlTable<'a>) {
    for (key, value) in stronger {
        match (table.get_mut(key.get_ref().as_ref()).map(Spanned::get_mut), value.get_ref()) {
            (Some(DeValue::Table(inner)), DeValue::Table(stronger)) => remove_overridden(inner, stronger),
            (Some(_), _) => drop(table.remove(key.get_ref().as_ref())),
            (None, _) => {}
        }
    }
}

fn leaves(table: &DeTable<'_>, prefix: &str, found: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        match value.get_ref() {
            DeValue::Table(inner) => leaves(inner, &path, found),
            other => found.extend(scalar(other).map(|text| (path, text))),
        }
    }
}

fn dotted(path: &[Spanned<DeString<'_>>]) -> String {
    path.iter().map(|part| part.get_ref().as_ref()).collect::<Vec<_>>().join(".")
}

/// Nested tables with `value` at `path`.
fn nested<'a>(path: &[Spanned<DeString<'a>>], value: Spanned<DeValue<'a>>) -> TomlTable<'a> {
    let mut table = TomlTable::new();
    if let Some((first, rest)) = path.split_first() {
        let place = value.span();
        let inner = if rest.is_empty() { value } else { Spanned::new(place, DeValue::Table(nested(rest, value))) };
        table.insert(first.clone(), inner);
    }
    table
}

/// A plain value as text; `None` for lists, tables and dates.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// Text as part of a point's name, which is also the name of a folder.
fn name_part(text: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    text.chars().map(kept).collect::<String>().trim_start_matches(['.', '-', '_']).to_owned()
}

/// The points as one resolved definition: their shared settings, then each point with its own values. [`read`] reads
/// it.
#[must_use]
pub fn to_toml(points: &[Point]) -> String {
    let whole = |point: &Point| Value::try_from(&point.settings).expect("settings are tables of plain values");
    let Some(first) = points.first() else { return String::new() };
    let keys: Vec<&String> = points.iter().flat_map(|point| point.values.keys()).collect();
    if keys.is_empty() {
        return first.settings.to_toml();
    }
    let mut shared = whole(first);
    for key in &keys {
        if let (Some(under), last) = split(key, &mut shared) {
            under.remove(last);
        }
    }
    let mut list = Vec::with_capacity(points.len());
    for point in points {
        let mut settings = whole(point);
        let mut entry = Value::Table([("name".to_owned(), point.name.clone().into())].into_iter().collect());
        for key in &keys {
            let (under, last) = split(key, &mut settings);
            if let Some(value) = under.and_then(|under| under.get(last)).cloned() {
                insert(&mut entry, key, value);
            }
        }
        list.push(entry);
    }
    if let Value::Table(shared) = &mut shared {
        shared.insert("points".to_owned(), list.into());
    }
    toml::to_string(&shared).expect("settings are tables of plain values")
}

/// The table that holds a dotted key, and the key's last segment.
fn split<'k, 'v>(key: &'k str, value: &'v mut Value) -> (Option<&'v mut toml::Table>, &'k str) {
    let (above, last) = key.rsplit_once('.').unwrap_or(("", key));
    let parts = above.split('.').filter(|part| !part.is_empty());
    (parts.fold(value.as_table_mut(), |table, part| table?.get_mut(part)?.as_table_mut()), last)
}

/// Sets the value at a dotted key, creating tables on the way.
pub(super) fn insert(into: &mut Value, key: &str, value: Value) {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let Some(table) = into.as_table_mut() else { return };
    match rest {
        None => drop(table.insert(first.to_owned(), value)),
        Some(rest) => insert(table.entry(first).or_insert_with(|| Value::Table(toml::Table::new())), rest, value),
    }
}

/// Reads the output of [`to_toml`].
///
/// # Errors
/// If it is something else, with line and key.
pub fn read(text: &str) -> Result<Vec<Point>, DocumentError> {
    let document = Document::new(std::path::Path::new("definition"), text.to_owned());
    decode(&document, document.parse()?, None)
}

#[cfg(test)]
mod tests;
