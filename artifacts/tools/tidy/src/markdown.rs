//! The parts of Markdown pages that must agree with the code: tables, and commands in fenced blocks.

/// A fenced block.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// The text after the opening fence, for example `console fast`.
    pub info: String,
    /// Line of the first line within, from 1.
    pub line: usize,
    /// Its lines.
    pub lines: Vec<String>,
}

/// A command that a page gives to its reader.
#[derive(Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// Its line in the page, from 1.
    pub line: usize,
    /// Program and arguments, without redirections.
    pub words: Vec<String>,
    /// True if its block is marked `fast`: it ends within seconds and tests run it.
    pub fast: bool,
}

/// Languages of a block whose lines are commands.
const SHELLS: [&str; 3] = ["console", "sh", "bash"];

/// All fenced blocks of a page.
#[must_use]
pub fn blocks(page: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut inside = false;
    for (index, line) in page.lines().enumerate() {
        if let Some(info) = line.trim_start().strip_prefix("```") {
            if !inside {
                found.push(Block { info: info.trim().to_owned(), line: index + 2, lines: Vec::new() });
            }
            inside = !inside;
        } else if let Some(block) = found.last_mut().filter(|_| inside) {
            block.lines.push(line.to_owned());
        }
    }
    found
}

/// All commands in the shell blocks of a page; a line ending in `\` goes on in the next.
#[must_use]
pub fn commands(page: &str) -> Vec<CommandLine> {
    let mut found = Vec::new();
    for block in blocks(page) {
        let mut info = block.info.split_whitespace();
        if !info.next().is_some_and(|language| SHELLS.contains(&language)) {
            continue;
        }
        let fast = info.any(|word| word == "fast");
        let mut pending: Option<(usize, String)> = None;
        for (index, line) in block.lines.iter().enumerate() {
            let text = line.trim().trim_start_matches("$ ");
            let (at, before) = pending.take().unwrap_or((block.line + index, String::new()));
            let text = format!("{before}{text}");
            if let Some(head) = text.strip_suffix('\\') {
                pending = Some((at, head.to_owned()));
                continue;
            }
            let words = words(&text);
            if !words.is_empty() {
                found.push(CommandLine { line: at, words, fast });
            }
        }
    }
    found
}

/// The words of a shell command up to a comment, a pipe, a redirection or `&`; quotes are taken off.
fn words(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in text.chars() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(character),
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, '|' | '>' | '<' | '&' | ';') => break,
            (None, _) if character.is_whitespace() => found.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(character),
        }
    }
    found.extend(word);
    found
}

/// The rows below the heading row whose first cell is `first_heading`: the cells of each, with code marks taken off.
#[must_use]
pub fn table(page: &str, first_heading: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Option<Vec<String>> {
        let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
        Some(inner.split('|').map(|cell| cell.replace('`', "").trim().to_owned()).collect())
    };
    let mut lines = page.lines().skip_while(|line| cells(line).is_none_or(|row| row[0] != first_heading));
    lines.by_ref().take(2).for_each(drop);
    lines.map_while(cells).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# T\n\n| crate | imports |\n|---|---|\n| `a` | – |\n| `b` | `a` |\n\nText\n\n```console fast\n\
        $ a --x 'y z' | less\nb \\\n  c & # d\n# e\n```\n\n```toml\nk = 1\n```\n";

    #[test]
    fn tables_and_commands_are_found() {
        assert_eq!(table(PAGE, "crate"), [["a", "–"], ["b", "a"]]);
        let command = |line, words: &[&str]| CommandLine {
            line,
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            fast: true,
        };
        assert_eq!(commands(PAGE), [command(11, &["a", "--x", "y z"]), command(12, &["b", "c"])]);
    }
}
