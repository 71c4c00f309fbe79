//! The tree of an expression.

use std::ops::Range;

use crate::functions::Function;
use crate::limits::MAX_DEPTH;
use crate::{ExpressionError, ExpressionErrorKind};

/// A part of the expression that has a value.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// Where it stands, brackets around it included.
    pub(crate) range: Range<usize>,
    /// How many nodes stand above one another in it; at most `MAX_DEPTH`, so walking it may recurse.
    depth: usize,
}

/// What a node is. Rows of operators are one node, so that long ones are not deep.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Text(String),
    /// Without its sign, so that the smallest number can be written.
    Number(u64),
    Bool(bool),
    List(Vec<Node>),
    /// Its name, and where that stands.
    Variable(String, Range<usize>),
    /// `list[index]`
    Index(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    /// `a + b - c`: from left to right, all operators as binding as each other.
    Row(Box<Node>, Vec<(Operator, Node)>),
    Compare(Comparison, Box<Node>, Box<Node>),
    /// `a and b and c`
    All(Vec<Node>),
    /// `a or b or c`
    Any(Vec<Node>),
    /// `value if condition else value if condition else otherwise`
    If {
        arms: Vec<Arm>,
        otherwise: Box<Node>,
    },
    /// `default(value, fallback)`
    Default(Box<Node>, Box<Node>),
    Call(&'static Function, Vec<Node>),
}

/// `value if condition`
#[derive(Debug, Clone)]
pub(crate) struct Arm {
    pub(crate) value: Node,
    pub(crate) condition: Node,
}

/// An operator that computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Join,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Operator {
    /// Returns how it is written.
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Self::Join => "~",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }

    /// Returns how tightly it binds.
    pub(crate) fn level(self) -> u8 {
        match self {
            Self::Join => 0,
            Self::Add | Self::Subtract => 1,
            Self::Multiply | Self::Divide | Self::Remainder => 2,
        }
    }
}

/// An operator that compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
    In,
    NotIn,
}

impl Comparison {
    /// Returns how it is written.
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
            Self::In => "in",
            Self::NotIn => "not in",
        }
    }
}

impl Node {
    /// Makes a node; refuses one that is too deep.
    pub(crate) fn new(kind: Kind, range: Range<usize>) -> Result<Self, ExpressionError> {
        let mut node = Self { kind, range, depth: 1 };
        let mut below = 0;
        node.each_child(&mut |child| below = below.max(child.depth));
        node.depth = below + 1;
        node.checked()
    }

    /// Puts an operator and its right operand behind this node; a row of equally binding operators stays one node.
    pub(crate) fn join(mut self, operator: Operator, right: Self) -> Result<Self, ExpressionError> {
        match &mut self.kind {
            Kind::Row(_, rest)
                if rest.first().is_some_and(|(other, _)| other.level() == operator.level()) =>
            {
                let (end, depth) = (right.range.end, right.depth + 1);
                rest.push((operator, right));
                self.grown(end, depth)
            }
            _ => {
                let range = self.range.start..right.range.end;
                Self::new(Kind::Row(Box::new(self), vec![(operator, right)]), range)
            }
        }
    }

    /// Puts `and right` behind this node.
    pub(crate) fn and(mut self, right: Self) -> Result<Self, ExpressionError> {
        match &mut self.kind {
            Kind::All(items) => {
                let (end, depth) = (right.range.end, right.depth + 1);
                items.push(right);
                self.grown(end, depth)
            }
            _ => {
                let range = self.range.start..right.range.end;
                Self::new(Kind::All(vec![self, right]), range)
            }
        }
    }

    /// Puts `or right` behind this node.
    pub(crate) fn or(mut self, right: Self) -> Result<Self, ExpressionError> {
        match &mut self.kind {
            Kind::Any(items) => {
                let (end, depth) = (right.range.end, right.depth + 1);
                items.push(right);
                self.grown(end, depth)
            }
            _ => {
                let range = self.range.start..right.range.end;
                Self::new(Kind::Any(vec![self, right]), range)
            }
        }
    }

    fn grown(mut self, end: usize, depth: usize) -> Result<Self, ExpressionError> {
        self.range.end = end;
        self.depth = self.depth.max(depth);
        self.checked()
    }

    fn checked(self) -> Result<Self, ExpressionError> {
        if self.depth > MAX_DEPTH {
            return Err(ExpressionError { kind: ExpressionErrorKind::TooDeep, range: self.range });
        }
        Ok(self)
    }

    /// Calls `see` with this node and all below it.
    pub(crate) fn visit(&self, see: &mut dyn FnMut(&Self)) {
        see(self);
        self.each_child(&mut |child| child.visit(see));
    }

    fn each_child(&self, see: &mut dyn FnMut(&Self)) {
        match &self.kind {
            Kind::Text(_) | Kind::Number(_) | Kind::Bool(_) | Kind::Variable(..) => {}
            Kind::Not(one) | Kind::Negate(one) => see(one),
            Kind::Index(one, two) | Kind::Compare(_, one, two) | Kind::Default(one, two) => {
                see(one);
                see(two);
            }
            Kind::List(items) | Kind::All(items) | Kind::Any(items) | Kind::Call(_, items) => {
                items.iter().for_each(see);
            }
            Kind::Row(first, rest) => {
                see(first);
                rest.iter().for_each(|(_, node)| see(node));
            }
            Kind::If { arms, otherwise } => {
                for arm in arms {
                    see(&arm.value);
                    see(&arm.condition);
                }
                see(otherwise);
            }
        }
    }
}
