"""What may be varied, and what is said to a slip."""

import pytest

from rheobase.errors import RecipeError
from rheobase.recipes import Mnist, SpokenDigits
from rheobase.sweep.space import Axis, fixed_settings, parse_axis, with_settings

RECIPE = SpokenDigits()


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("training.learning_rate=1e-4..1e-2,log", Axis("training.learning_rate", low=1e-4, high=1e-2, log=True)),
        ("dropout=0..0.5", Axis("dropout", low=0.0, high=0.5)),
        ("dropout=0..0", None),
        ("steps=10..40", Axis("steps", low=10.0, high=40.0, whole=True)),
        ("batch_size=16..256,log", Axis("training.batch_size", low=16.0, high=256.0, log=True, whole=True)),
        ("patience=3..10", Axis("training.patience", low=3.0, high=10.0, whole=True)),
        ("threshold_learning_rate=1..3", Axis("training.threshold_learning_rate", low=1.0, high=3.0)),
        ("schedule=cosine,constant", Axis("training.schedule", choices=("cosine", "constant"))),
        ("hidden=[8],[16, 16]", Axis("hidden", choices=("[8]", "[16, 16]"))),
        ("dropout=0,0.1", Axis("dropout", choices=("0", "0.1"))),
        ("holdout_speaker=null,theo", Axis("holdout_speaker", choices=("null", "theo"))),
    ],
)
def test_values_are_read(text: str, axis: Axis | None) -> None:
    if axis is None:
        with pytest.raises(RecipeError, match="expected LOW < HIGH, got 0 and 0"):
            parse_axis(RECIPE, text)
        return
    assert parse_axis(RECIPE, text) == axis
    assert parse_axis(RECIPE, str(axis)) == axis


def test_values_become_settings() -> None:
    assert parse_axis(RECIPE, "hidden=[8],[16,16]").value("[16,16]") == [16, 16]
    assert parse_axis(RECIPE, "holdout_speaker=null,theo").value("null") is None
    assert parse_axis(RECIPE, "edition=compact").value("compact") == "compact"
    recipe = with_settings(RECIPE, {"hidden": [16, 16], "training.schedule": "constant", "dropout": 0})
    assert (recipe.hidden, recipe.training.schedule, recipe.dropout) == ((16, 16), "constant", 0.0)
    assert recipe.training.epochs == RECIPE.training.epochs


def test_a_name_of_the_recipe_comes_before_one_of_training() -> None:
    assert parse_axis(Mnist(), "steps=5,10").field == "steps"
    assert parse_axis(Mnist(), "epochs=5,10").field == "training.epochs"
    assert fixed_settings(RECIPE, ("epochs=3", "training.seed=4", "hidden=[8]")).training.seed == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dropout", r"dropout: expected FIELD=VALUES, such as learning_rate=1e-4\.\.1e-2,log"),
        ("dropout=", "dropout=: expected FIELD=VALUES"),
        ("droput=0,1", "there is no setting droput; known are training.epochs, .* dropout, "),
        ("training=1,2", "there is no setting training; known are"),
        ("training.hidden=1,2", "there is no setting training.hidden"),
        ("hidden=[8],16", "setting hidden must be .*, got 16"),
        ("schedule=cosine,linear", "setting training.schedule must be .*, got 'linear'"),
        ("epochs=0,1", "epochs must be at least 1, got 0"),
        ("epochs=0..5", "epochs must be at least 1, got 0"),
        ("epochs=1..5.5", "this setting is a whole number, so the ends must be, too"),
        ("learning_rate=0..1,log", "expected 0 < LOW < HIGH on a log scale, got 0 and 1"),
        ("learning_rate=low..high", "the ends of a range must be numbers"),
        ("schedule=0..1", "setting training.schedule must be"),
    ],
)
def test_a_slip(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_axis(RECIPE, text)


def test_a_slip_in_what_is_fixed() -> None:
    with pytest.raises(RecipeError, match="epochs: expected FIELD=VALUE, such as epochs=5"):
        fixed_settings(RECIPE, ("epochs",))
    with pytest.raises(RecipeError, match="there is no setting epohcs"):
        fixed_settings(RECIPE, ("epohcs=3",))


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("learning_rate=0.00123456789..0.01", "training.learning_rate=0.00123456789..0.01"),
        ("learning_rate=1e-4..1e-2,log", "training.learning_rate=0.0001..0.01,log"),
        ("seed=1234567..12345678", "training.seed=1234567..12345678"),
        ("dropout=0..0.30000000000000004", "dropout=0..0.30000000000000004"),
    ],
)
def test_all_digits_of_a_range_are_written(text: str, written: str) -> None:
    assert str(parse_axis(RECIPE, text)) == written
