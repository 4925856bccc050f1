"""multipart/form-data that is in memory already: files of one field, and the texts of all others.

The framework's own parser would write files of over a megabyte to a temporary folder, and know only one error.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.problems import TooManyImages, UnreadableBody

_MAX_FIELDS = 64
_MAX_FIELD_BYTES = 4096
_MAX_HEADER_BYTES = 4096


@dataclass(frozen=True)
class Form:
    """What a form said, in its order."""

    files: list[bytes] = field(default_factory=list)
    fields: list[tuple[str, str]] = field(default_factory=list)


def parse_form(body: bytes, content_type: str, *, file_field: str, max_files: int) -> Form:
    """Read a whole form. Raises UnreadableBody and TooManyImages."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise UnreadableBody("the form's content type has no boundary")
    reader = _Reader(file_field, max_files)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": reader.part_begins,
                "on_header_field": reader.header_name,
                "on_header_value": reader.header_value,
                "on_header_end": reader.header_ends,
                "on_part_data": reader.data,
                "on_part_end": reader.part_ends,
                "on_end": reader.form_ends,
            },
        )
        parser.write(body)
    except FormParserError as error:
        raise UnreadableBody(f"the form cannot be read: {error}") from error
    if not reader.ended:
        raise UnreadableBody("the form is cut short")
    return reader.form


class _Reader:
    """Collects the parser's events; each gives a stretch of the body."""

    def __init__(self, file_field: str, max_files: int) -> None:
        self.form = Form()
        self.ended = False
        self._file_field = file_field
        self._max_files = max_files
        self.part_begins()

    def part_begins(self) -> None:
        self._header, self._value, self._content = bytearray(), bytearray(), bytearray()
        self._name: str | None = None

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]
        self._bound(self._header, _MAX_HEADER_BYTES)

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._bound(self._value, _MAX_HEADER_BYTES)

    def header_ends(self) -> None:
        if self._header.lower() == b"content-disposition":
            name = parse_options_header(bytes(self._value))[1].get(b"name")
            self._name = None if name is None else name.decode("utf-8", "replace")
        self._header.clear()
        self._value.clear()

    def data(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]
        if self._name != self._file_field:
            self._bound(self._content, _MAX_FIELD_BYTES)

    def part_ends(self) -> None:
        if self._name is None:
            raise UnreadableBody("a part of the form has no name")
        if self._name == self._file_field:
            if len(self.form.files) == self._max_files:
                raise TooManyImages(f"at most {self._max_files} images are taken in one request")
            self.form.files.append(bytes(self._content))
            return
        if len(self.form.fields) == _MAX_FIELDS:
            raise UnreadableBody(f"the form has more than {_MAX_FIELDS} fields")
        try:
            self.form.fields.append((self._name, self._content.decode("utf-8")))
        except UnicodeDecodeError as error:
            raise UnreadableBody(f"the field {self._name[:64]!r} is not UTF-8") from error

    def form_ends(self) -> None:
        self.ended = True

    def _bound(self, content: bytearray, limit: int) -> None:
        if len(content) > limit:
            raise UnreadableBody("a header or a text field of the form is too long")
