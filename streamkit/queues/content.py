"""What a message may hold beside and in its body: attributes, ids, sizes, and the digests that AWS gives. Pure.

Follows "Amazon SQS message metadata" (Amazon SQS Developer Guide), ``MessageAttributeValue`` and ``SendMessage`` (API
Reference).
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from functools import cache

from streamkit.errors import ValidationError
from streamkit.queues.message import MessageAttribute

AttributeValue = str | int | float | Decimal | bytes | MessageAttribute
"""What users write for an attribute: text is a String, a number a Number, bytes a Binary."""

_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_RESERVED = ("aws.", "amazon.")
_MOST_NAME_CHARACTERS = 256
_MOST_TYPE_BYTES = 256
_MOST_DIGITS = 38
_LARGEST, _SMALLEST = Decimal(10) ** 126, -(Decimal(10) ** 128)
_MOST_ID_CHARACTERS = 128
_ID = frozenset(string.ascii_letters + string.digits + string.punctuation)
_PREFIX = re.compile(r"(.+)\.\*")
_ERROR_CHARACTERS = 1000


def attributes_of(values: Mapping[str, AttributeValue]) -> dict[str, MessageAttribute]:
    """Attributes as users write them.

    Raises:
        ValidationError: a value is of no kind that an attribute can have.
    """
    return {name: _attribute(name, value) for name, value in values.items()}


def _attribute(name: str, value: AttributeValue) -> MessageAttribute:
    if isinstance(value, MessageAttribute):
        return value
    if isinstance(value, str):
        return MessageAttribute("String", value)
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        return MessageAttribute("Number", str(value))
    if isinstance(value, bytes):
        return MessageAttribute("Binary", None, value)
    raise ValidationError(
        f"attribute {name!r} is a {type(value).__name__}: an attribute is text, a number, bytes or a MessageAttribute"
    )


def check_attributes(attributes: Mapping[str, MessageAttribute], *, most: int) -> None:
    """Refuse what AWS refuses.

    Raises:
        ValidationError: there are more than ``most``, or a name, type or value is not valid.
    """
    if len(attributes) > most:
        raise ValidationError(f"a message has at most {most} attributes, not {len(attributes)}")
    for name, attribute in attributes.items():
        _check_name(name)
        if not isinstance(attribute, MessageAttribute):
            raise ValidationError(f"attribute {name!r} is a {type(attribute).__name__} and not a MessageAttribute")
        _check_value(name, attribute)


def _check_name(name: str) -> None:
    if not isinstance(name, str) or len(name) > _MOST_NAME_CHARACTERS or not _NAME.fullmatch(name):
        raise ValidationError(
            f"attribute name {name!r:.80} is not valid: use 1 to 256 letters, digits, '_', '-' and single dots between"
        )
    if name.lower().startswith(_RESERVED):
        raise ValidationError(f"attribute name {name!r:.80} is reserved: names do not begin with 'AWS.' or 'Amazon.'")


def _check_value(name: str, attribute: MessageAttribute) -> None:
    data_type, text, binary = attribute.data_type, attribute.string_value, attribute.binary_value
    logical = data_type.partition(".")[0] if isinstance(data_type, str) else ""
    if logical not in ("String", "Number", "Binary") or data_type.endswith("."):
        raise ValidationError(
            f"attribute {name!r} has the type {data_type!r:.80}: use String, Number or Binary, maybe with '.label'"
        )
    if len(_utf8(data_type, f"the type of attribute {name!r}")) > _MOST_TYPE_BYTES:
        raise ValidationError(f"the type of attribute {name!r} has more than {_MOST_TYPE_BYTES} bytes")
    if logical == "Binary":
        if not isinstance(binary, bytes) or not binary or text is not None:
            raise ValidationError(f"attribute {name!r} is Binary: it has a binary_value of at least one byte, alone")
        return
    if not isinstance(text, str) or not text or binary is not None:
        raise ValidationError(f"attribute {name!r} is a {logical}: it has a string_value that is not empty, alone")
    check_text(text, f"attribute {name!r}")
    if logical == "Number":
        _check_number(name, text)


def _check_number(name: str, text: str) -> None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValidationError(f"attribute {name!r} is a Number and {text!r:.80} is none") from None
    if not number.is_finite():
        raise ValidationError(f"attribute {name!r} is a Number and {text!r:.80} is not finite")
    digits = "".join(map(str, number.as_tuple().digits)).strip("0")
    if len(digits) > _MOST_DIGITS or not _SMALLEST <= number <= _LARGEST:
        raise ValidationError(
            f"attribute {name!r} is a Number, which has {_MOST_DIGITS} digits at most and is -10^128 to 10^126"
        )


def check_trace_header(header: str | None) -> None:
    """AWSTraceHeader is text.

    Raises:
        ValidationError: this one is not.
    """
    if header is not None:
        if not isinstance(header, str) or not header:
            raise ValidationError(f"a trace header is text, not {header!r:.80}")
        check_text(header, "the trace header")


def check_text(text: str, what: str = "the body") -> None:
    """Text has only the characters that XML has, and a UTF-8 form. For bodies that are text, and attributes.

    Raises:
        ValidationError: it has others.
    """
    found = _forbidden_text().search(text)
    if found is not None:
        raise ValidationError(
            f"{what} has the character U+{ord(found[0]):04X} at {found.start()}, which no message may"
        )


@cache
def _forbidden_text() -> re.Pattern[str]:
    # Its table takes longer to make than the rest of this module, and who only looks at queues has no need of it.
    return re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def check_group_id(group_id: str) -> None:
    """A message group id is 1 to 128 letters, digits and punctuation, without spaces.

    Raises:
        ValidationError: this one is not.
    """
    _check_id("a message group id", group_id)


def check_deduplication_id(deduplication_id: str) -> None:
    """A deduplication id, and a receive's attempt id, are as a message group id is.

    Raises:
        ValidationError: this one is not.
    """
    _check_id("a deduplication or attempt id", deduplication_id)


def _check_id(what: str, text: str) -> None:
    if not isinstance(text, str) or not 1 <= len(text) <= _MOST_ID_CHARACTERS or not _ID.issuperset(text):
        raise ValidationError(f"{what} is 1 to 128 letters, digits and punctuation without spaces, not {text!r:.80}")


def size_of(body: bytes, attributes: Mapping[str, MessageAttribute]) -> int:
    """The bytes that count towards a message's limit: the body, and names, types and values of its attributes."""
    return len(body) + sum(
        len(name.encode()) + len(attribute.data_type.encode()) + len(_value(attribute))
        for name, attribute in attributes.items()
    )


# ---- digests


def md5_of_body(body: bytes) -> str:
    """MD5OfMessageBody, in lower-case hex."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def md5_of_attributes(attributes: Mapping[str, MessageAttribute]) -> str | None:
    """MD5OfMessageAttributes, in lower-case hex; None: there are none.

    In the order of their names: name and type, each with its length before it, a byte that says text or binary, and
    the value with its length ("Calculating the MD5 message digest for message attributes", Developer Guide).
    """
    if not attributes:
        return None
    digest = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes, key=str.encode):
        attribute = attributes[name]
        for part in (name.encode(), attribute.data_type.encode()):
            digest.update(len(part).to_bytes(4, "big") + part)
        value = _value(attribute)
        kind = b"\x02" if attribute.data_type.partition(".")[0] == "Binary" else b"\x01"
        digest.update(kind + len(value).to_bytes(4, "big") + value)
    return digest.hexdigest()


def selected(attributes: Mapping[str, MessageAttribute], names: Iterable[str]) -> dict[str, MessageAttribute]:
    """The attributes that a receive asks for: by name, ``All``, ``.*``, ``*``, ``prefix.*``. Others match nothing."""
    wanted = set(names)
    if wanted & {"All", ".*", "*"}:
        return dict(attributes)
    prefixes = tuple(found[1] + "." for name in wanted if (found := _PREFIX.fullmatch(name)))
    return {
        name: attribute
        for name, attribute in attributes.items()
        if name in wanted or (prefixes and name.startswith(prefixes))
    }


def _value(attribute: MessageAttribute) -> bytes:
    if attribute.binary_value is not None:
        return attribute.binary_value
    return (attribute.string_value or "").encode()


def _utf8(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValidationError(f"{what} has no UTF-8 form: {error}") from None


def storable_text(text: str) -> str:
    """What an error says, without what has no UTF-8 form, and not more of it than helps."""
    return str(text)[:_ERROR_CHARACTERS].encode(errors="replace").decode()
