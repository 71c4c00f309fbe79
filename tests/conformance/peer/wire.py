"""BuildKit's golden definitions, led to an image that is at hand.

In: a marshalled definition. Out: the same, whose images are those of a layout that is lent; digests follow. Of the format only
what that takes is known: `pb.Definition` is operations (1) and metadata by digest (2), an operation has inputs (1) and may be a
source (3), that has an identifier (1) and attributes (2).
"""

import hashlib


def varint(data: bytes, at: int) -> tuple:
    value = shift = 0
    while True:
        byte = data[at]
        at, value, shift = at + 1, value | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            return value, at


def number(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def fields(data: bytes) -> list:
    """Takes a message apart: (number, wire type, value)."""
    at, found = 0, []
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        elif key & 7 == 2:
            length, at = varint(data, at)
            value, at = data[at : at + length], at + length
        else:
            raise ValueError(f"wire type {key & 7}")
        found.append((key >> 3, key & 7, value))
    return found


def message(found: list) -> bytes:
    """Puts one together."""
    out = bytearray()
    for field, kind, value in found:
        out += number(field << 3 | kind)
        out += number(value) if kind == 0 else number(len(value)) + value
    return bytes(out)


def retarget(definition: bytes, store: str, digest: str) -> bytes:
    """Leads all images to the one in the layout `store`."""
    identifier = f"oci-layout://rb/{store}@{digest}".encode()
    renamed, out = {}, []

    def operation(data: bytes) -> bytes:
        changed = []
        for field, kind, value in fields(data):
            if field == 1:
                value = message([(f, k, renamed[v] if f == 1 else v) for f, k, v in fields(value)])
            elif field == 3:
                value = source(value)
            changed.append((field, kind, value))
        return message(changed)

    def source(data: bytes) -> bytes:
        found = fields(data)
        scheme = next((value for field, _, value in found if field == 1), b"").split(b"://")[0]
        if scheme not in (b"docker-image", b"oci-layout"):
            return data
        return message([(1, 2, identifier), (2, 2, message([(1, 2, b"oci.store"), (2, 2, store.encode())]))])

    for field, kind, value in fields(definition):
        if field == 1:
            new = operation(value)
            renamed[b"sha256:" + hashlib.sha256(value).hexdigest().encode()] = (
                b"sha256:" + hashlib.sha256(new).hexdigest().encode()
            )
            value = new
        elif field == 2:
            value = message([(f, k, renamed.get(v, v) if f == 1 else v) for f, k, v in fields(value)])
        out.append((field, kind, value))
    return message(out)
