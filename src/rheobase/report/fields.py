"""The fields of JSON objects that are not trusted.

Each is read by its kind; a mismatch is a `RunError` that names the place, what was found and what was expected.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rheobase.errors import RunError


@dataclass(frozen=True)
class Fields:
    """A parsed JSON object that knows where it came from, so that an error can say so."""

    place: str
    values: dict[str, Any]

    @classmethod
    def of(cls, place: str, value: object) -> "Fields":
        """The value parsed at a place, if it is an object."""
        if not isinstance(value, dict):
            raise RunError(f"{place}: expected a JSON object, got {type(value).__name__}")
        return cls(place, value)

    def get(self, key: str, kind: type | tuple[type, ...], expected: str) -> Any:
        """A field that must exist and have a kind; `expected` describes that in words."""
        if key not in self.values:
            raise RunError(f"{self.place}: lacks the field {key!r} (expected {expected})")
        value = self.values[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise RunError(f"{self.place}: {key!r} should be {expected}, got {repr(value)[:60]}")
        return value

    def text(self, key: str) -> str:
        """Text."""
        return self.get(key, str, "text")

    def optional_text(self, key: str) -> str | None:
        """Text; None where the field is missing or null."""
        return None if self.values.get(key) is None else self.text(key)

    def table(self, key: str) -> dict[str, Any]:
        """An object whose fields are not inspected."""
        return self.get(key, dict, "an object")

    def sub(self, key: str) -> "Fields":
        """An object, for reading its fields."""
        return Fields(f"{self.place}, {key}", self.table(key))

    def each(self, key: str) -> Iterator["Fields"]:
        """The objects of a list, one by one."""
        for index, value in enumerate(self.get(key, list, "a list of objects")):
            yield Fields.of(f"{self.place}, {key}[{index}]", value)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of text."""
        values = self.get(key, list, "a list of text")
        if not all(isinstance(value, str) for value in values):
            raise RunError(f"{self.place}: {key!r} should be a list of text, got {repr(values)[:60]}")
        return tuple(values)

    def whole(self, key: str) -> int:
        """A whole number of at least 0, of 63 bits."""
        value = self.get(key, int, "a whole number of at least 0")
        if not 0 <= value < 2**63:
            raise RunError(f"{self.place}: {key!r} should be a whole number of at least 0, got {repr(value)[:60]}")
        return value

    def number(self, key: str) -> float:
        """A number; null and non-finite values become NaN."""
        value = self.get(key, (int, float, type(None)), "a number")
        try:
            value = math.nan if value is None else float(value)
        except OverflowError:
            value = math.inf
        return value if math.isfinite(value) else math.nan

    def fraction(self, key: str) -> float:
        """A number from 0 to 1, up to rounding; or NaN, as for `number`."""
        value = self.number(key)
        if value < -1e-6 or value > 1 + 1e-6:
            raise RunError(f"{self.place}: {key!r} should be a fraction between 0 and 1, got {value:g}")
        return value if math.isnan(value) else min(max(value, 0.0), 1.0)


def read_text(path: Path) -> str:
    """The text of a file; `RunError` if there is none."""
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{path}: damaged, expected UTF-8 text ({error.reason} at byte {error.start})") from error


def parse(place: str, text: str) -> Fields:
    """The JSON object in `text`; `RunError` if it is not one, with the `place` that it came from."""
    try:
        return Fields.of(place, json.loads(text))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{place}: damaged, expected a JSON object ({error})") from error
