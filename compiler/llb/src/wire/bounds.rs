//! How much a message may hold. Decoding turns two bytes into a struct of hundreds, so lists are counted on the
//! raw bytes first; malformed bytes pass here and fail in the decoder.

use crate::LlbError;

/// Longest definition. Engines take 16 MiB in one message; twice that is for files.
pub(crate) const MAX_DEFINITION_BYTES: usize = 32 << 20;
/// Most fields of one message that has lists.
const MAX_FIELDS: usize = 1 << 16;
/// Longest chain of inputs.
pub(crate) const MAX_DEPTH: usize = 1 << 14;

const BYTES: u64 = 2;

/// Checks the lists of a definition, but not of its ops.
pub(super) fn check_definition(bytes: &[u8]) -> Result<(), LlbError> {
    if bytes.len() > MAX_DEFINITION_BYTES {
        let (actual, limit) = (bytes.len(), MAX_DEFINITION_BYTES);
        return Err(LlbError::TooLarge { what: "definition in bytes", actual, limit });
    }
    each(bytes, "definition", |number, body| match number {
        2 => each(body, "metadata entry", |_, meta| each(meta, "metadata", |_, _| Ok(()))),
        3 => each(body, "source mapping", |number, entry| match number {
            1 => each(entry, "locations entry", |_, locations| {
                each(locations, "locations", |_, location| each(location, "location", |_, _| Ok(())))
            }),
            _ => Ok(()),
        }),
        _ => Ok(()),
    })
}

/// Checks the lists of an op.
pub(super) fn check_op(bytes: &[u8]) -> Result<(), LlbError> {
    each(bytes, "operation", |number, body| match number {
        2 => each(body, "exec operation", |number, meta| match number {
            1 => each(meta, "process of an exec operation", |_, _| Ok(())),
            _ => Ok(()),
        }),
        4 => each(body, "file operation", |_, action| {
            each(action, "file action", |number, copy| match number {
                4 => each(copy, "copy action", |_, _| Ok(())),
                _ => Ok(()),
            })
        }),
        3 | 5..=8 => each(body, "operation", |_, _| Ok(())),
        _ => Ok(()),
    })
}

/// Calls `inner` with number and content of each length-delimited field, and counts fields of all types.
fn each(
    mut bytes: &[u8],
    what: &'static str,
    mut inner: impl FnMut(u64, &[u8]) -> Result<(), LlbError>,
) -> Result<(), LlbError> {
    let mut count = 0;
    while let Some((number, content, rest)) = field(bytes) {
        count += 1;
        if count > MAX_FIELDS {
            return Err(LlbError::TooLarge { what, actual: count, limit: MAX_FIELDS });
        }
        if let Some(content) = content {
            inner(number, content)?;
        }
        bytes = rest;
    }
    Ok(())
}

/// A field's number, its content if length-delimited, and what follows it.
type Field<'a> = (u64, Option<&'a [u8]>, &'a [u8]);

/// Splits one field off.
fn field(bytes: &[u8]) -> Option<Field<'_>> {
    let (tag, rest) = varint(bytes)?;
    let (number, kind) = (tag >> 3, tag & 7);
    match kind {
        0 => Some((number, None, varint(rest)?.1)),
        1 => Some((number, None, rest.get(8..)?)),
        BYTES => {
            let (length, rest) = varint(rest)?;
            let (content, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            Some((number, Some(content), rest))
        }
        5 => Some((number, None, rest.get(4..)?)),
        // Groups are in none of our messages; the decoder bounds their nesting.
        _ => Some((number, None, rest)),
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(7 * at as u32)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_empty_messages_is_counted_before_it_is_decoded() {
        let empty_input = [0x0a, 0];
        assert_eq!(check_op(&empty_input.repeat(MAX_FIELDS)), Ok(()));
        let error = check_op(&empty_input.repeat(MAX_FIELDS + 1)).unwrap_err();
        assert!(matches!(error, LlbError::TooLarge { what: "operation", .. }), "{error:?}");
    }

    #[test]
    fn lists_inside_an_op_are_counted_too() {
        let mounts = [0x12, 0].repeat(MAX_FIELDS + 1);
        let mut op = vec![0x12];
        prost::encoding::encode_varint(mounts.len() as u64, &mut op);
        op.extend(mounts);
        assert!(matches!(check_op(&op), Err(LlbError::TooLarge { what: "exec operation", .. })));
    }

    #[test]
    fn malformed_bytes_are_left_to_the_decoder() {
        for bytes in [&[0xff; 20][..], &[0x0a], &[0x0a, 5, 1], &[0x09, 1], &[0x0d]] {
            assert_eq!(check_op(bytes), Ok(()));
            assert_eq!(check_definition(bytes), Ok(()));
        }
    }
}
