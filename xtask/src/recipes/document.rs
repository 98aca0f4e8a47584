//! Statements in a document: code blocks and inline code that begin with a prompt or with SQL.

use std::fs;

use anyhow::{Context, Result, bail};
use support::project_root;

/// A block without a prompt is SQL if it begins with one of these.
const VERBS: [&str; 12] = [
    "ALTER ",
    "CREATE ",
    "DROP ",
    "GRANT ",
    "INSTALL ",
    "KILL ",
    "SELECT ",
    "SET ",
    "SHOW ",
    "START ",
    "STOP ",
    "UNINSTALL ",
];
const PROMPTS: [(&str, usize); 4] = [("db1> ", 0), ("db2> ", 1), ("MariaDB [db1]> ", 0), ("MariaDB [db2]> ", 1)];

/// The recipes of a document, in order.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) blocks: Vec<Block>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Block {
    /// The number of its first line, from 1.
    pub(crate) line: usize,
    /// The last heading before it, of any level.
    pub(crate) section: String,
    /// The step: the number N of the last paragraph in this section that begins with `**N. `, or 0.
    pub(crate) step: usize,
    /// The reason in a `<!-- not run: REASON -->` before it.
    pub(crate) not_run: Option<String>,
    pub(crate) statements: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    /// 0 for db1, 1 for db2.
    pub(crate) server: usize,
    pub(crate) sql: String,
    /// The result in the comment after it, if that is a number, `ON`, `OFF` or `none`, alone or before a comma.
    pub(crate) returns: Option<Vec<String>>,
}

impl Document {
    /// Reads a document of the project.
    ///
    /// # Errors
    /// If it cannot be read, or a `not run` comment has no block.
    pub(crate) fn read(path: &str) -> Result<Self> {
        let text = fs::read_to_string(project_root().join(path)).with_context(|| path.to_owned())?;
        Self::parse(&text).with_context(|| path.to_owned())
    }

    fn parse(text: &str) -> Result<Self> {
        let (mut blocks, mut section, mut step) = (Vec::new(), String::new(), 0);
        let mut not_run: Option<String> = None;
        let mut after_blank = true;
        let mut lines = text.lines().enumerate().peekable();
        while let Some((number, line)) = lines.next() {
            let mut pieces: Vec<String> = Vec::new();
            if after_blank && is_code(line) {
                let mut code = vec![line];
                while let Some((_, line)) = lines.next_if(|(_, line)| is_code(line)) {
                    code.push(line);
                }
                pieces.push(code.join("\n"));
            } else if let Some(title) = line.strip_prefix('#') {
                (section, step) = (title.trim_start_matches('#').trim().to_owned(), 0);
            } else if let Some(reason) = line.trim().strip_prefix("<!-- not run: ") {
                not_run = Some(reason.trim_end_matches("-->").trim().to_owned());
                // Code may follow as if the comment were not there.
                after_blank = true;
                continue;
            } else {
                if let Some((n, _)) = line.strip_prefix("**").and_then(|line| line.split_once(". ")) {
                    step = n.parse().unwrap_or(step);
                }
                let code = line.split('`').skip(1).step_by(2).filter(|code| prompt(code).is_some());
                pieces.extend(code.map(|code| format!("{code};")));
            }
            let skipped = if line.trim().is_empty() { None } else { not_run.take() };
            for code in pieces {
                let statements = statements(&code);
                if !statements.is_empty() {
                    let (line, section, not_run) = (number + 1, section.clone(), skipped.clone());
                    blocks.push(Block { line, section, step, not_run, statements });
                }
            }
            after_blank = line.trim().is_empty();
        }
        if let Some(reason) = not_run {
            bail!("no code follows \"not run: {reason}\"");
        }
        Ok(Self { blocks })
    }

    /// The blocks of a section's step.
    pub(crate) fn step(&self, section: &str, step: usize) -> Vec<&Block> {
        self.blocks.iter().filter(|block| block.section == section && block.step == step).collect()
    }
}

fn is_code(line: &str) -> bool {
    line.starts_with("    ") && !line.trim().is_empty()
}

/// The text after a prompt, and the server of the prompt.
fn prompt(line: &str) -> Option<(&str, usize)> {
    PROMPTS.iter().find_map(|(prompt, server)| Some((line.strip_prefix(prompt)?, *server)))
}

/// The statements of a block, or none if it is not SQL.
fn statements(code: &str) -> Vec<Statement> {
    let begins = code.trim_start();
    if prompt(begins).is_none() && !VERBS.iter().any(|verb| begins.starts_with(verb)) {
        return Vec::new();
    }
    let (mut found, mut sql, mut server, mut delimiter) = (Vec::new(), String::new(), 0, ";".to_owned());
    for line in code.lines() {
        let mut line = line.trim();
        if let Some(behind) = prompt(line) {
            (line, server) = behind;
        }
        if let Some(new) = line.strip_prefix("DELIMITER ") {
            new.trim().clone_into(&mut delimiter);
            continue;
        }
        let (mut rest, comment) = split_comment(line);
        while let Some(at) = find(rest, &delimiter) {
            sql.push_str(&rest[..at]);
            rest = rest[at + delimiter.len()..].trim_start();
            let ended = std::mem::take(&mut sql).trim().trim_end_matches("\\G").to_owned();
            if !ended.is_empty() {
                let last = find(rest, &delimiter).is_none() && rest.is_empty();
                found.push(Statement { server, sql: ended, returns: if last { promised(comment) } else { None } });
            }
        }
        sql.push_str(rest);
        sql.push(' ');
        // `SHOW SLAVE STATUS\G` needs no semicolon.
        if sql.trim_end().ends_with("\\G") {
            let ended = std::mem::take(&mut sql).trim().trim_end_matches("\\G").to_owned();
            found.push(Statement { server, sql: ended, returns: None });
        }
    }
    if !sql.trim().is_empty() {
        found.push(Statement { server, sql: sql.trim().to_owned(), returns: None });
    }
    found
}

/// The position of `text` outside quotes.
fn find(line: &str, text: &str) -> Option<usize> {
    let mut quoted = None;
    line.char_indices().find_map(|(at, c)| {
        match quoted {
            Some(quote) if c == quote => quoted = None,
            None if matches!(c, '\'' | '"' | '`') => quoted = Some(c),
            None if line[at..].starts_with(text) => return Some(at),
            _ => {}
        }
        None
    })
}

fn split_comment(line: &str) -> (&str, &str) {
    find(line, "-- ").map_or((line, ""), |at| (&line[..at], line[at + 3..].trim()))
}

/// The result that a comment documents: the values at its beginning, up to a colon.
fn promised(comment: &str) -> Option<Vec<String>> {
    let value = |word: &&str| {
        matches!(*word, "ON" | "OFF" | "ALL") || !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
    };
    let words = comment.split(':').next().unwrap_or_default().split(", ").map(str::trim);
    let values: Vec<_> = words.take_while(value).map(str::to_owned).collect();
    if comment == "none" { Some(Vec::new()) } else { (!values.is_empty()).then_some(values) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql(text: &str) -> Vec<(usize, String, Option<Vec<String>>)> {
        let document = Document::parse(text).unwrap();
        let statements = document.blocks.into_iter().flat_map(|block| block.statements);
        statements.map(|statement| (statement.server, statement.sql, statement.returns)).collect()
    }

    #[test]
    fn statements_are_found_in_blocks_and_in_lines() {
        let text = "# A\ntext `db2> STOP SLAVE` text `SET x = 1`\n\n    db1> SELECT 1;  SELECT\n         'a;b'; -- 5\n    db2> SHOW X\\G\n\n    \
                    $ ls;\n";
        let ran = sql(text);
        assert_eq!(
            ran,
            [
                (1, "STOP SLAVE".to_owned(), None),
                (0, "SELECT 1".to_owned(), None),
                (0, "SELECT 'a;b'".to_owned(), Some(vec!["5".to_owned()])),
                (1, "SHOW X".to_owned(), None),
            ]
        );
    }

    #[test]
    fn a_compound_statement_is_one() {
        let ran = sql(
            "    db1> DELIMITER //\n    db1> BEGIN NOT ATOMIC\n           SELECT 1;\n         END //   -- 1\n    db1> DELIMITER ;\n",
        );
        assert_eq!(ran, [(0, "BEGIN NOT ATOMIC SELECT 1; END".to_owned(), Some(vec!["1".to_owned()]))]);
    }

    #[test]
    fn what_is_not_run_has_a_block_and_a_reason() {
        let document =
            Document::parse("<!-- not run: no Galera -->\n\n    SET GLOBAL a = 1;\n\n    SET b = 1;\n").unwrap();
        let reasons: Vec<_> = document.blocks.iter().map(|block| block.not_run.as_deref()).collect();
        assert_eq!(reasons, [Some("no Galera"), None]);
        assert!(Document::parse("<!-- not run: nothing -->\n").is_err());
    }

    #[test]
    fn a_continued_paragraph_is_no_code() {
        assert!(sql("- a list\n      SET x = 1;\n").is_empty());
        assert_eq!(sql("- a list\n\n      SET x = 1;\n").len(), 1);
    }

    #[test]
    fn steps_are_those_of_their_section() {
        let document = Document::parse(
            "# A\n**1. One**\n\n    SET a = 1;\n\n**2. Two**\n\n    SET b = 1;\n# B\n\n    SET c = 1;\n",
        )
        .unwrap();
        assert_eq!(document.step("A", 2)[0].statements[0].sql, "SET b = 1");
        assert_eq!((document.step("A", 0).len(), document.step("B", 0).len()), (0, 1));
    }
}
