"""Rheobase: train spiking neural networks that are alive from the first step."""
