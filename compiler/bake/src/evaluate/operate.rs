//! Operators.

use bigdecimal::Zero;
use hcl_edit::expr::{BinaryOp, BinaryOperator, Expression as Hcl, UnaryOp, UnaryOperator};
use rb_diag::{Diagnostic, Span};

use super::{Place, unfit};
use crate::functions::divide;
use crate::value::{Kind, Number, Value, bounded, convert};

impl Place<'_> {
    pub(super) fn unary(self, operation: &UnaryOp) -> Result<Value, Diagnostic> {
        match operation.operator.value() {
            UnaryOperator::Neg => Ok(Value::Number(-self.operand(&operation.expr)?)),
            UnaryOperator::Not => Ok(Value::Bool(!self.condition(&operation.expr, "what `!` turns round")?)),
        }
    }

    pub(super) fn binary(self, operation: &BinaryOp, span: Span) -> Result<Value, Diagnostic> {
        let (left, right) = (&operation.lhs_expr, &operation.rhs_expr);
        let numbers = || Ok::<_, Diagnostic>((self.operand(left)?, self.operand(right)?));
        let bounded = |number: Number| {
            bounded(number).map(Value::Number).ok_or_else(|| unfit("this number has too many digits", span))
        };
        match operation.operator.value() {
            BinaryOperator::Eq => Ok(Value::Bool(self.value(left)?.equals(&self.value(right)?))),
            BinaryOperator::NotEq => Ok(Value::Bool(!self.value(left)?.equals(&self.value(right)?))),
            BinaryOperator::And => Ok(Value::Bool(
                self.condition(left, "what stands beside `&&`")?
                    && self.condition(right, "what stands beside `&&`")?,
            )),
            BinaryOperator::Or => Ok(Value::Bool(
                self.condition(left, "what stands beside `||`")?
                    || self.condition(right, "what stands beside `||`")?,
            )),
            BinaryOperator::Less => numbers().map(|(left, right)| Value::Bool(left < right)),
            BinaryOperator::LessEq => numbers().map(|(left, right)| Value::Bool(left <= right)),
            BinaryOperator::Greater => numbers().map(|(left, right)| Value::Bool(left > right)),
            BinaryOperator::GreaterEq => numbers().map(|(left, right)| Value::Bool(left >= right)),
            BinaryOperator::Plus => numbers().and_then(|(left, right)| bounded(left + right)),
            BinaryOperator::Minus => numbers().and_then(|(left, right)| bounded(left - right)),
            BinaryOperator::Mul => numbers().and_then(|(left, right)| bounded(left * right)),
            BinaryOperator::Div => {
                let (left, right) = numbers()?;
                divide(&left, &right).map(Value::Number).map_err(|why| unfit(why, span))
            }
            BinaryOperator::Mod => {
                let (left, right) = numbers()?;
                if right.is_zero() {
                    return Err(unfit("nothing can be divided by zero", span));
                }
                Ok(Value::Number(left % right))
            }
        }
    }

    /// Evaluates what has to be a number.
    fn operand(self, expression: &Hcl) -> Result<Number, Diagnostic> {
        let span = self.at.span(expression);
        match convert(self.value(expression)?, &Kind::Number) {
            Ok(Value::Number(number)) => Ok(number),
            Ok(_) => Err(unfit("this must not be null", span)),
            Err(why) => Err(unfit(format!("a number is wanted here: {why}"), span)),
        }
    }
}
