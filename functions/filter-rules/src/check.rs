//! The types of an expression: whether it is true or false for every alert, and if not, where it goes wrong.
//!
//! The language is a part of CEL: texts, whole numbers, truth values and lists of them, without floating point, dates and
//! regular expressions. The `cel` crate parses and evaluates; it does not check types, so this does.

use std::collections::BTreeSet;
use std::fmt;

use cel::common::ast::{
    CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, SelectExpr, SourceInfo, operators,
};
use shared_filter::PRIORITIES;

use crate::view::NAMES;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Type {
    Bool,
    Int,
    Text,
    Bools,
    Ints,
    Texts,
    /// `[]`
    Empty,
    Alert,
    Fields,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "true or false",
            Self::Int => "a whole number",
            Self::Text => "text",
            Self::Bools | Self::Ints | Self::Texts | Self::Empty => "a list",
            Self::Alert => "the alert itself",
            Self::Fields => "all fields",
        })
    }
}

impl Type {
    fn list_of(self) -> Option<Self> {
        match self {
            Self::Bool => Some(Self::Bools),
            Self::Int => Some(Self::Ints),
            Self::Text => Some(Self::Texts),
            _ => None,
        }
    }

    fn item(self) -> Option<Self> {
        match self {
            Self::Bools => Some(Self::Bool),
            Self::Ints => Some(Self::Int),
            Self::Texts => Some(Self::Text),
            _ => None,
        }
    }

    fn is_list(self) -> bool {
        self == Self::Empty || self.item().is_some()
    }

    /// What both are; the empty list is any list.
    fn and(self, other: Self) -> Option<Self> {
        match (self, other) {
            (a, b) if a == b => Some(a),
            (Self::Empty, b) if b.is_list() => Some(b),
            (a, Self::Empty) if a.is_list() => Some(a),
            _ => None,
        }
    }
}

/// Refuses an expression that is not true or false; the text begins with `:LINE:COLUMN: `.
pub(crate) fn condition(expression: &IdedExpr, places: &SourceInfo, text: &str) -> Result<(), String> {
    let mut checker = Checker { places, at: 0, depth: 0, names: vec![("alert".into(), Type::Alert)] };
    checker.names.extend(PRIORITIES.iter().map(|(w, _)| (w.to_ascii_uppercase(), Type::Int)));
    checker.must(expression, Type::Bool).map_err(|what| {
        let before: Vec<char> = text.chars().take(checker.at).collect();
        let line = before.iter().filter(|c| **c == '\n').count() + 1;
        let column = before.iter().rev().take_while(|c| **c != '\n').count() + 1;
        format!(":{line}:{column}: {what}")
    })
}

/// The names in `alert.fields["NAME"]`. Each child is visited, and the depth is the parser's limit.
pub(crate) fn fields_asked(expression: &IdedExpr) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = vec![expression];
    while let Some(IdedExpr { expr, .. }) = rest.pop() {
        match expr {
            Expr::Call(call) => {
                if let Some(Expr::Literal(LiteralValue::String(name))) = call.args.get(1).map(|a| &a.expr)
                    && call.func_name == operators::INDEX
                {
                    found.insert(name.inner().to_owned());
                }
                rest.extend(call.args.iter().chain(call.target.as_deref()));
            }
            Expr::Comprehension(c) => {
                rest.extend([&c.iter_range, &c.accu_init, &c.loop_cond, &c.loop_step, &c.result]);
            }
            Expr::List(list) => rest.extend(&list.elements),
            Expr::Select(select) => rest.push(&select.operand),
            _ => {}
        }
    }
    found
}

struct Checker<'a> {
    places: &'a SourceInfo,
    /// Where the expression that is looked at begins, in characters; what a macro made has no place of its own.
    at: usize,
    depth: usize,
    names: Vec<(String, Type)>,
}

type Checked = Result<Type, String>;

/// Operations in one another: evaluation calls itself for each.
const MAX_DEPTH: usize = 64;

impl Checker<'_> {
    fn must(&mut self, expression: &IdedExpr, wanted: Type) -> Result<(), String> {
        let found = self.infer(expression)?;
        self.go_to(expression);
        match found.and(wanted) {
            Some(_) => Ok(()),
            None => Err(format!("this is {found}, and not {wanted}")),
        }
    }

    fn go_to(&mut self, expression: &IdedExpr) {
        if let Some((start, _)) = self.places.offset_for(expression.id) {
            self.at = start as usize;
        }
    }

    fn infer(&mut self, expression: &IdedExpr) -> Checked {
        self.go_to(expression);
        if self.depth == MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} operations in one another"));
        }
        self.depth += 1;
        let found = self.of(expression);
        self.depth -= 1;
        found
    }

    fn of(&mut self, expression: &IdedExpr) -> Checked {
        match &expression.expr {
            Expr::Literal(LiteralValue::Boolean(_)) => Ok(Type::Bool),
            Expr::Literal(LiteralValue::Int(_)) => Ok(Type::Int),
            Expr::Literal(LiteralValue::String(_)) => Ok(Type::Text),
            Expr::Ident(name) => {
                let known = self.names.iter().rev().find(|(n, _)| n == name).map(|(_, t)| *t);
                known.ok_or_else(|| format!("nothing is called {name}: an expression is about `alert`"))
            }
            Expr::Select(select) => self.select(select, expression),
            Expr::Call(call) => self.call(call, expression),
            Expr::List(list) => list.elements.iter().try_fold(Type::Empty, |all, item| {
                let one = self.infer(item)?.list_of().and_then(|one| all.and(one));
                self.go_to(item);
                one.ok_or_else(|| {
                    "a list holds one kind of value: texts, whole numbers or truth values".into()
                })
            }),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Literal(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {
                Err("this kind of value is not used in rules".into())
            }
        }
    }

    fn select(&mut self, select: &SelectExpr, whole: &IdedExpr) -> Checked {
        let operand = self.infer(&select.operand)?;
        self.go_to(whole);
        let name = &select.field;
        match NAMES.iter().find(|(n, _)| n == name) {
            Some((_, found)) if operand == Type::Alert => Ok(if select.test { Type::Bool } else { *found }),
            None if operand == Type::Alert => {
                let names: Vec<_> = NAMES.iter().map(|(n, _)| *n).collect();
                Err(format!("alert has no {name}: it has {}", names.join(", ")))
            }
            _ if operand == Type::Fields => Err(format!("write alert.fields[\"{name}\"]")),
            _ => Err(format!("{operand} has no part {name}")),
        }
    }

    fn call(&mut self, call: &CallExpr, whole: &IdedExpr) -> Checked {
        let operands: Vec<&IdedExpr> = call.target.as_deref().into_iter().chain(&call.args).collect();
        match (call.func_name.as_str(), operands.as_slice()) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR, all) => {
                all.iter().try_for_each(|o| self.must(o, Type::Bool)).map(|()| Type::Bool)
            }
            (operators::LOGICAL_NOT | operators::NOT_STRICTLY_FALSE, [one]) => {
                self.must(one, Type::Bool).map(|()| Type::Bool)
            }
            (operators::NEGATE, [one]) => self.must(one, Type::Int).map(|()| Type::Int),
            (operators::EQUALS | operators::NOT_EQUALS, [left, right]) => self.compare(left, right, whole),
            (
                operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS,
                [l, r],
            ) => {
                let side = self.infer(l)?;
                if !matches!(side, Type::Int | Type::Text) {
                    return Err(format!("{side} is neither more nor less than something"));
                }
                self.compare(l, r, whole)
            }
            (operators::ADD, [left, right]) => self.add(left, right, whole),
            (operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO, [l, r]) => {
                self.must(l, Type::Int)?;
                self.must(r, Type::Int).map(|()| Type::Int)
            }
            (operators::CONDITIONAL, [condition, then, other]) => {
                self.must(condition, Type::Bool)?;
                let (then, other) = (self.infer(then)?, self.infer(other)?);
                then.and(other).ok_or_else(|| format!("this is {other}, and the other case {then}"))
            }
            (operators::IN, [item, list]) => self.is_in(item, list, whole),
            (operators::INDEX, [of, place]) => self.index(of, place, whole),
            ("size", [one]) => match self.infer(one)? {
                Type::Text => Ok(Type::Int),
                list if list.is_list() => Ok(Type::Int),
                other => Err(format!("{other} has no size")),
            },
            ("contains" | "startsWith" | "endsWith", [text, part]) if call.target.is_some() => {
                self.must(text, Type::Text)?;
                self.must(part, Type::Text).map(|()| Type::Bool)
            }
            ("string", [one]) => self.must(one, Type::Int).map(|()| Type::Text),
            (name, _) => {
                self.go_to(whole);
                Err(format!(
                    "{name} is no function here, or not with these arguments: there are contains, startsWith, endsWith, \
                     size, string, and exists, all, exists_one, filter, map of a list"
                ))
            }
        }
    }

    fn compare(&mut self, left: &IdedExpr, right: &IdedExpr, whole: &IdedExpr) -> Checked {
        let (left, right) = (self.infer(left)?, self.infer(right)?);
        self.go_to(whole);
        match left.and(right) {
            Some(Type::Alert | Type::Fields) => Err(format!("compare a part of the alert, not {left}")),
            Some(_) => Ok(Type::Bool),
            None => Err(format!("{left} is compared with {right}")),
        }
    }

    fn add(&mut self, left: &IdedExpr, right: &IdedExpr, whole: &IdedExpr) -> Checked {
        let (left, right) = (self.infer(left)?, self.infer(right)?);
        self.go_to(whole);
        match left.and(right) {
            Some(sum) if matches!(sum, Type::Int | Type::Text) || sum.is_list() => Ok(sum),
            _ => Err(format!("{right} cannot be added to {left}")),
        }
    }

    fn is_in(&mut self, item: &IdedExpr, list: &IdedExpr, whole: &IdedExpr) -> Checked {
        let (item, list) = (self.infer(item)?, self.infer(list)?);
        self.go_to(whole);
        match item.list_of().and_then(|wanted| wanted.and(list)) {
            Some(_) => Ok(Type::Bool),
            None => {
                Err(format!("`in` looks in a list for what such a list holds, and not for {item} in {list}"))
            }
        }
    }

    fn index(&mut self, of: &IdedExpr, place: &IdedExpr, whole: &IdedExpr) -> Checked {
        match self.infer(of)? {
            Type::Fields if matches!(place.expr, Expr::Literal(LiteralValue::String(_))) => Ok(Type::Text),
            Type::Fields => {
                self.go_to(whole);
                Err("a field's name is written as a text: alert.fields[\"fd.name\"]".into())
            }
            list => {
                self.must(place, Type::Int)?;
                list.item().ok_or_else(|| format!("{list} has no items"))
            }
        }
    }

    /// `list.exists(x, …)` and its like: the parser makes a loop of them, whose result is what it gathers.
    fn comprehension(&mut self, c: &ComprehensionExpr) -> Checked {
        let range = self.infer(&c.iter_range)?;
        let Some(item) = range.item() else {
            return Err(format!("{range} has no items to go through"));
        };
        if c.iter_var2.is_some() {
            return Err("give one name for the item of the list".into());
        }
        let begin = self.infer(&c.accu_init)?;
        let known = self.names.len();
        self.names.push((c.iter_var.clone(), item));
        self.names.push((c.accu_var.clone(), begin));
        self.must(&c.loop_cond, Type::Bool)?;
        let gathered = self.infer(&c.loop_step)?;
        let gathered = begin.and(gathered).ok_or_else(|| format!("this is {gathered}, and not {begin}"))?;
        self.names.truncate(known);
        self.names.push((c.accu_var.clone(), gathered));
        let result = self.infer(&c.result);
        self.names.truncate(known);
        result
    }
}
