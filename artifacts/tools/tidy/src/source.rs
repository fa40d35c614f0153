//! A Rust file as the rules see it: its lines, its header, its functions, and the lines that belong to tests.

use std::{fs, ops::RangeInclusive, path::Path};

use syn::{Attribute, File, Signature, spanned::Spanned, visit::Visit};

/// One Rust file.
pub struct Source {
    /// Its text.
    pub text: String,
    /// True if all of it is test code.
    pub is_test: bool,
    /// Its functions and methods that are not test code.
    pub functions: Vec<Function>,
    /// Lines, from 1, of its `#[cfg(test)]` items.
    test_lines: Vec<RangeInclusive<usize>>,
    /// Lines, from 1, of attributes that have a test ignored.
    pub ignored: Vec<usize>,
}

/// One function or method with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// As written after `fn`.
    pub name: String,
    /// Line of its signature, from 1.
    pub line: usize,
    /// Lines from its signature to its closing brace.
    pub lines: usize,
    /// Its arguments, `self` included.
    pub arguments: usize,
}

impl Source {
    /// Reads and parses a file of the workspace.
    ///
    /// # Errors
    /// File, line and problem, when it cannot be read or is not Rust.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let is_test = path.components().any(|part| part.as_os_str() == "tests");
        Self::parse(text, is_test).map_err(|problem| format!("{}:{problem}", path.display()))
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// Line and problem, when it is not Rust.
    pub fn parse(text: String, is_test: bool) -> Result<Self, String> {
        let file: File = syn::parse_file(&text).map_err(|error| format!("{}: {error}", error.span().start().line))?;
        let mut finder = Finder { functions: Vec::new(), test_lines: Vec::new(), ignored: Vec::new() };
        finder.visit_file(&file);
        let functions = if is_test { Vec::new() } else { finder.functions };
        Ok(Self { text, is_test, functions, test_lines: finder.test_lines, ignored: finder.ignored })
    }

    /// The sentences of the `//!` block that opens the file; `None` when the first line is something else.
    #[must_use]
    pub fn header_sentences(&self) -> Option<usize> {
        let block: Vec<&str> = self.text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
        (!block.is_empty()).then(|| count_sentences(&block.join(" ")))
    }

    /// The lines of test code, with their numbers from 1.
    pub fn test_code(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        numbered.filter(|(number, _)| self.is_test || self.test_lines.iter().any(|lines| lines.contains(number)))
    }
}

/// Number of sentences: each ends in `.`, `!` or `?`, a code span counts as one word, and a rest without an end is one more.
fn count_sentences(text: &str) -> usize {
    let without_code: String = text.split('`').step_by(2).collect::<Vec<_>>().join("code");
    let words: Vec<&str> = without_code.split_whitespace().collect();
    let ends = |word: &str| {
        let bare = word.trim_end_matches([')', '"', '*', '”']);
        bare.ends_with(['.', '!', '?']) && !matches!(bare, "e.g." | "i.e." | "etc." | "cf." | "vs.")
    };
    let ended = words.iter().filter(|word| ends(word)).count();
    ended + usize::from(words.last().is_some_and(|word| !ends(word)))
}

struct Finder {
    functions: Vec<Function>,
    test_lines: Vec<RangeInclusive<usize>>,
    ignored: Vec<usize>,
}

impl Finder {
    fn take(&mut self, attributes: &[Attribute], signature: &Signature, end: usize) {
        if is_test_only(attributes) {
            return;
        }
        let line = signature.span().start().line;
        let name = signature.ident.to_string();
        self.functions.push(Function { name, line, lines: end + 1 - line, arguments: signature.inputs.len() });
    }
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if is_test_only(&item.attrs) {
            self.test_lines.push(item.span().start().line..=item.span().end().line);
            let mut inner = Self { functions: Vec::new(), test_lines: Vec::new(), ignored: Vec::new() };
            syn::visit::visit_item_mod(&mut inner, item);
            self.ignored.extend(inner.ignored);
        } else {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.take(&item.attrs, &item.sig, item.block.span().end().line);
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.take(&item.attrs, &item.sig, item.block.span().end().line);
        syn::visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.take(&item.attrs, &item.sig, block.span().end().line);
        }
        syn::visit::visit_trait_item_fn(self, item);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if attribute.path().is_ident("ignore") {
            self.ignored.push(attribute.span().start().line);
        }
    }
}

/// Returns true if an item is marked `#[test]`, `#[tokio::test]` or `#[cfg(test)]`.
#[must_use]
pub fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let last = attribute.path().segments.last().map(|segment| segment.ident.to_string());
        match last.as_deref() {
            Some("test") => true,
            Some("cfg") => attribute.parse_args::<syn::Ident>().is_ok_and(|ident| ident == "test"),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "//! One. Two, e.g. `a.b. c`.\n//! Three\n\nfn short(a: u8) {\n    let _ = a;\n}\n\n\
        struct S;\nimpl S {\n    fn method(&self, a: u8) {}\n}\n\n#[cfg(test)]\nmod tests {\n    #[test]\n    #[ ignore]\n    fn long() {}\n}\n";

    #[test]
    fn functions_are_measured_and_tests_are_apart() {
        let source = Source::parse(EXAMPLE.to_owned(), false).unwrap();
        let found: Vec<_> = source.functions.iter().map(|f| (f.name.as_str(), f.line, f.lines, f.arguments)).collect();
        assert_eq!(found, [("short", 4, 3, 1), ("method", 10, 1, 2)]);
        let test_lines: Vec<usize> = source.test_code().map(|(number, _)| number).collect();
        assert_eq!((test_lines.first(), test_lines.last()), (Some(&13), Some(&18)));
        assert_eq!(source.ignored, [16]);
    }

    #[test]
    fn sentences_of_the_header_are_counted() {
        assert_eq!(Source::parse(EXAMPLE.to_owned(), false).unwrap().header_sentences(), Some(3));
        assert_eq!(Source::parse("fn f() {}".to_owned(), false).unwrap().header_sentences(), None);
        assert_eq!(count_sentences("One (see the table). Version 1.2 of it!"), 2);
    }

    #[test]
    fn what_is_not_rust_is_named_with_its_line() {
        let error = Source::parse("//! x\nfn f( {}".to_owned(), false).map(|_| ()).unwrap_err();
        assert!(error.starts_with("2: "), "expected line 2: {error}");
    }
}
