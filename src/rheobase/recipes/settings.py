"""A recipe from the settings stored by a run.

`config.json` may have been edited by hand or come from elsewhere, so every value is checked against the type of its field
before a recipe is made from it.
"""

import json
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from rheobase.errors import RecipeError
from rheobase.recipes.recipe import Recipe

T = TypeVar("T")


def build(kind: type[T], values: object, where: str = "") -> T:
    """An instance of the dataclass `kind` from the mapping `values`, as produced by `dataclasses.asdict` and JSON.

    Args:
        kind: a dataclass of numbers, strings, booleans, None, literals, tuples, dataclasses, and dictionaries, which are not
            inspected.
        values: a mapping from field names to values; an unnamed field keeps its default.
        where: the path to `values`, for messages.

    Raises:
        RecipeError: if a setting is unknown, or its value is not of the field's type or out of range.

    Example:
        >>> from rheobase.training import Training
        >>> build(Training, {"epochs": 3}).epochs
        3
    """
    group = where.rstrip(".") or kind.__name__
    if not isinstance(values, Mapping):
        raise RecipeError(f"setting {group} must be a group of settings, got {values!r}")
    hints = get_type_hints(kind)
    known = {field.name: hints[field.name] for field in fields(kind)}  # pyright: ignore[reportArgumentType]
    for name in values:
        if name not in known:
            raise RecipeError(f"there is no setting {where}{name}; known are {', '.join(known)}")
    try:
        return kind(**{name: _value(known[name], value, f"{where}{name}") for name, value in values.items()})
    except (TypeError, ValueError, OverflowError) as error:
        raise RecipeError(f"setting {group}: {error}") from error


def _value(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value, f"{where}.")
    origin, options = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        for option in options:
            try:
                return _value(option, value, where)
            except RecipeError:
                continue
    elif origin is Literal:
        if any(value == option and type(value) is type(option) for option in options):
            return value
    elif origin is tuple:
        if isinstance(value, list | tuple) and (options[1:] == (...,) or len(value) == len(options)):
            each = [options[0]] * len(value) if options[1:] == (...,) else options
            return tuple(_value(option, item, where) for option, item in zip(each, value, strict=True))
    elif origin is dict:
        if isinstance(value, dict):
            return value
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(hint, type) and isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    raise RecipeError(f"setting {where} must be {hint.__name__ if isinstance(hint, type) else hint}, got {value!r}")


def is_of(settings: object, recipe: Recipe) -> bool:
    """Whether `settings`, as stored in a run folder, a row of a study or the journal of a sweep, are those of `recipe`.

    A setting that did not exist yet when they were stored counts as its current default; the device does not count, since
    results do not depend on it.

    Example:
        >>> from dataclasses import asdict
        >>> from rheobase.recipes import Mnist
        >>> is_of({"hidden": [400, 400], "training": asdict(Mnist().training)}, Mnist()), is_of({"steps": 3}, Mnist())
        (True, False)
    """
    kept = _recipe(type(recipe), json.dumps(settings))
    return kept is not None and replace(kept, training=replace(kept.training, device=recipe.training.device)) == recipe


# A study reads all of its rows before each training, and checking their content takes seconds.
@cache
def _recipe(kind: type[Recipe], settings: str) -> Recipe | None:
    try:
        return build(kind, json.loads(settings))
    except RecipeError:
        return None
