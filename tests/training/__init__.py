"""Tests of training, one file per source file."""
