"""Tests of the recipes, one file per source file."""
