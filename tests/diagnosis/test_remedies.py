"""A remedy is a call, or an argument: given as it says it, to a network that fails, it makes the finding go away."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import rheobase as rb
from diagnosis.patients import labels, linears, network, spikes, with_bias
from rheobase.diagnosis import Finding, Kind, doctor
from rheobase.surrogate import FastSigmoid, Triangular

CODE = re.compile(
    r"""rb\.\w+\(network.*?\)                                              # a call that changes the network
    | surrogate=rb\.surrogate\.\w+\(.*?\) | detach_recurrent=True | decay=[\d.]+  # an argument of its layers
    | batch\.transpose\(.*?\)\.contiguous\(\) | batch\ /\ \d+                 # another batch
    | labels\ -\ 1 | labels\.\w+\(\d*\)                                   # other labels
    """,
    re.VERBOSE,
)


class Patient(NamedTuple):
    """A network that fails on a batch, so that there is this finding."""

    kind: Kind
    make: Callable[..., nn.Module]
    batch: Tensor = spikes()
    labels: Tensor = labels()


def narrow_in(position: int, dampening: float) -> rb.Sequential:
    net = network(depth=4)
    net[position].surrogate = FastSigmoid(dampening=dampening)
    return net


def behind_a_hold(**options: Any) -> rb.Sequential:
    return rb.Sequential(rb.Hold(12), *network(gain=0.05, make=rb.SingleSpike, **options))


RECURRENT = partial(network, make=rb.RecurrentLIF)
PATIENTS = {
    "dead": Patient("dead", partial(with_bias, 1, -2.0)),
    "dead in the first layer": Patient("dead", partial(with_bias, 0, -2.0)),
    "high threshold": Patient("threshold out of reach", partial(network, threshold=40.0)),
    "dead single spikes": Patient("dead", partial(network, gain=0.05, make=rb.SingleSpike), spikes(12, rate=0.3)),
    "dead single spikes, held": Patient("dead", behind_a_hold, spikes(1, rate=0.3)),
    "single spikes out of reach": Patient("threshold out of reach", behind_a_hold, spikes(1, rate=0.3)),
    "saturated": Patient("saturated", partial(with_bias, 0, 5.0)),
    "exploding through depth": Patient(
        "exploding through depth", partial(network, depth=6, surrogate=FastSigmoid(dampening=3.0))
    ),
    "vanishing through depth": Patient(
        "vanishing through depth", partial(network, depth=6, surrogate=FastSigmoid(dampening=0.05))
    ),
    "vanishing in a layer": Patient("vanishing through depth", partial(narrow_in, 5, 1e-5)),
    "uneven": Patient("uneven through depth", partial(narrow_in, 1, 0.04)),
    "exploding through time": Patient(
        "exploding through time", partial(RECURRENT, surrogate=FastSigmoid(dampening=10.0))
    ),
    "overflowing": Patient(
        "exploding through time", partial(RECURRENT, surrogate=FastSigmoid(dampening=50.0)), spikes(100)
    ),
    "forgetful": Patient("vanishing through time", partial(network, decay=0.3, readout_decay=0.3), spikes(400)),
    "narrow surrogate": Patient("surrogate too narrow", partial(network, surrogate=Triangular(sharpness=300.0))),
    "batch first": Patient("wrong time axis", network, spikes().transpose(0, 1).contiguous()),
    "not scaled": Patient("input is too large", network, 255 * spikes()),
    "labels from 1": Patient("labels do not fit", network, labels=labels() + 1),
    "labels that are no numbers": Patient("labels do not fit", network, labels=labels().float()),
    "one-hot labels": Patient("labels do not fit", network, labels=functional.one_hot(labels())),
}


def of_kind(patient: Patient) -> list[Finding]:
    found = doctor(patient.make(), patient.batch, patient.labels).findings
    return [finding for finding in found if finding.kind == patient.kind]


def treated(patient: Patient, code: str) -> Patient:
    """The patient after what the code says."""
    names = {"rb": rb, "network": patient.make(), "batch": patient.batch, "labels": patient.labels}
    if code.startswith("batch"):
        return patient._replace(batch=eval(code, names))
    if code.startswith("labels"):
        return patient._replace(labels=eval(code, names))
    if code.startswith("rb."):
        eval(code, names)
        return patient._replace(make=lambda: names["network"])
    return patient._replace(make=partial(patient.make, **eval(f"dict({code})", names)))


@pytest.mark.parametrize("name", PATIENTS)
def test_what_a_remedy_says_helps(name: str) -> None:
    patient = PATIENTS[name]
    before = of_kind(patient)
    assert before
    said = list(dict.fromkeys(code for finding in before for code in CODE.findall(finding.remedy)))
    assert said, before
    for code in said:
        assert of_kind(treated(patient, code)) == [], code


@torch.no_grad()
def test_weights_by_hand_bring_a_threshold_into_reach() -> None:
    patient = PATIENTS["high threshold"]
    net, (finding,) = patient.make(), of_kind(patient)
    factor = re.search(r"by hand, weights ([\d.]+) times as large", finding.remedy)
    assert factor is not None
    linears(net)[0].weight *= float(factor[1])
    left = [found.layer for found in of_kind(patient._replace(make=lambda: net))]
    assert finding.layer not in left
