"""What a sweep varies: `FIELD=VALUES`, checked against the recipe's own settings before anything is trained.

    training.learning_rate=1e-4..1e-2,log     a range, drawn on a log scale
    dropout=0..0.3                            a range; of whole numbers where the setting is one
    schedule=cosine,constant                  a choice
    hidden=[128],[256,256]                    a choice of lists, in JSON

A name that only the recipe's training has refers to that: `learning_rate` is enough.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, get_args, get_type_hints

from rheobase.errors import RecipeError
from rheobase.recipes import Recipe
from rheobase.recipes.settings import build

_COMMA = re.compile(r",(?![^\[]*\])")  # one not inside brackets
_RANGE = re.compile(r"(?P<low>[^,]+?)\.\.(?P<high>[^,]+?)(?P<log>,log)?")


@dataclass(frozen=True)
class Axis:
    """One setting of a sweep, and the values that it may take.

    Args:
        field: the setting, `"training.learning_rate"`.
        choices: the values as written; empty for a range.
        low: the lower end of a range.
        high: its upper end, included.
        log: whether the range is drawn from on a log scale.
        whole: whether the values of the range are whole numbers.
    """

    field: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    def value(self, drawn: str | int | float) -> Any:
        """The setting's value, for a choice or a number of the range."""
        return _value(drawn) if isinstance(drawn, str) else drawn

    def __str__(self) -> str:
        if self.choices:
            return f"{self.field}={','.join(self.choices)}"
        return f"{self.field}={_exact(self.low)}..{_exact(self.high)}{',log' if self.log else ''}"


def _exact(end: float) -> str:
    """As short as it can be with all the digits that it has."""
    return next(text for digits in (6, 15, 17) if float(text := f"{end:.{digits}g}") == end)


def parse_axis(recipe: Recipe, text: str) -> Axis:
    """Parse `FIELD=VALUES`, and check that the recipe accepts every value.

    Args:
        recipe: the recipe to vary.
        text: as described in this module.

    Returns:
        The axis.

    Raises:
        RecipeError: if the recipe has no such setting, or a value does not fit it.

    Example:
        >>> from rheobase.recipes import SpokenDigits
        >>> parse_axis(SpokenDigits(), "learning_rate=1e-4..1e-2,log")
        Axis(field='training.learning_rate', choices=(), low=0.0001, high=0.01, log=True, whole=False)
        >>> parse_axis(SpokenDigits(), "hidden=[128],[256,256]").choices
        ('[128]', '[256,256]')
    """
    field, equals, values = text.partition("=")
    if not equals or not values:
        raise RecipeError(f"{text}: expected FIELD=VALUES, such as learning_rate=1e-4..1e-2,log or dropout=0,0.1,0.2")
    field = _full_name(recipe, field)
    if found := _RANGE.fullmatch(values):
        axis = _range(recipe, field, found)
    else:
        axis = Axis(field, choices=tuple(_COMMA.split(values)))
    for drawn in axis.choices or (axis.low, axis.high):
        with_settings(recipe, {field: axis.value(int(drawn) if axis.whole else drawn)})
    return axis


def _range(recipe: Recipe, field: str, found: re.Match[str]) -> Axis:
    try:
        low, high = float(found["low"]), float(found["high"])
    except ValueError as error:
        raise RecipeError(f"{field}={found.group()}: the ends of a range must be numbers: {error}") from error
    log = found["log"] is not None
    if not low < high or (log and not low > 0):
        kind = "0 < LOW < HIGH on a log scale" if log else "LOW < HIGH"
        raise RecipeError(f"{field}={found.group()}: expected {kind}, got {low:g} and {high:g}")
    whole = _is_whole(recipe, field)
    if whole and not (low.is_integer() and high.is_integer()):
        raise RecipeError(f"{field}={found.group()}: this setting is a whole number, so the ends must be, too")
    return Axis(field, low=low, high=high, log=log, whole=whole)


def _is_whole(recipe: Recipe, field: str) -> bool:
    """Whether a setting takes whole numbers: by its type, since its current value may be None."""
    kind: Any = type(recipe)
    for name in field.split("."):
        if not is_dataclass(kind):  # within a dictionary, whose values have no declared types
            return type(_leaves(asdict(recipe))[field]) is int
        kind = get_type_hints(kind)[name]
    kinds = get_args(kind) or (kind,)
    return int in kinds and float not in kinds


def with_settings(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with other settings, by their full names.

    Raises:
        RecipeError: if a setting is unknown, or its value has the wrong type or is out of range.

    Example:
        >>> from rheobase.recipes import SpokenDigits
        >>> with_settings(SpokenDigits(), {"training.epochs": 3, "hidden": [8]}).training.epochs
        3
    """
    settings = asdict(recipe)
    for field, value in changes.items():
        *path, name = field.split(".")
        group = settings
        for part in path:
            group = group[part]
        group[name] = value
    return build(type(recipe), settings)


def fixed_settings(recipe: Recipe, texts: tuple[str, ...]) -> Recipe:
    """The recipe with the settings `FIELD=VALUE`.

    Raises:
        RecipeError: as `parse_axis`.
    """
    changes = {}
    for text in texts:
        field, equals, value = text.partition("=")
        if not equals:
            raise RecipeError(f"{text}: expected FIELD=VALUE, such as epochs=5")
        changes[_full_name(recipe, field)] = _value(value)
    return with_settings(recipe, changes)


def _full_name(recipe: Recipe, name: str) -> str:
    known = _leaves(asdict(recipe))
    for full in (name, f"training.{name}"):
        if full in known:
            return full
    raise RecipeError(f"there is no setting {name}; known are {', '.join(known)}")


def _leaves(settings: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """All settings by their full names."""
    leaves: dict[str, Any] = {}
    for name, value in settings.items():
        leaves |= _leaves(value, f"{path}{name}.") if isinstance(value, dict) else {f"{path}{name}": value}
    return leaves


def _value(text: str) -> Any:
    """A value as in JSON, or a word without quotes."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
