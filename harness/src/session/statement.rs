//! Statements. `sqlparser` parses the SQL; this module picks what this server can answer.

use sqlparser::ast::{
    self, BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, LimitClause,
    ObjectName, SelectItem, SetExpr, ShowStatementFilter, TableFactor, TableWithJoins, UnaryOperator, Use, Value,
};
use sqlparser::dialect::MySqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, Tokenizer};

use super::pattern::is_like;
use crate::packet::SqlError;

/// The maximum number of tokens in a statement, including blanks. It limits the depth of the syntax tree.
const MAX_TOKENS: usize = 1000;

/// The parser's recursion limit.
const MAX_DEPTH: usize = 16;

/// A statement that can be answered.
#[derive(Debug, PartialEq)]
pub(super) enum Statement {
    /// `SELECT` without a table: names and expressions, and whether to return the row.
    Select {
        columns: Vec<(String, Expr)>,
        rows: bool,
    },
    Show(Show),
    Set(Vec<Assignment>),
    Use(String),
    /// Transactions and comments: nothing to do.
    Nothing,
}

#[derive(Debug, PartialEq)]
pub(super) enum Show {
    Variables(Scope, Option<Filter>),
    Status(Option<Filter>),
    Warnings,
    WarningCount,
}

/// Which value of a variable is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Global,
    Session,
}

/// One part of `SET`.
#[derive(Debug, PartialEq)]
pub(super) struct Assignment {
    pub(super) scope: Scope,
    pub(super) name: String,
    /// None for `DEFAULT`.
    pub(super) value: Option<Expr>,
}

/// Which variables to show.
#[derive(Debug, PartialEq)]
pub(super) enum Filter {
    Like(String),
    Is(String),
    Any(Vec<Self>),
}

impl Filter {
    pub(super) fn matches(&self, name: &str) -> bool {
        match self {
            Self::Like(pattern) => is_like(name, pattern),
            Self::Is(other) => name.eq_ignore_ascii_case(other),
            Self::Any(filters) => filters.iter().any(|filter| filter.matches(name)),
        }
    }
}

/// Reads one statement.
pub(super) fn parse(sql: &str) -> Result<Statement, SqlError> {
    let mut tokenizer = Tokenizer::new(&MySqlDialect {}, sql).with_unescape(false);
    let mut tokens = tokenizer.tokenize_with_location().map_err(|error| syntax(error.into()))?;
    if tokens.len() > MAX_TOKENS {
        let message =
            format!("{WHAT_THIS_IS}. Statements can have at most {MAX_TOKENS} words, this one has {}", tokens.len());
        return Err(SqlError::new(1235, *b"42000", message));
    }
    for token in &mut tokens {
        match &mut token.token {
            Token::SingleQuotedString(text) => *text = unescaped(text, '\''),
            Token::DoubleQuotedString(text) => *text = unescaped(text, '"'),
            _ => {}
        }
    }
    let mut parser = Parser::new(&MySqlDialect {}).with_recursion_limit(MAX_DEPTH).with_tokens_with_locations(tokens);
    if parser.parse_keyword(Keyword::SET) {
        let statement = set(&mut parser)?;
        let _ = parser.consume_token(&Token::SemiColon);
        return parser.expect_token(&Token::EOF).map(|_| statement).map_err(syntax);
    }
    let mut statements = parser.parse_statements().map_err(syntax)?;
    match (statements.pop(), statements.is_empty()) {
        (None, _) => Err(SqlError::new(1065, *b"42000", "Query was empty")),
        (Some(statement), true) => known(statement),
        (Some(_), false) => {
            Err(SqlError::new(1235, *b"42000", format!("{WHAT_THIS_IS}. Send one statement at a time")))
        }
    }
}

/// The value of a string literal with these quotes. `sqlparser` supports some escapes that MariaDB does not have.
/// See <https://mariadb.com/kb/en/string-literals/>.
fn unescaped(literal: &str, quote: char) -> String {
    let mut characters = literal.chars().peekable();
    let mut text = String::new();
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            ('\\', Some(_)) => match characters.next() {
                Some('0') => text.push('\0'),
                Some('b') => text.push('\u{8}'),
                Some('n') => text.push('\n'),
                Some('r') => text.push('\r'),
                Some('t') => text.push('\t'),
                Some('Z') => text.push('\u{1a}'),
                // Left for LIKE.
                Some(wildcard @ ('%' | '_')) => text.extend(['\\', wildcard]),
                other => text.extend(other),
            },
            (doubled, Some(next)) if doubled == quote && *next == quote => text.extend(characters.next()),
            _ => text.push(character),
        }
    }
    text
}

/// Every error about a statement begins with this.
const WHAT_THIS_IS: &str = "This is instant-failover-harness, which redirects clients and has no data. It supports SELECT of \
                            literals, @@variables, VERSION(), CONNECTION_ID(), USER() and DATABASE(), SHOW VARIABLES, SHOW \
                            STATUS and SET";

/// The error for statements that are not supported.
pub(super) fn not_supported() -> SqlError {
    SqlError::new(1235, *b"42000", WHAT_THIS_IS)
}

/// The error for prepared statements.
pub(super) fn not_prepared() -> SqlError {
    SqlError::new(1295, *b"HY000", format!("{WHAT_THIS_IS}. It does not support prepared statements"))
}

/// The error for text that cannot be parsed.
#[expect(clippy::needless_pass_by_value, reason = "goes to map_err")]
fn syntax(error: ParserError) -> SqlError {
    let why = match &error {
        ParserError::TokenizerError(why) | ParserError::ParserError(why) => why.as_str(),
        ParserError::RecursionLimitExceeded => "too deeply nested",
    };
    let why: String = why.chars().take(200).collect();
    SqlError::new(
        1064,
        *b"42000",
        // The statement may be valid in MariaDB.
        format!("{WHAT_THIS_IS}. It cannot parse this statement: {why}"),
    )
}

fn known(statement: ast::Statement) -> Result<Statement, SqlError> {
    match statement {
        ast::Statement::Query(query) => select(*query),
        ast::Statement::ShowVariables { filter, global, .. } => {
            let scope = if global { Scope::Global } else { Scope::Session };
            Ok(Statement::Show(Show::Variables(scope, filter.map(show_filter).transpose()?)))
        }
        ast::Statement::ShowStatus { filter, .. } => {
            Ok(Statement::Show(Show::Status(filter.map(show_filter).transpose()?)))
        }
        ast::Statement::ShowVariable { variable } => {
            let words: Vec<_> = variable.iter().map(|word| word.value.to_ascii_uppercase()).collect();
            match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["WARNINGS"] => Ok(Statement::Show(Show::Warnings)),
                ["COUNT", "WARNINGS"] => Ok(Statement::Show(Show::WarningCount)),
                _ => Err(not_supported()),
            }
        }
        ast::Statement::Use(Use::Object(name)) => Ok(Statement::Use(last_word(&name)?)),
        ast::Statement::Commit { .. } | ast::Statement::Rollback { .. } | ast::Statement::StartTransaction { .. } => {
            Ok(Statement::Nothing)
        }
        _ => Err(not_supported()),
    }
}

fn select(query: ast::Query) -> Result<Statement, SqlError> {
    let SetExpr::Select(select) = *query.body else { return Err(not_supported()) };
    let from_table = !select.from.iter().all(is_dual);
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty());
    let more = select.into.is_some() || select.selection.is_some() || select.having.is_some() || query.with.is_some();
    if from_table || grouped || more {
        return Err(not_supported());
    }
    let columns = select.projection.into_iter().map(|item| match item {
        SelectItem::UnnamedExpr(expression) if is_known(&expression) => Ok((column_name(&expression), expression)),
        SelectItem::ExprWithAlias { expr, alias } if is_known(&expr) => Ok((alias.value, expr)),
        _ => Err(not_supported()),
    });
    let none =
        |limit: &Expr| matches!(limit, Expr::Value(value) if matches!(&value.value, Value::Number(n, _) if n == "0"));
    let rows = !matches!(&query.limit_clause, Some(LimitClause::LimitOffset { limit: Some(limit), .. }) if none(limit));
    Ok(Statement::Select { columns: columns.collect::<Result<_, _>>()?, rows })
}

fn is_dual(table: &TableWithJoins) -> bool {
    match &table.relation {
        TableFactor::Table { name, .. } => {
            table.joins.is_empty() && last_word(name).is_ok_and(|name| name.eq_ignore_ascii_case("dual"))
        }
        _ => false,
    }
}

/// Whether this kind of expression is supported. These are no deeper than [`MAX_DEPTH`], while a sum, for example, is as deep
/// as it is long, and can be too deep to be printed as the name of its column.
fn is_known(expression: &Expr) -> bool {
    match expression {
        Expr::Value(_) | Expr::Identifier(_) | Expr::CompoundIdentifier(_) => true,
        Expr::Nested(inner) | Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => is_known(inner),
        Expr::Function(call) => match &call.args {
            FunctionArguments::List(list) => list.args.iter().all(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) => is_known(argument),
                _ => false,
            }),
            _ => false,
        },
        _ => false,
    }
}

/// The name of a column without an alias: the text of its expression, or the contents of a string.
fn column_name(expression: &Expr) -> String {
    match expression {
        Expr::Nested(inner) => column_name(inner),
        Expr::Value(value) if matches!(value.value, Value::Boolean(_)) => value.to_string().to_uppercase(),
        Expr::Value(value) => value.value.clone().into_string().unwrap_or_else(|| value.to_string()),
        other => other.to_string(),
    }
}

fn show_filter(filter: ShowStatementFilter) -> Result<Filter, SqlError> {
    match filter {
        ShowStatementFilter::Like(pattern) => Ok(Filter::Like(pattern)),
        ShowStatementFilter::Where(condition) => condition_filter(condition),
        _ => Err(not_supported()),
    }
}

/// Conditions on `Variable_name`, joined with OR.
fn condition_filter(condition: Expr) -> Result<Filter, SqlError> {
    let is_name = |expression: &Expr| matches!(expression, Expr::Identifier(name) if name.value.eq_ignore_ascii_case("variable_name"));
    let text = |expression: Expr| match expression {
        Expr::Value(value) => value.value.into_string().ok_or_else(not_supported),
        _ => Err(not_supported()),
    };
    match condition {
        Expr::Nested(inner) => condition_filter(*inner),
        Expr::BinaryOp { left, op: BinaryOperator::Or, right } => {
            Ok(Filter::Any(vec![condition_filter(*left)?, condition_filter(*right)?]))
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } if is_name(&left) => Ok(Filter::Is(text(*right)?)),
        Expr::Like { negated: false, expr, pattern, .. } if is_name(&expr) => Ok(Filter::Like(text(*pattern)?)),
        Expr::InList { expr, list, negated: false } if is_name(&expr) => {
            Ok(Filter::Any(list.into_iter().map(|one| text(one).map(Filter::Is)).collect::<Result<_, _>>()?))
        }
        _ => Err(not_supported()),
    }
}

fn last_word(name: &ObjectName) -> Result<String, SqlError> {
    name.0.last().and_then(|part| part.as_ident()).map(|word| word.value.clone()).ok_or_else(not_supported)
}

/// Parses what follows `SET`. `sqlparser` does not accept everything that MariaDB does, so only parts of it are used.
fn set(parser: &mut Parser<'_>) -> Result<Statement, SqlError> {
    let mut scope = Scope::Session;
    let mut assignments = Vec::new();
    loop {
        // In MariaDB, GLOBAL or SESSION also applies to the assignments after it.
        if parser.parse_keyword(Keyword::GLOBAL) {
            scope = Scope::Global;
        } else if parser.parse_one_of_keywords(&[Keyword::SESSION, Keyword::LOCAL]).is_some() {
            scope = Scope::Session;
        }
        if parser.parse_keyword(Keyword::TRANSACTION) {
            // The isolation level and access mode do not matter without data.
            parser.parse_transaction_modes().map_err(syntax)?;
        } else if parser.parse_keyword(Keyword::PASSWORD) {
            return Err(not_supported());
        } else if parser.parse_keyword(Keyword::NAMES) {
            assignments.extend(names(parser)?);
        } else if parser.parse_keywords(&[Keyword::CHARACTER, Keyword::SET]) || parser.parse_keyword(Keyword::CHARSET) {
            assignments.extend(character_set(parser)?);
        } else {
            assignments.push(assignment(parser, scope)?);
        }
        if !parser.consume_token(&Token::Comma) {
            return Ok(Statement::Set(assignments));
        }
    }
}

fn assignment(parser: &mut Parser<'_>, scope: Scope) -> Result<Assignment, SqlError> {
    let name = parser.parse_object_name(false).map_err(syntax)?;
    let words: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(|word| word.value.clone()).collect();
    let (scope, name) = variable(&words, scope).ok_or_else(not_supported)?;
    if !parser.consume_token(&Token::Assignment) {
        parser.expect_token(&Token::Eq).map_err(syntax)?;
    }
    if parser.parse_keyword(Keyword::DEFAULT) {
        return Ok(Assignment { scope, name, value: None });
    }
    // To the parser ON and BINARY are not expressions, but they are values here.
    let value = match parser.parse_one_of_keywords(&[Keyword::ON, Keyword::ALL, Keyword::BINARY]) {
        Some(keyword) => Expr::Identifier(Ident::new(format!("{keyword:?}"))),
        None => parser.parse_expr().map_err(syntax)?,
    };
    Ok(Assignment { scope, name, value: Some(value) })
}

/// Scope and name of a variable: `name`, `@@name` or `@@global.name`. User variables (`@name`) are not supported.
pub(super) fn variable(words: &[String], scope: Scope) -> Option<(Scope, String)> {
    match words {
        [name] if !name.starts_with('@') => Some((scope, name.clone())),
        [name] => Some((Scope::Session, name.strip_prefix("@@")?.to_owned())),
        [scope, name] => match scope.to_ascii_lowercase().as_str() {
            "@@global" => Some((Scope::Global, name.clone())),
            "@@session" | "@@local" => Some((Scope::Session, name.clone())),
            _ => None,
        },
        _ => None,
    }
}

fn names(parser: &mut Parser<'_>) -> Result<Vec<Assignment>, SqlError> {
    let mut assignments = character_set(parser)?;
    if parser.parse_keyword(Keyword::COLLATE) {
        let collation = parser.parse_identifier().map_err(syntax)?;
        assignments.push(session_value("collation_connection", collation));
    }
    Ok(assignments)
}

fn character_set(parser: &mut Parser<'_>) -> Result<Vec<Assignment>, SqlError> {
    const VARIABLES: [&str; 3] = ["character_set_client", "character_set_connection", "character_set_results"];
    if parser.parse_keyword(Keyword::DEFAULT) {
        let default = |name: &str| Assignment { scope: Scope::Session, name: name.to_owned(), value: None };
        return Ok(VARIABLES.map(default).into());
    }
    let name = if parser.parse_keyword(Keyword::BINARY) {
        Ident::new("binary")
    } else {
        parser.parse_identifier().map_err(syntax)?
    };
    Ok(VARIABLES.map(|variable| session_value(variable, name.clone())).into())
}

fn session_value(name: &str, value: Ident) -> Assignment {
    let value = Expr::Identifier(Ident::new(value.value));
    Assignment { scope: Scope::Session, name: name.to_owned(), value: Some(value) }
}

#[cfg(test)]
mod tests {
    use super::{Filter, MAX_DEPTH, MAX_TOKENS, Scope, Show, Statement, parse};

    fn error(sql: &str) -> (u16, String) {
        let error = parse(sql).map_err(|error| (error.code, error.message));
        error.expect_err(sql)
    }

    fn set(sql: &str) -> Vec<(Scope, String, Option<String>)> {
        let Ok(Statement::Set(assignments)) = parse(sql) else { panic!("{sql}: {:?}", parse(sql)) };
        assignments.into_iter().map(|one| (one.scope, one.name, one.value.map(|value| value.to_string()))).collect()
    }

    #[test]
    fn columns_are_called_what_was_asked_for() {
        let sql = "SELECT @@Version, User(), ('a'), \"b\" 'c', True, null, (-1), CONCAT(1, 'x') AS `d e`";
        let Ok(Statement::Select { columns, .. }) = parse(sql) else { panic!("{:?}", parse(sql)) };
        let names: Vec<_> = columns.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["@@Version", "User()", "a", "bc", "TRUE", "NULL", "-1", "d e"]);
    }

    #[test]
    fn set_in_all_its_forms() {
        use Scope::{Global, Session};
        type Expected<'a> = &'a [(Scope, &'a str, Option<&'a str>)];
        for (sql, expected) in [
            ("SET autocommit=0", &[(Session, "autocommit", Some("0"))] as Expected<'_>),
            ("SET GLOBAL a='x', b=ON", &[(Global, "a", Some("'x'")), (Global, "b", Some("ON"))]),
            ("set global a=off, session b=1;", &[(Global, "a", Some("off")), (Session, "b", Some("1"))]),
            ("SET @@global.a = DEFAULT", &[(Global, "a", None)]),
            ("SET @@session.a := -1", &[(Session, "a", Some("-1"))]),
            ("SET @@a = NULL", &[(Session, "a", Some("NULL"))]),
            ("SET GLOBAL a=ALL", &[(Global, "a", Some("ALL"))]),
            ("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", &[]),
            (
                "SET NAMES 'latin1' COLLATE latin1_bin",
                &[
                    (Session, "character_set_client", Some("latin1")),
                    (Session, "character_set_connection", Some("latin1")),
                    (Session, "character_set_results", Some("latin1")),
                    (Session, "collation_connection", Some("latin1_bin")),
                ],
            ),
            (
                "SET a=(SELECT CONCAT(@@a, ',B')), time_zone='+00:00'",
                &[(Session, "a", Some("(SELECT CONCAT(@@a, ',B'))")), (Session, "time_zone", Some("'+00:00'"))],
            ),
        ] {
            let expected: Vec<_> = expected
                .iter()
                .map(|(scope, name, value)| (*scope, (*name).to_owned(), value.map(str::to_owned)))
                .collect();
            assert_eq!(set(sql), expected, "{sql}");
        }
        assert_eq!(set("SET a=1, NAMES utf8mb4 COLLATE utf8mb4_unicode_ci").len(), 5);
        assert_eq!(set("SET CHARACTER SET utf8").len(), 3);
    }

    #[test]
    fn show_with_filters() {
        let Ok(Statement::Show(Show::Status(Some(filter)))) = parse("SHOW GLOBAL STATUS LIKE 'inst%'") else {
            panic!()
        };
        assert_eq!(filter, Filter::Like("inst%".to_owned()));
        let sql = "SHOW VARIABLES WHERE Variable_name = 'a' OR Variable_name IN ('b', 'c') OR variable_name LIKE 'd%'";
        let Ok(Statement::Show(Show::Variables(Scope::Session, Some(filter)))) = parse(sql) else { panic!() };
        assert_eq!(["a", "b", "c", "dx", "e"].map(|name| filter.matches(name)), [true, true, true, true, false]);
        assert_eq!(parse("show warnings"), Ok(Statement::Show(Show::Warnings)));
        assert_eq!(parse("SHOW COUNT(*) WARNINGS"), Ok(Statement::Show(Show::WarningCount)));
    }

    #[test]
    fn strings_are_those_of_mariadb() {
        for (literal, text) in [
            (r"'it''s \'here\''", "it's 'here'"),
            (r#""a ""b"" \"c\" 'd'""#, "a \"b\" \"c\" 'd'"),
            (r"'\a\b\0\n\r\t\Z\\\%\_\x'", "a\u{8}\0\n\r\t\u{1a}\\\\%\\_x"),
            ("'a' 'b'", "ab"),
        ] {
            let Ok(Statement::Select { columns, .. }) = parse(&format!("SELECT {literal}")) else {
                panic!("{literal}")
            };
            assert_eq!(columns[0].0, text, "{literal}");
        }
    }

    #[test]
    fn what_has_nothing_to_do_is_taken() {
        for sql in ["COMMIT", "rollback", "BEGIN", "START TRANSACTION READ ONLY"] {
            assert_eq!(parse(sql), Ok(Statement::Nothing), "{sql}");
        }
        assert_eq!(parse("USE `a b`"), Ok(Statement::Use("a b".to_owned())));
    }

    #[test]
    fn everything_else_is_refused_with_what_this_is() {
        for sql in [
            "SELECT * FROM t",
            "SELECT 1 WHERE 1",
            "INSERT INTO t VALUES (1)",
            "DROP TABLE t",
            "SHOW TABLES",
            "SHOW ENGINES",
            "SELECT 1; SELECT 2",
            "SET @user_variable = 1",
            "SET PASSWORD = PASSWORD('x')",
            "SHUTDOWN",
            "CREATE USER x",
            "SELECT 1 INTO OUTFILE 'x'",
            "SELECT 1 UNION SELECT 2",
        ] {
            let (code, message) = error(sql);
            assert!(matches!(code, 1235 | 1064), "{sql}: {code}");
            assert!(message.contains("This is instant-failover-harness"), "{sql}: {message}");
            assert!(message.len() <= 511, "{} {message}", message.len());
        }
        assert_eq!(error("garbage").0, 1064);
        assert_eq!(error(&"x ".repeat(30_000)).0, 1235);
        assert_eq!(error("").0, 1065);
        assert_eq!(error("-- comment").0, 1065);
    }

    #[test]
    fn depth_is_bounded() {
        for (open, close) in
            [("(", ")"), ("1+", ""), ("-", ""), ("NOT ", ""), ("(SELECT ", ")"), ("f(", ")"), ("1 IN (", ")")]
        {
            for times in [3, MAX_DEPTH, MAX_TOKENS / 4, MAX_TOKENS, 8 * MAX_TOKENS] {
                let sql = format!("SELECT {}1{}", open.repeat(times), close.repeat(times));
                // The others are not supported, or are too deep.
                let taken = times == 3 && matches!(open, "(" | "-" | "f(");
                assert_eq!(parse(&sql).is_ok(), taken, "{times} times {open}");
                let _ = parse(&format!("SET sql_mode = {}", &sql[7..]));
            }
        }
    }
}
