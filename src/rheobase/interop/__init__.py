"""Exchange of networks with other programs and chips: the Neuromorphic Intermediate Representation (NIR)."""

from rheobase.interop.from_nir import from_nir
from rheobase.interop.to_nir import to_nir, write_nir

__all__ = ["from_nir", "to_nir", "write_nir"]
