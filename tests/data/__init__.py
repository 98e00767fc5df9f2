"""Tests of rheobase.data."""
