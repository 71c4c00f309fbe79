//! Sets.

use super::{Call, Function, MANY, function, not};
use crate::value::{Kind, Value, convert, unify};

pub(super) const FUNCTIONS: &[Function] = &[
    function("sethaselement", 2, 2, |call| {
        let Value::Set(kind, values) = call.converted(0, &Kind::Set(Box::new(Kind::Any)))? else {
            return Err(not(0, "a set"));
        };
        let value = convert(call.values[1].clone(), &kind).map_err(|why| format!("argument 2: {why}"))?;
        Ok(Value::Bool(values.contains(&value)))
    }),
    function("setintersection", 1, MANY, |call| {
        combined(call, |left, right| left.into_iter().filter(|value| right.contains(value)).collect())
    }),
    function("setproduct", 2, MANY, product),
    function("setsubtract", 2, 2, |call| {
        combined(call, |left, right| left.into_iter().filter(|value| !right.contains(value)).collect())
    }),
    function("setsymmetricdifference", 1, MANY, |call| {
        combined(call, |left, right| {
            let (same, mut all): (Vec<_>, Vec<_>) = left.into_iter().partition(|value| right.contains(value));
            all.extend(right.into_iter().filter(|value| !same.contains(value)));
            all
        })
    }),
    function("setunion", 1, MANY, |call| {
        combined(call, |mut left, right| {
            left.extend(right);
            left
        })
    }),
];

/// Combines all arguments, as sets of one type, from the first to the last.
fn combined(call: &Call<'_>, join: fn(Vec<Value>, Vec<Value>) -> Vec<Value>) -> Result<Value, String> {
    let any = Kind::Set(Box::new(Kind::Any));
    let sets = (0..call.values.len()).map(|at| call.converted(at, &any)).collect::<Result<Vec<_>, _>>()?;
    let kinds: Vec<_> = sets.iter().filter_map(|set| set.kind().element().cloned()).collect();
    let kind = unify(&kinds).ok_or("the sets must hold values of one type")?;
    let mut all: Option<Vec<Value>> = None;
    for set in sets {
        let Value::Set(_, values) = convert(set, &Kind::Set(Box::new(kind.clone())))? else { continue };
        all = Some(all.map_or_else(|| values.clone(), |all| join(all, values.clone())));
    }
    Ok(Value::set(kind, all.unwrap_or_default()))
}

/// So many combinations are made at most.
const MOST: usize = 100_000;

fn product(call: &Call<'_>) -> Result<Value, String> {
    let mut rows: Vec<Vec<Value>> = vec![Vec::new()];
    let mut kinds = Vec::new();
    let mut ordered = true;
    for at in 0..call.values.len() {
        ordered &= !matches!(call.get(at)?, Value::Set(..));
        let values = call.elements(at)?;
        let kind = unify(&values.iter().map(Value::kind).collect::<Vec<_>>());
        let kind = kind.ok_or_else(|| format!("argument {} must hold values of one type", at + 1))?;
        if rows.len().saturating_mul(values.len()) > MOST {
            return Err(format!("these are more than {MOST} combinations"));
        }
        let mut longer = Vec::new();
        for row in &rows {
            for value in values {
                let mut row = row.clone();
                row.push(convert(value.clone(), &kind)?);
                longer.push(row);
            }
        }
        rows = longer;
        kinds.push(kind);
    }
    let tuples = rows.into_iter().map(Value::Tuple).collect();
    let kind = Kind::Tuple(kinds);
    Ok(if ordered { Value::List(kind, tuples) } else { Value::set(kind, tuples) })
}
