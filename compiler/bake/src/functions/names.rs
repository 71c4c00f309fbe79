//! Names of files and targets, versions, and the home.

use super::{Call, Function, function, versions};
use crate::value::Value;

pub(super) const FUNCTIONS: &[Function] = &[
    function("basename", 1, 1, |call| Ok(Value::text(rb_path::base(&call.text(0)?)))),
    function("dirname", 1, 1, |call| Ok(Value::text(rb_path::directory(&call.text(0)?)))),
    function("homedir", 0, 0, |call: &Call<'_>| {
        call.outside.home().map(Value::Text).ok_or_else(|| "it is not known where the home is".to_owned())
    }),
    function("sanitize", 1, 1, |call| {
        let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
        Ok(Value::text(
            call.text(0)?.chars().map(|letter| if fits(letter) { letter } else { '_' }).collect::<String>(),
        ))
    }),
    function("semvercmp", 2, 2, |call| versions::satisfies(&call.text(0)?, &call.text(1)?).map(Value::Bool)),
];
