"""Settings from a file that anybody may have edited: taken as they are, or refused by name."""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheobase.errors import RecipeError
from rheobase.recipes import RECIPES, SpokenDigits
from rheobase.recipes.settings import build
from rheobase.training import Training


@dataclass(frozen=True)
class Inner:
    count: int = 1
    share: float = 0.5


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    word: Literal["a", "b", 1] = "a"
    maybe: int | None = None
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[int, float] = (1, 2.0)
    flag: bool = False
    name: str = ""


def as_json(settings: object) -> Any:
    return json.loads(json.dumps(asdict(settings)))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_comes_back_from_json(name: str) -> None:
    recipe = RECIPES[name].recipe
    assert build(type(recipe), as_json(recipe)) == recipe
    changed = replace(recipe, training=Training(epochs=2, patience=3, precision="bfloat16"))
    assert build(type(recipe), as_json(changed)) == changed


def test_what_is_not_named_keeps_its_default() -> None:
    assert build(Outer, {}) == Outer()
    assert build(Outer, {"inner": {"count": 3}}) == Outer(Inner(3))


def test_integers_are_numbers_for_floats_and_lists_are_tuples() -> None:
    found = build(Outer, {"inner": {"share": 1}, "sizes": [], "pair": [3, 4]})
    assert found == Outer(Inner(share=1.0), sizes=(), pair=(3, 4.0))
    assert type(found.inner.share) is type(found.pair[1]) is float


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"other": 1}, r"there is no setting other; known are inner, word, maybe, sizes, pair, flag, name"),
        ({"inner": {"cuont": 1}}, r"there is no setting inner\.cuont; known are count, share"),
        ({"inner": 3}, r"setting inner must be a group of settings, got 3"),
        ({"inner": None}, "group of settings, got None"),
        ({"inner": {"count": 1.0}}, r"setting inner\.count must be int, got 1\.0"),
        ({"inner": {"count": True}}, r"setting inner\.count must be int, got True"),
        ({"inner": {"share": "1"}}, r"setting inner\.share must be float, got '1'"),
        ({"inner": {"share": True}}, r"setting inner\.share must be float, got True"),
        ({"inner": {"share": 10**400}}, "too large"),
        ({"word": "c"}, "setting word must be .*'c'"),
        ({"word": True}, "setting word must be .*True"),
        ({"word": 1.0}, r"setting word must be .*1\.0"),
        ({"word": []}, r"setting word must be .*\[\]"),
        ({"maybe": "x"}, r"setting maybe must be int \| None, got 'x'"),
        ({"maybe": False}, "setting maybe must be .* got False"),
        ({"sizes": [1, "x"]}, "setting sizes must be int, got 'x'"),
        ({"sizes": "12"}, r"setting sizes must be .*, got '12'"),
        ({"sizes": 3}, r"setting sizes must be .*, got 3"),
        ({"pair": [1]}, r"setting pair must be .*, got \[1\]"),
        ({"pair": [1, 2, 3]}, r"setting pair must be"),
        ({"flag": 1}, "setting flag must be bool, got 1"),
        ({"name": None}, "setting name must be str, got None"),
        ([], r"setting Outer must be a group of settings, got \[\]"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(values: object, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build(Outer, values)


def test_a_value_out_of_range_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"setting training: epochs must be at least 1, got 0"):
        build(SpokenDigits, {"training": {"epochs": 0}})
    with pytest.raises(RecipeError, match="hidden must be at least 1 neuron"):
        build(SpokenDigits, {"hidden": [0]})


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400)])
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(data=st.data())
def test_anything_is_taken_or_refused(data: st.DataObject) -> None:
    # A correct configuration with a few values replaced, so that the deep parts are reached.
    values = as_json(SpokenDigits())
    for _ in range(data.draw(st.integers(1, 3))):
        group = values["training"] if data.draw(st.booleans()) and isinstance(values["training"], dict) else values
        group[data.draw(st.sampled_from([*group, "more"]))] = data.draw(JSON)
    try:
        recipe = build(SpokenDigits, values)
    except RecipeError as error:
        assert "setting" in str(error)  # noqa: PT017
        return
    assert build(SpokenDigits, json.loads(json.dumps(asdict(recipe)))) == recipe or "nan" in str(recipe)
