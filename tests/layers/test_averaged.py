import pytest
import torch

import rheobase as rb


def test_the_mean_over_draws_comes_closer_to_the_probability():
    rest = torch.zeros(20, 5, 10)
    for draws in (1, 100):
        spread = rb.NoiseAveraged(rb.SPSN(), draws)(rest).std().item()
        assert spread == pytest.approx(0.5 / draws**0.5, rel=0.1)


def test_it_is_the_mean_of_single_calls():
    layer, x = rb.SPSN(), torch.randn(9, 2, 3)
    torch.manual_seed(4)
    averaged = rb.NoiseAveraged(layer, 3)(x)
    torch.manual_seed(4)
    torch.testing.assert_close(averaged, (layer(x) + layer(x) + layer(x)) / 3)


def test_the_state_goes_on():
    layer, x = rb.NoiseAveraged(rb.Sequential(rb.SPSN()), 3), torch.randn(9, 2, 3)
    torch.manual_seed(4)
    whole = layer(x)
    torch.manual_seed(4)
    first, state = layer.run(x[:4])
    second, _ = layer.run(x[4:], state)
    assert torch.equal(torch.cat((first, second)), whole)


def test_no_draw_is_refused(as_a_user):
    with pytest.raises(ValueError, match="draws must be a whole number, at least 1, got 0"):
        rb.NoiseAveraged(rb.SPSN(), 0)
    with pytest.raises(ValueError, match=r"draws must be a whole number, at least 1, got 2\.5"):
        rb.NoiseAveraged(rb.SPSN(), 2.5)


def test_states_of_another_number_of_draws_are_refused(as_a_user):
    x = torch.randn(3, 2, 4)
    _, state = rb.NoiseAveraged(rb.SPSN(4), 2).run(x)
    with pytest.raises(
        ValueError, match="NoiseAveraged: state must be what run returned, 3 parts, got 2; None is rest"
    ):
        rb.NoiseAveraged(rb.SPSN(4), 3).run(x, state)


def test_a_layer_without_time_is_refused(as_a_user):
    with pytest.raises(TypeError, match=r"a rheobase.Temporal, got a Linear; put it into a rheobase.Sequential"):
        rb.NoiseAveraged(torch.nn.Linear(4, 4), 3)
