//! Measures the structure of a checkout: sizes, methods by type, uses of wire messages, private words, comments.
//!
//! Two checkouts are compared by running it on each root:
//! `cargo run -p tidy --example structure -- [ROOT]`. Nothing is judged here; the rules are in `tests/`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a report")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use syn::{Attribute, ImplItem, Item, visit::Visit};
use tidy::{REFUSED_WORDS, Source, identifiers, is_test_only, words_of};

/// Words of identifiers to be replaced, besides those that are refused already: no engineer of this field would search for
/// them.
const PRIVATE_WORDS: [&str; 31] = [
    "standing",
    "level",
    "levels",
    "ask",
    "hear",
    "heard",
    "told",
    "turn",
    "beginning",
    "ticket",
    "verdict",
    "terms",
    "lot",
    "linger",
    "strange",
    "keeper",
    "door",
    "doors",
    "errand",
    "enclosure",
    "enclosed",
    "settle",
    "anchored",
    "lane",
    "handed",
    "means",
    "carrier",
    "registrar",
    "ink",
    "weather",
    "testimony",
];

fn main() -> ExitCode {
    let root = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    match measure(&root) {
        Ok(totals) => {
            totals.print();
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Every file that git knows, so that build output and runs are no part of it.
fn rust_files(root: &Path) -> Result<Vec<String>, String> {
    let listed = Command::new("git").arg("-C").arg(root).args(["ls-files", "*.rs"]).output();
    let listed = listed.map_err(|error| format!("git ls-files: {error}"))?;
    if !listed.status.success() {
        return Err(format!("git ls-files: {}", String::from_utf8_lossy(&listed.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect())
}

fn measure(root: &Path) -> Result<Totals, String> {
    let mut totals = Totals::default();
    for name in rust_files(root)? {
        let text = fs::read_to_string(root.join(&name)).map_err(|error| format!("{name}: {error}"))?;
        let file = syn::parse_file(&text).map_err(|error| format!("{name}: {error}"))?;
        let is_tests = |part: &str| matches!(part, "tests" | "tests.rs");
        let is_test = name.split('/').any(is_tests);
        let source = Source::parse(text, is_test).map_err(|problem| format!("{name}:{problem}"))?;
        totals.add(&name, &source, &file);
    }
    Ok(totals)
}

/// The counts over all files.
#[derive(Default)]
struct Totals {
    /// Lines of each file that is not only tests.
    file_lines: Vec<usize>,
    test_file_lines: Vec<usize>,
    /// Lines of each function that is no test.
    function_lines: Vec<usize>,
    tests: usize,
    /// By crate and type: files with an inherent `impl`, and methods in them.
    impls: BTreeMap<String, (BTreeSet<String>, usize)>,
    /// Lines of code that name the module of wire messages, by file, of the three daemons.
    wire_uses: BTreeMap<String, usize>,
    /// `let … else` that goes on as if nothing was wrong, by crate: not those whose accessor stops a debug build.
    silent_elses: BTreeMap<String, usize>,
    private_words: BTreeMap<&'static str, usize>,
    code_lines: usize,
    comment_lines: usize,
    /// Doc comments that begin with a question word and have no subject.
    bare_docs: usize,
    docs: usize,
}

impl Totals {
    fn add(&mut self, name: &str, source: &Source, file: &syn::File) {
        let lines = source.text.lines().count();
        if source.is_test {
            self.test_file_lines.push(lines);
        } else {
            self.file_lines.push(lines);
        }
        self.function_lines.extend(source.functions.iter().map(|function| function.lines));
        let mut finder = Finder { totals: self, name, is_test: source.is_test };
        finder.visit_file(file);
        self.count_words(&source.text);
        if !source.is_test {
            self.count_comments(source);
        }
    }

    fn count_words(&mut self, text: &str) {
        for (_, identifier) in identifiers(text) {
            for word in words_of(&identifier) {
                let refused = REFUSED_WORDS.iter().map(|(refused, _)| *refused);
                if let Some(private) = refused.chain(PRIVATE_WORDS).find(|private| *private == word) {
                    *self.private_words.entry(private).or_default() += 1;
                }
            }
        }
    }

    fn count_comments(&mut self, source: &Source) {
        let test_lines: BTreeSet<usize> = source.test_code().map(|(number, _)| number).collect();
        let code = source.text.lines().enumerate().filter(|(index, _)| !test_lines.contains(&(index + 1)));
        for (_, line) in code {
            let line = line.trim_start();
            let is_doc = line.starts_with("///") || line.starts_with("//!");
            if line.starts_with("//") && !is_doc {
                self.comment_lines += 1;
            } else if !line.is_empty() && !is_doc {
                self.code_lines += 1;
            }
        }
        let mut before_is_doc = false;
        for line in source.text.lines().map(str::trim_start) {
            let doc = line.strip_prefix("/// ");
            if let Some(text) = doc.filter(|_| !before_is_doc) {
                self.docs += 1;
                let first = text.split([' ', '.', ':', ',']).next().unwrap_or_default();
                self.bare_docs += usize::from(matches!(first, "What" | "How" | "Whether" | "When" | "Where" | "Which"));
            }
            before_is_doc = line.starts_with("///");
        }
    }

    fn print(&self) {
        println!("files, without tests: {}", spread(&self.file_lines));
        println!("files of tests: {}", spread(&self.test_file_lines));
        println!("functions, without tests: {}", spread(&self.function_lines));
        println!("tests: {}", self.tests);
        let mut impls: Vec<_> = self.impls.iter().filter(|(_, (_, methods))| *methods > 15).collect();
        impls.sort_by_key(|(_, (_, methods))| std::cmp::Reverse(*methods));
        println!("\ntypes with more than 15 methods (methods, files with an impl):");
        for (name, (files, methods)) in impls {
            println!("  {name}: {methods}, {}", files.len());
        }
        print_counts("lines that name wire messages, by file of the daemons", &self.wire_uses);
        print_counts("`else { return }` and its kind, by crate", &self.silent_elses);
        print_counts("private words in identifiers", &self.private_words);
        let share = 100.0 * self.comment_lines as f64 / (self.code_lines + self.comment_lines).max(1) as f64;
        println!("\ncomments that are no documentation: {} lines, {share:.1} % of code", self.comment_lines);
        println!("doc comments that begin with a bare question word: {} of {}", self.bare_docs, self.docs);
    }
}

fn print_counts(title: &str, counts: &BTreeMap<impl AsRef<str>, usize>) {
    println!("\n{title}: {} in {}", counts.values().sum::<usize>(), counts.len());
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (name, count) in sorted {
        println!("  {}: {count}", name.as_ref());
    }
}

fn spread(lines: &[usize]) -> String {
    let mut sorted = lines.to_vec();
    sorted.sort_unstable();
    let at = |share: usize| sorted.get((sorted.len() * share / 100).min(sorted.len().saturating_sub(1))).unwrap_or(&0);
    let total: usize = sorted.iter().sum();
    let (median, p90, most) = (at(50), at(90), at(100));
    format!("{} with {total} lines; median {median}, p90 {p90}, longest {most}", sorted.len())
}

struct Finder<'a> {
    totals: &'a mut Totals,
    name: &'a str,
    is_test: bool,
}

impl Finder<'_> {
    /// The folder that holds the crate's `src` or `tests`.
    fn crate_name(&self) -> &str {
        let end = ["/src/", "/tests/", "/examples/", "/benches/"].iter().find_map(|part| self.name.find(part));
        end.map_or(self.name, |end| &self.name[..end])
    }

    fn is_daemon(&self) -> bool {
        let daemons = ["orchestrator/control-plane", "orchestrator/data-plane", "orchestrator/worker"];
        daemons.contains(&self.crate_name())
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if let Item::Mod(module) = item
            && is_test_only(&module.attrs)
        {
            let mut inner = Finder { totals: &mut *self.totals, name: self.name, is_test: true };
            return syn::visit::visit_item_mod(&mut inner, module);
        }
        syn::visit::visit_item(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.totals.tests += usize::from(item.attrs.iter().any(is_test));
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let (None, syn::Type::Path(of), false) = (&item.trait_, &*item.self_ty, self.is_test)
            && let Some(last) = of.path.segments.last()
        {
            let methods = item.items.iter().filter(|item| matches!(item, ImplItem::Fn(_))).count();
            let key = format!("{} {}", self.crate_name(), last.ident);
            let (files, count) = self.totals.impls.entry(key).or_default();
            files.insert(self.name.to_owned());
            *count += methods;
        }
        syn::visit::visit_item_impl(self, item);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let is_wire = path.segments.len() > 1 && path.segments.iter().any(|segment| segment.ident == "wire");
        if is_wire && self.is_daemon() && !self.is_test {
            *self.totals.wire_uses.entry(self.name.to_owned()).or_default() += 1;
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if let Some(init) = &local.init
            && let Some((_, otherwise)) = &init.diverge
            && let syn::Expr::Block(block) = &**otherwise
            && let [syn::Stmt::Expr(syn::Expr::Return(_) | syn::Expr::Continue(_), _)] = &block.block.stmts[..]
            && !self.is_test
            && !is_asserted(&init.expr)
        {
            *self.totals.silent_elses.entry(self.crate_name().to_owned()).or_default() += 1;
        }
        syn::visit::visit_local(self, local);
    }
}

/// Returns true if the value is that of an accessor of entries that must exist.
fn is_asserted(expression: &syn::Expr) -> bool {
    matches!(expression, syn::Expr::MethodCall(call) if call.method == "known" || call.method == "known_mut")
}

fn is_test(attribute: &Attribute) -> bool {
    attribute.path().segments.last().is_some_and(|last| last.ident == "test")
}
