//! The values of expressions.

use failover::Variable;
use sqlparser::ast::{
    self, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, SelectItem, SetExpr, UnaryOperator,
};

use super::statement::{Scope, not_supported, variable};
use super::{Session, variables};
use crate::packet::{MAX_PACKET, SqlError, Value};
use crate::shared::Shared;

/// The values of expressions. Together they must not exceed the `max_allowed_packet` of this server.
pub(super) fn values<'e>(
    expressions: impl IntoIterator<Item = &'e Expr>,
    session: &Session,
    shared: &Shared,
) -> Result<Vec<Value>, SqlError> {
    let mut left = MAX_PACKET;
    let values = expressions.into_iter().map(|expression| {
        let value = value(expression, session, shared)?;
        left = left.checked_sub(value.text().map_or(0, |text| text.len())).ok_or_else(too_long)?;
        Ok(value)
    });
    values.collect()
}

/// The value of an expression in this session.
pub(super) fn value(expression: &Expr, session: &Session, shared: &Shared) -> Result<Value, SqlError> {
    match expression {
        Expr::Value(literal) => literal_value(&literal.value),
        Expr::Nested(inner) => value(inner, session, shared),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match value(expr, session, shared)? {
            Value::Integer(number) => Ok(Value::Integer(number.checked_neg().ok_or_else(not_supported)?)),
            Value::Decimal(text) => Ok(Value::Decimal(format!("-{text}"))),
            _ => Err(not_supported()),
        },
        Expr::Identifier(name) if name.value.eq_ignore_ascii_case("CURRENT_USER") => Ok(user(session)),
        Expr::Identifier(name) if name.value.starts_with("@@") => {
            system_variable(std::slice::from_ref(&name.value), session, shared)
        }
        Expr::CompoundIdentifier(words) => {
            let words: Vec<_> = words.iter().map(|word| word.value.clone()).collect();
            if !words[0].starts_with("@@") {
                return Err(unknown_column(expression));
            }
            system_variable(&words, session, shared)
        }
        // In SET, a word is a string.
        Expr::Identifier(name) if !name.value.starts_with('@') => Err(unknown_column(&name.value)),
        Expr::Function(call) => function(call, session, shared),
        Expr::Subquery(query) => match &*query.body {
            SetExpr::Select(select) if select.from.is_empty() && select.selection.is_none() => {
                match &select.projection[..] {
                    [SelectItem::UnnamedExpr(inner) | SelectItem::ExprWithAlias { expr: inner, .. }] => {
                        value(inner, session, shared)
                    }
                    _ => Err(not_supported()),
                }
            }
            _ => Err(not_supported()),
        },
        _ => Err(not_supported()),
    }
}

/// The value for SET, where a bare word is a string.
pub(super) fn assigned(expression: &Expr, session: &Session, shared: &Shared) -> Result<Value, SqlError> {
    match expression {
        Expr::Identifier(word) if !word.value.starts_with('@') => Ok(Value::Text(word.value.clone())),
        other => value(other, session, shared),
    }
}

/// The value for one of the settings, which mariadbd takes only as a value of the variable's own type.
pub(super) fn setting(
    expression: &Expr,
    variable: Variable,
    session: &Session,
    shared: &Shared,
) -> Result<String, SqlError> {
    let wrong_type = || {
        let message = format!("Incorrect argument type to variable '{}'", variable.name());
        SqlError::new(1232, *b"42000", message)
    };
    match (variable, assigned(expression, session, shared)?) {
        (Variable::HoldTimeout | Variable::Drain, Value::Integer(number)) => Ok(number.to_string()),
        // An integer that is too large for a value here.
        (Variable::HoldTimeout | Variable::Drain, Value::Decimal(text)) if is_whole(&text) => Ok(text),
        (Variable::HoldTimeout, _) | (_, Value::Integer(_) | Value::Decimal(_)) => Err(wrong_type()),
        (_, Value::Text(text)) => Ok(text),
        (_, Value::Null) => {
            let message = format!("Variable '{}' can't be set to the value of 'NULL'", variable.name());
            Err(SqlError::new(1231, *b"42000", message))
        }
    }
}

fn is_whole(number: &str) -> bool {
    number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

fn literal_value(literal: &ast::Value) -> Result<Value, SqlError> {
    Ok(match literal {
        ast::Value::Null => Value::Null,
        ast::Value::Boolean(truth) => Value::Integer((*truth).into()),
        ast::Value::Number(digits, _) => digits.parse().map_or_else(|_| Value::Decimal(digits.clone()), Value::Integer),
        other => Value::Text(other.clone().into_string().ok_or_else(not_supported)?),
    })
}

fn system_variable(words: &[String], session: &Session, shared: &Shared) -> Result<Value, SqlError> {
    let (scope, name) = variable(words, Scope::Session).ok_or_else(not_supported)?;
    if scope == Scope::Session && words.len() > 1 && !variables::has_session_value(&name) {
        return Err(SqlError::new(1238, *b"HY000", format!("Variable '{name:.64}' is a GLOBAL variable")));
    }
    variables::value(scope, &name, session, shared)
}

fn function(call: &Function, session: &Session, shared: &Shared) -> Result<Value, SqlError> {
    let arguments = match &call.args {
        FunctionArguments::None => Vec::new(),
        FunctionArguments::List(list) => {
            let arguments = list.args.iter().map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) => Ok(argument),
                _ => Err(not_supported()),
            });
            values(arguments.collect::<Result<Vec<_>, _>>()?, session, shared)?
        }
        FunctionArguments::Subquery(_) => return Err(not_supported()),
    };
    match (call.name.to_string().to_ascii_uppercase().as_str(), &arguments[..]) {
        ("VERSION", []) => Ok(Value::Text(shared.configuration().version.shown().to_owned())),
        ("CONNECTION_ID", []) => Ok(Value::Integer(session.id.into())),
        ("USER" | "CURRENT_USER" | "SESSION_USER" | "SYSTEM_USER", []) => Ok(user(session)),
        ("DATABASE" | "SCHEMA", []) => Ok(session.database.clone().map_or(Value::Null, Value::Text)),
        ("CONCAT", [_, ..]) => {
            let texts: Option<Vec<String>> = arguments.iter().map(Value::text).collect();
            Ok(texts.map_or(Value::Null, |texts| Value::Text(texts.concat())))
        }
        _ => Err(not_supported()),
    }
}

fn user(session: &Session) -> Value {
    Value::Text(format!("{}@{}", session.user, session.host))
}

fn too_long() -> SqlError {
    SqlError::new(1301, *b"HY000", format!("The result is larger than max_allowed_packet ({MAX_PACKET})"))
}

fn unknown_column(name: impl std::fmt::Display) -> SqlError {
    let name: String = name.to_string().chars().take(64).collect();
    SqlError::new(1054, *b"42S22", format!("Unknown column '{name}' in 'field list'"))
}
