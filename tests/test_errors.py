import pytest

from rheobase import errors

KINDS = (errors.DataError, errors.RunError, errors.RecipeError, errors.DivergenceError, errors.InteropError)


@pytest.mark.parametrize("kind", KINDS)
def test_one_except_clause_catches_them_all_and_no_bug(kind):
    assert issubclass(kind, errors.RheobaseError)
    # A wrong argument is a ValueError; what comes from outside must not be mistaken for one.
    assert not issubclass(kind, (ValueError, TypeError, OSError))
    assert str(kind("no such file")) == "no such file"


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_are_apart(kind):
    assert [other for other in KINDS if issubclass(kind, other)] == [kind]
